"""The reader, as watch runs it: which lines, in which order, from packed files too, and until the end."""

import gzip
import json
import re
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mastio.logs import reader
from mastio.transport import BOOT, parcel

SOURCE = Path(reader.__file__).read_text()
DAY = time.strftime("%Y-%m-%d")
LINES = Path(__file__).parent.parent / "trace" / "lines"


def stamp(second: int) -> str:
    return f"{DAY}T00:00:{second:02}.000000{time.strftime('%z')[:3]}:00"


def line(machine: str, second: int, text: str) -> str:
    return f"{stamp(second)} {machine} {stamp(second)} user.info test: {text}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for machine, seconds in (("gateway", (1, 3, 5)), ("store", (2, 4, 6))):
        (tmp_path / machine).mkdir()
        text = "".join(line(machine, it, f"word {it}") for it in seconds)
        (tmp_path / machine / f"{DAY}.log").write_text(text)
    return tmp_path


def start(folder: Path, **asked: Any) -> "subprocess.Popen[bytes]":
    asked = {"folder": str(folder), "machines": ["gateway", "store"], "since": 0, "grep": [],
             "follow": False, **asked}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(parcel(SOURCE, json.dumps(asked).encode()))
    process.stdin.flush()
    return process


def read(folder: Path, **asked: Any) -> list[str]:
    out, err = start(folder, **asked).communicate(timeout=20)
    assert not err, err.decode()
    return out.decode().splitlines()


def words(lines: list[str]) -> list[str]:
    return [it.rpartition(" ")[2] for it in lines]


def test_all_machines_in_the_order_of_arrival(folder: Path) -> None:
    assert words(read(folder)) == ["1", "2", "3", "4", "5", "6"]


def test_one_machine_one_word(folder: Path) -> None:
    assert words(read(folder, machines=["store"])) == ["2", "4", "6"]
    assert words(read(folder, grep=["user.info", "word 5"])) == ["5"]
    assert read(folder, grep=["no such word"]) == []


def test_since(folder: Path) -> None:
    assert words(read(folder, since=reader.moment(stamp(4).encode()))) == ["4", "5", "6"]


def test_since_in_a_large_file(tmp_path: Path) -> None:
    """The beginning is found by halving, not by reading."""
    (tmp_path / "gateway").mkdir()
    with (tmp_path / "gateway" / f"{DAY}.log").open("w") as file:
        for minute in range(60):
            at = stamp(0).replace("00:00:00", f"00:{minute:02}:00")
            file.writelines(
                f"{at} gateway {at} user.info test: {minute} {it}\n" for it in range(200)
            )
    at = reader.moment(stamp(0).replace("00:00:00", "00:58:00").encode())
    lines = read(tmp_path, since=at)
    assert len(lines) == 400
    assert "test: 58 0" in lines[0]


def test_packed_days_are_read_too(folder: Path) -> None:
    path = folder / "gateway" / f"{DAY}.log"
    path.with_name(f"{DAY}.log.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert words(read(folder)) == ["1", "2", "3", "4", "5", "6"]


def test_an_unfinished_line_waits(folder: Path) -> None:
    path = folder / "gateway" / f"{DAY}.log"
    with path.open("a") as file:
        file.write(line("gateway", 7, "half")[:-3])
    assert words(read(folder)) == ["1", "2", "3", "4", "5", "6"]


def test_it_follows_until_whoever_asked_has_gone(folder: Path) -> None:
    process = start(folder, follow=True, since=reader.moment(stamp(6).encode()))
    assert process.stdout and process.stdin
    assert b"word 6" in process.stdout.readline()
    with (folder / "gateway" / f"{DAY}.log").open("a") as file:
        file.write(line("gateway", 7, "seven")[:-4])
        file.flush()
        time.sleep(0.4)
        file.write("ven\n")
    assert b"test: seven\n" in process.stdout.readline()
    with (folder / "store" / f"{DAY}.log").open("a") as file:
        file.write(line("store", 8, "eight"))
    assert b"test: eight\n" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(timeout=5) == 0
    process.stdout.close()
    assert process.stderr and not process.stderr.read()
    process.stderr.close()


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    """All real lines of the lab, by machine."""
    for path in LINES.glob("*.log"):
        for text in path.read_text().splitlines(keepends=True):
            machine = text.split()[1]
            (tmp_path / machine).mkdir(exist_ok=True)
            with (tmp_path / machine / "2026-11-24.log").open("a") as file:
                file.write(text)
    return tmp_path


@pytest.mark.parametrize(
    ("client", "hours", "told"),
    [
        ("2001:db8:113::/64", 1, True),
        ("2001:db8:113::/64", 7, False),
        ("2001:db8:113::/64", -1, False),
        ("2001:db8:113:1::/64", 1, False),
    ],
)
def test_a_ban_of_the_client_shortly_before_is_found(
    traced: Path, client: str, hours: int, told: bool
) -> None:
    text = (LINES / "delivered.log").read_text()
    (came,) = re.findall(r"(\S+) mail.info postfix/smtpd\[\d+\]: \S+: client=mx.outside", text)
    at = (datetime.fromisoformat(came) - timedelta(hours=hours)).isoformat(timespec="microseconds")
    ban = f"{at} watch {at} daemon.info mastio-offences[7]: banned {client} for 3600 seconds: SMTP abuse"
    (traced / "watch").mkdir(exist_ok=True)
    with (traced / "watch" / "2026-11-24.log").open("a") as file:
        file.write(ban + "\n")
    message = re.findall(r"message-id=(<\S+>)", text)[0]
    found = read(traced, machines=["gateway", "store", "watch"], trace=message, most=20)
    assert (ban in found) is told and len(found) > 3


def test_of_a_clients_connections_the_one_by_which_it_came_is_found(traced: Path) -> None:
    """And of all that leaves, what went to the server that took the message."""
    path = traced / "firewall" / "2026-11-24.log"
    came, left = (
        next(it for it in path.read_text().splitlines() if word in it)
        for word in ("SPT=43489", "OUT=internet")
    )
    others = [came.replace("SPT=43489", f"SPT={it}") for it in range(43490, 43500)]
    others += [left.replace("DPT=25", "DPT=587"), left.replace("22:17:58", "21:17:58")]
    others += [left.replace("DST=203.0.113.100", "DST=203.0.113.101")]
    path.write_text("".join(f"{it}\n" for it in (*others, came, left)))

    def passed(name: str, **asked: Any) -> list[str]:
        message = re.findall(r"message-id=(<\S+>)", (LINES / f"{name}.log").read_text())[0]
        machines = ["firewall", "gateway", "store"]
        found = read(traced, machines=machines, trace=message, most=20, **asked)
        return [it for it in found if " ulogd[" in it]

    assert passed("delivered") == [came]
    assert passed("sent") == [left]
    assert passed("sent", own=["203.0.113.100"]) == [], "a machine of the site"


def test_what_a_ban_is_called() -> None:
    assert reader.banned(b"203.0.113.7") == [b"203.0.113.7/32"]
    assert reader.banned(b"2001:db8:7::7") == [b"2001:db8:7::7/128", b"2001:db8:7::/64"]
    assert reader.banned(b"unknown:") == []


@pytest.mark.parametrize("name", ["delivered", "greylisted", "bounced", "full", "held", "webmail"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_a_message_is_followed(traced: Path, name: str, packed: bool) -> None:
    if packed:
        for path in traced.glob("*/*.log"):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    whole = (LINES / f"{name}.log").read_text().splitlines()
    message = next(it for it in whole if "message-id=" in it).rpartition("message-id=")[2]
    queue = next(it for it in whole if "message-id=" in it).split()[5].rstrip(":")
    for asked in (message, queue):
        machines = ["firewall", "gateway", "store", "webmail"]
        assert set(read(traced, machines=machines, trace=asked, most=20)) == set(whole)


def test_an_address_names_its_newest_messages(traced: Path) -> None:
    few = start(traced, trace="carol@outside.test", most=2)
    out, err = few.communicate(timeout=20)
    assert b"left out" in err
    ids = {
        it.rpartition("message-id=")[2] for it in out.decode().splitlines() if "message-id=<" in it
    }
    assert len(ids) == 2
    assert read(traced, trace="nobody@nowhere.test", most=20) == []


def test_its_memory_does_not_grow_with_the_logs(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    with (tmp_path / "gateway" / f"{DAY}.log").open("w") as file:
        for _ in range(40):
            file.write("".join(line("gateway", 1, f"word {'x' * 150}") for _ in range(4000)))
    process = start(tmp_path)
    with process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        size = 0
        while data := process.stdout.read(1 << 20):
            size += len(data)
            status = (
                Path(f"/proc/{process.pid}/status").read_text() if process.poll() is None else ""
            )
            for it in status.splitlines():
                if it.startswith("VmRSS"):
                    assert int(it.split()[1]) < 40_000
        process.stdin.close()
    assert size > 30_000_000
    assert process.returncode == 0


def test_a_packed_day_that_was_damaged_is_told_and_the_others_are_read(folder: Path) -> None:
    path = folder / "gateway" / f"{DAY}.log"
    many = "".join(line("gateway", 0, f"word {it}") for it in range(30_000))
    packed = gzip.compress(many.encode())
    path.unlink()
    path.with_name(f"{DAY}.log.gz").write_bytes(packed[: len(packed) // 2])
    out, err = start(folder).communicate(timeout=20)
    assert err.decode().startswith(f"damaged {path}.gz: ") and err.count(b"\n") == 1
    told = words(out.decode().splitlines())
    assert told[:2] == ["0", "1"] and 100 < len(told) < 30_003
    assert told[-3:] == ["2", "4", "6"]
