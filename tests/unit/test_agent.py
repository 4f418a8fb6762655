"""The agent's parts that need no root: looking, putting, the journal, packing, redaction.

What it does to a whole machine is tested on one, in tests/lab/test_engine.py.
"""

import getpass
import grp
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mastio.agent import apply, bundle, firewall, journal, machine, observe
from mastio.agent.wire import Listen, Look, Order, Put
from mastio.order import order
from mastio.plan import _seen_fingerprint as seen_fingerprint
from mastio.plan import absent, diff, fingerprint
from mastio.state import File, HostState
from tests.simulated import asked, blank

ME, GROUP = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name


def put(path: Path, kind: str, content: str = "", mode: int = 0o640, target: str = "") -> Put:
    return Put(
        path=str(path), kind=kind, owner=ME, group=GROUP, mode=mode, content=content,
        target=target, secret=False,
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The agent's own directory, elsewhere."""
    for module in (machine, journal):
        monkeypatch.setattr(module, "JOURNAL", str(tmp_path / "home/journal.json"))
        monkeypatch.setattr(module, "ROLLBACK", str(tmp_path / "home/rollback"))
    monkeypatch.setattr(machine, "HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machine, "RECORD", str(tmp_path / "home/record.json"))
    machine.make_home()
    return tmp_path


def test_what_is_put_is_what_is_seen(tmp_path: Path) -> None:
    items = (
        put(tmp_path / "d", "directory", mode=0o750),
        put(tmp_path / "d/deep/er/f", "file", "text\n", 0o604),
        put(tmp_path / "d/l", "link", target="f") | {"owner": "", "group": "", "mode": 0},
    )
    for item in items:
        for _ in "twice":
            machine.put(item)
            assert seen_fingerprint(machine.look(item["path"])) == fingerprint(item)
    machine.put(put(tmp_path / "d/l", "file", "now a file"))
    assert machine.look(str(tmp_path / "d/l"))["kind"] == "file"
    assert not list(tmp_path.rglob(f"*{machine.SUFFIX}"))


def test_removing_spares_a_directory_in_use(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/theirs").touch()
    for name in ("d", "missing", "d/theirs/below"):
        machine.put(absent(str(tmp_path / name)))
    assert (tmp_path / "d/theirs").exists()


def test_an_impossible_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(machine.Failure, match=r"f/x: (File exists|Not a directory)"):
        machine.put(put(tmp_path / "f/x", "file"))
    (tmp_path / "d/theirs").mkdir(parents=True)
    with pytest.raises(machine.Failure, match="d: Directory not empty"):
        machine.put(put(tmp_path / "d", "file"))
    with pytest.raises(machine.Failure, match="nobody-of-that-name"):
        machine.put(put(tmp_path / "g", "file") | {"owner": "nobody-of-that-name"})


def test_content_is_sent_only_when_it_differs_and_is_text(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("text")
    same = machine.look(str(file))["digest"]
    assert machine.look(str(file), "0" * 64)["content"] == "text"
    assert machine.look(str(file), same)["content"] is None
    assert machine.look(str(file), "secret")["content"] is None
    file.write_bytes(b"\xff\xfe")
    assert machine.look(str(file), "0" * 64)["content"] is None


def work(*puts: Put) -> Order:
    """An order that only puts paths."""
    state = HostState()
    seen = asked(blank(), state)
    return {**order(state, seen, diff(state, seen)), "puts": list(puts)}


def test_the_journal_brings_everything_back(home: Path) -> None:
    (home / "f").write_text("before")
    (home / "f").chmod(0o604)
    (home / "l").symlink_to("f")
    (home / "d").mkdir(mode=0o700)
    puts = (
        put(home / "f", "file", "after"),
        put(home / "l", "file", "after"),
        absent(str(home / "d")),
        put(home / "new/deep/f", "file", "after"),
    )
    kept = journal.begin(work(*puts), machine.load_record())
    for item in puts:
        machine.put(item)
    journal.restore(kept)
    journal.end(kept)
    assert (home / "f").read_text() == "before"
    assert (home / "f").stat().st_mode & 0o777 == 0o604
    assert (home / "l").readlink() == Path("f")
    assert (home / "d").is_dir()
    assert not (home / "new").exists()
    assert not list((home / "home").glob("journal*"))
    assert not list((home / "home/rollback").iterdir())


def test_paths_may_change_their_kind_and_change_back(home: Path) -> None:
    (home / "d").mkdir()
    (home / "d/f").write_text("in a directory")
    (home / "f").write_text("a file")
    (home / "l").symlink_to("d")
    puts = (
        absent(str(home / "d/f")),
        put(home / "d", "link", target="elsewhere"),
        put(home / "f", "directory", mode=0o750),
        put(home / "f/below", "file", "now below"),
        put(home / "l", "directory", mode=0o750),
        put(home / "l/f", "file", "not in d"),
    )
    kept = journal.begin(work(*puts), machine.load_record())
    for item in puts:
        machine.put(item)
    assert (home / "d").readlink() == Path("elsewhere")
    assert (home / "f/below").read_text() == "now below"
    journal.restore(kept)
    assert (home / "d/f").read_text() == "in a directory"
    assert (home / "f").read_text() == "a file"
    assert (home / "l").readlink() == Path("d")


def test_a_killed_apply_s_journal_is_inherited(home: Path) -> None:
    (home / "f").write_text("healthy")
    (home / "g").write_text("healthy")
    first = put(home / "f", "file", "half-way")
    journal.begin(work(first), machine.load_record())
    machine.put(first)
    second = (put(home / "f", "file", "bad"), put(home / "g", "file", "bad"))
    kept = journal.begin(work(*second), machine.load_record())
    for item in second:
        machine.put(item)
    journal.restore(kept)
    assert (home / "f").read_text() == (home / "g").read_text() == "healthy"


def test_the_record_grows_a_generation_with_each_write(home: Path) -> None:
    record = machine.load_record()
    assert record["generation"] == 0
    machine.save_record(record)
    machine.save_record(record)
    assert machine.load_record()["generation"] == 2


def test_the_observer_is_one_program(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("text")
    question = Look(
        op="observe", paths={str(tmp_path / "f"): "0"}, packages=["no-such-package"],
        users=["root", "nobody-of-that-name"], units=[], listeners=[], firewall=False,
    )  # fmt: skip
    program = f"PAYLOAD = {json.dumps(question).encode()!r}\n{bundle.observer()}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-"], input=program.encode(), capture_output=True, check=True
    )
    seen = json.loads(done.stdout)
    assert seen["nodes"][str(tmp_path / "f")]["content"] == "text"
    assert list(seen["users"]) == ["root"]
    assert seen["packages"] == []


def test_the_applier_knows_all_its_modules() -> None:
    program = f"PAYLOAD = b'{{}}'\n{bundle.applier()}".replace(".main(PAYLOAD)", ".main")
    subprocess.run([sys.executable, "-I", "-S", "-"], input=program.encode(), check=True)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_listening_sockets_are_found(
    family: socket.AddressFamily, host: str, kind: socket.SocketKind
) -> None:
    with socket.socket(family, kind) as server:
        server.bind((host, 0))
        transport = "udp"
        if kind is socket.SOCK_STREAM:
            server.listen()
            transport = "tcp"
        item = Listen(address=host, port=server.getsockname()[1], transport=transport)
        assert observe.silent([item]) == []
    assert observe.silent([item]) == [item]


def test_the_ruleset_s_digest_ignores_what_moves_by_itself() -> None:
    def digest(handle: int, packets: int, elements: list[str], port: int) -> str:
        rules = [
            {"set": {"name": "seen", "flags": ["dynamic", "timeout"], "elem": elements}},
            {"set": {"name": "fixed", "flags": ["interval"], "elem": ["192.0.2.0"]}},
            {
                "rule": {
                    "handle": handle,
                    "expr": [{"counter": {"packets": packets}}, {"port": port}],
                }
            },
        ]
        listing = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert listing.stdin
        listing.stdin.write(json.dumps({"nftables": rules}).encode())
        listing.stdin.close()
        listing.stdin = None
        return firewall.digest(listing)

    assert digest(1, 0, [], 25) == digest(2, 9, ["192.0.2.7"], 25)
    assert digest(1, 0, [], 25) != digest(1, 0, [], 26)


def test_checkers_words_pass_without_secrets() -> None:
    state = HostState(
        files=(File("/k", 'password = "hunter2-hunter2"\nx=abc\n', secret=True), File("/f", "f"))
    )
    seen = asked(blank(), state)
    said = "line 1: password hunter2-hunter2 is weak, x=abc"
    text = apply.redact(said, order(state, seen, diff(state, seen)))
    assert text == "line 1: [secret] [secret] is weak, x=abc"
