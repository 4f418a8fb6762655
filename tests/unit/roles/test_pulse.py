"""Who hangs is restarted after some looks, who is young or answers is not, and vain restarts become rare."""

import socketserver
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from mastio.context import Context, Kit
from mastio.flows import expand
from mastio.roles.gateway import pulse, revive
from mastio.roles.gateway.revive import MISSES, Daemon, Silence
from mastio.state import HostState
from tests.sites import demo_site
from tests.unit.roles.test_gateway import OFFLINE

YOUNG = 600.0


def looks(age: float, number: int) -> list[Silence]:
    """What is known after each of so many looks, a minute apart, at one that never answers and keeps its age."""
    found = [Silence()]
    for _ in range(number):
        found.append(revive.missed(found[-1], age, YOUNG))
    return found[1:]


def test_it_is_restarted_at_the_third_look_and_not_before() -> None:
    assert looks(YOUNG, MISSES) == [Silence(1), Silence(2), Silence(0, 1)]


def test_one_that_may_be_loading_is_left_alone() -> None:
    assert looks(YOUNG - 1, 9)[-1] == Silence(9)


def test_each_vain_restart_makes_the_next_one_later() -> None:
    it, age, restarted = Silence(), YOUNG, []
    for minute in range(120):
        before, it = it, revive.missed(it, age, YOUNG)
        age = 0.0 if it.restarts > before.restarts else age + 60
        if not age:
            restarted.append(minute)
    assert [later - before for before, later in pairwise(restarted)] == [21, 41]


def test_a_restart_that_does_not_help_is_told_and_one_that_loads_is_not() -> None:
    told = [revive.vain(it) for it in (Silence(9), Silence(0, 1), Silence(MISSES - 1, 1))]
    assert told == [False, False, False]
    assert [revive.vain(it) for it in (Silence(MISSES, 1), Silence(0, 2))] == [True, True]


def test_what_is_not_up_has_no_age() -> None:
    shown = """Id=rspamd.service
ActiveState=active
ActiveEnterTimestampMonotonic=40000000

Id=unbound.service
ActiveState=activating
ActiveEnterTimestampMonotonic=0

Id=clamav-daemon.service
ActiveState=inactive
ActiveEnterTimestampMonotonic=30000000
"""
    assert revive.ages(shown, 100.0) == {"rspamd.service": 60.0}


SAYS = {
    "clamd": (b"PONG\0", b"UNKNOWN COMMAND\0"),
    "milter": (b"\0\0\0\x0dO\0\0\0\6" + b"\0" * 8, b"\0\0\0\x01t"),
    "valkey": (b"+PONG\r\n", b"-BUSY Valkey is busy running a script.\r\n"),
}
"""What is a sign of life, and what is none."""


class Talker(socketserver.StreamRequestHandler):
    """Says to each question what its server has to say."""

    def handle(self) -> None:
        self.request.recv(512)
        self.wfile.write(self.server.says)  # type: ignore[attr-defined]
        self.wfile.flush()
        self.request.recv(512)


@pytest.fixture(params=sorted(SAYS))
def server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Daemon, socketserver.UnixStreamServer]]:
    path = str(tmp_path / "socket")
    made = socketserver.ThreadingUnixStreamServer(path, Talker)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield Daemon("a.service", request.param, path), made
    made.shutdown()
    made.server_close()


def test_an_answer_is_a_sign_of_life_and_an_excuse_is_none(
    server: tuple[Daemon, socketserver.UnixStreamServer],
) -> None:
    daemon, talker = server
    for says, alive in zip(SAYS[daemon.kind], (True, False), strict=True):
        talker.says = says  # type: ignore[attr-defined]
        assert revive.answers(daemon, 5) is alive
    talker.says = b""  # type: ignore[attr-defined]
    assert not revive.answers(daemon, 0.1)


def test_one_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    assert not revive.answers(Daemon("a.service", "clamd", str(tmp_path / "none")))


def built(*, awake: bool) -> HostState:
    site = demo_site()
    kit = Kit(awake=awake)
    return pulse.build(Context(site, expand(site), site.machine("gateway"), OFFLINE, {}, kit))


def test_the_unit_asks_all_that_mail_waits_for() -> None:
    (unit,) = [it for it in built(awake=True).files if it.path.endswith("mastio-pulse.service")]
    (line,) = [
        it for it in unit.content.replace("\\\n", "").splitlines() if it.startswith("ExecStart=")
    ]
    _, young, *words = line.split()
    assert young == "600"
    asked = {it.unit: (it.kind, it.where) for it in revive.daemons(words)}
    assert asked == {
        "clamav-daemon.service": ("clamd", "/run/clamav/clamd.ctl"),
        "rspamd.service": ("milter", "/run/rspamd/milter.sock"),
        "valkey-server.service": ("valkey", "/run/valkey/valkey.sock"),
        "unbound.service": ("dns", "53"),
    }
    assert {kind for kind, _ in asked.values()} == set(revive.QUESTIONS)


def test_it_begins_by_itself_but_in_the_lab() -> None:
    assert [it.name for it in built(awake=True).units] == ["mastio-pulse.timer"]
    assert not built(awake=False).units
