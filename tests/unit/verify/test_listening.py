"""Who listens where no flow says so, whatever it calls itself and however high its port is: H1, and integrity alike."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from mastio import services
from mastio.flows import POLICY, Party
from mastio.integrity import facts
from mastio.site.model import Role
from mastio.verify.checks import host as checks
from mastio.verify.listening import HOLDERS, listening, usurping
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage
from tests.unit.verify.fakes import Here, vantage


@contextmanager
def ear() -> Iterator[socket.socket]:
    """A UDP socket that anybody may send to, on a port that the kernel gives to clients."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 0))
        yield one


def heard(one: socket.socket, *, declared: bool = False) -> bool:
    port = one.getsockname()[1]
    known: list[list[object]] = [["udp", "0.0.0.0", port]] if declared else []
    return ["udp", "0.0.0.0", port] in [it[:3] for it in host.listeners(known)]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_REPLY", 1.5)


def test_what_stays_open_listens_however_high_its_port() -> None:
    with ear() as one:
        assert one.getsockname()[1] >= 32768
        assert heard(one)


def test_a_client_that_waits_for_a_reply_does_not() -> None:
    with ear() as one:
        Timer(1.5, one.close).start()
        assert not heard(one) and one.fileno() == -1
    with ear() as one:
        one.connect(("127.0.0.1", 9))
        assert not heard(one)


def test_what_a_flow_declares_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_REPLY", 60.0)
    monkeypatch.setattr(host, "_sockets", lambda: {("udp", "0.0.0.0", 51820): {"0"}})
    begin = time.monotonic()
    assert host.listeners([["udp", "0.0.0.0", 51820]]) == [["udp", "0.0.0.0", 51820, "?", [""]]]
    assert time.monotonic() - begin < 10


_OWN: dict[object, str] = {
    22: "/usr/sbin/sshd", 25: "/usr/lib/postfix/sbin/postscreen", 587: "/usr/lib/postfix/sbin/smtpd",
    11334: "/usr/bin/stunnel4",
}  # fmt: skip
"""What listens on a gateway's ports."""


def looked(
    monkeypatch: pytest.MonkeyPatch, *more: list[object], others: dict[object, list[str]] | None = None
) -> tuple[list[str], list[str]]:  # fmt: skip
    """What H1 and integrity say of a gateway on which `more` listens beside what is declared, and `others` at some
    ports."""

    def ask(self: Vantage, function: Any, declared: list[list[object]]) -> list[list[object]]:
        assert function is host.listeners
        have = {port: [file] for port, file in _OWN.items()} | (others or {})
        return [*([*it, "its own", have[it[2]]] for it in declared), *more]

    monkeypatch.setattr(Vantage, "ask", ask)
    gateway = vantage("gateway", Here())
    heard = listening(gateway)
    return list(checks.only_declared(gateway)), facts.listeners(heard.undeclared, heard.usurped)


def test_no_name_and_no_port_excuses_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch) == ([], [])
    for program, port in (("unbound", 5353), ("chronyd", 40000)):
        verified, measured = looked(monkeypatch, ["udp", "0.0.0.0", port, program, ["/x"]])
        assert verified == [
            f"gateway: {program} listens on 0.0.0.0 {port}/udp, which no flow declares"
        ]
        assert measured == [f"udp 0.0.0.0 port {port} ({program})"]


def test_what_should_listen_and_does_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vantage, "ask", lambda *_: [])
    found = list(checks.only_declared(vantage("gateway", Here())))
    assert "gateway: nobody listens on 10.77.1.10 25/tcp, as the flow matrix says" in found


_PYTHON = "/usr/bin/python3.13"


@pytest.mark.parametrize(
    ("files", "who"),
    [
        ([_PYTHON], _PYTHON),
        (["/usr/lib/postfix/sbin/master", _PYTHON], _PYTHON),
        (["another file than /usr/lib/postfix/sbin/master"], "another file than /usr/lib/postfix/sbin/master"),
        (["/tmp/usr/lib/postfix/sbin/master"], "/tmp/usr/lib/postfix/sbin/master"),
        ([""], "no program that can be seen"),
    ],
)  # fmt: skip
def test_who_has_a_declared_door_instead_of_whom_is_told(
    monkeypatch: pytest.MonkeyPatch, files: list[str], who: str
) -> None:
    verified, measured = looked(monkeypatch, others={25: files})
    words = f"held by {who}, not /usr/lib/postfix/sbin/*"
    assert f"gateway: 10.77.1.10 25/tcp is {words}" in verified and len(verified) == 2
    assert f"tcp 10.77.1.10 port 25 ({words})" in measured and len(measured) == 2


def test_a_daemon_and_its_children_share_a_door(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [f"/usr/lib/postfix/sbin/{it}" for it in ("master", "smtpd")]
    assert looked(monkeypatch, others={25: files, 587: files}) == ([], [])


def test_an_answer_that_does_not_say_who_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ([], "x", None):
        with pytest.raises(ValueError, match="does not say who listens"):
            looked(monkeypatch, others={25: wrong})  # type: ignore[dict-item]


def test_what_has_no_program_is_the_kernels_or_wrong() -> None:
    assert usurping([""], HOLDERS[services.WIREGUARD]) == ""
    assert usurping([_PYTHON], HOLDERS[services.WIREGUARD]) == (
        f"{_PYTHON}, not the kernel or /usr/bin/wireguard-go"
    )


def test_whoever_a_flow_leads_to_has_a_program_that_may_be_there() -> None:
    led = {
        it.service for it in POLICY if isinstance(it.target, Role) or it.target is Party.EVERYONE
    }
    assert led == HOLDERS.keys()


def _programs_at(port: int) -> list[object]:
    (row,) = (it for it in host.listeners([]) if it[2] == port)
    return row[3:]


def test_all_who_share_a_place_are_named(tmp_path: Path) -> None:
    """A program may call itself as it likes, and be deleted."""
    copy = tmp_path / "sleeping"
    shutil.copy(shutil.which("sleep") or "", copy)
    with socket.socket() as one, socket.socket() as other:
        for it in (one, other):
            it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("0.0.0.0", 0))
        other.bind(one.getsockname())
        for it in (one, other):
            it.listen()
        handle = other.fileno()
        with subprocess.Popen([copy, "60"], pass_fds=[handle]) as child:
            try:
                other.close()
                copy.unlink()
                ours = os.path.realpath("/proc/self/exe")
                _, files = _programs_at(one.getsockname()[1])
                assert files == sorted([ours, str(copy)])
            finally:
                child.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_path_that_only_the_program_itself_sees_is_not_its_own(tmp_path: Path) -> None:
    """As a listener could call itself by the path of the one whose place it has."""
    place, own = tmp_path / "daemon", tmp_path / "own"
    for it in (place, own):
        shutil.copy(shutil.which("sleep") or "", it)
    script = f"mount --bind {own} {place}; exec {place} 60"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script]
    for command, words in (([str(place), "60"], ""), (argv, "another file than ")):
        with subprocess.Popen(command) as one:
            try:
                end = time.monotonic() + 20
                while (at := Path(f"/proc/{one.pid}/exe").readlink()) != place:
                    assert time.monotonic() < end, at
                    time.sleep(0.05)
                assert host._file(f"/proc/{one.pid}") == f"{words}{place}"
            finally:
                one.kill()
