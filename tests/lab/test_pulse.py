"""What hangs on a gateway is restarted by the gateway itself: nobody sends SIGCONT here, and mail goes on.

The timer sleeps in the lab; each look is asked for, as it would begin once a minute.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from mastio.roles.gateway.pulse import YOUNG
from mastio.roles.gateway.revive import MISSES
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, the, token
from tests.lab.patience import eventually
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

PULSE = "mastio-pulse.service"
ASKED = ("valkey-server.service", "clamav-daemon.service", "rspamd.service", "unbound.service")
_DROP_IN = f"/run/systemd/system/{PULSE}.d/old.conf"


@pytest.fixture(scope="module")
def gateway(lab: Lab) -> str:
    return the(lab, Role.GATEWAY_IN).name


@pytest.fixture(autouse=True)
def nothing_known(lab: Lab, gateway: str) -> Iterator[None]:
    """No test begins with what another one found."""
    yield
    on(lab, gateway, f"rm -rf /run/mastio-pulse; systemctl reset-failed {PULSE} || true")


@contextmanager
def old(lab: Lab, gateway: str) -> Iterator[None]:
    """What runs for a second counts as having had its time to load: no test waits for that."""
    on(
        lab,
        gateway,
        f"""mkdir -p {_DROP_IN.rpartition("/")[0]}
        {{ echo [Service]; echo ExecStart=
           sed -n '/^ExecStart=/,/dns:/s/pulse {YOUNG} /pulse 1 /; /^ExecStart=/,/dns:/p' /etc/systemd/system/{PULSE}
        }} >{_DROP_IN}
        systemctl daemon-reload; systemctl show -p ExecStart {PULSE} | grep -q 'pulse 1 .*=dns:'""",
    )
    try:
        yield
    finally:
        on(lab, gateway, f"rm {_DROP_IN}; systemctl daemon-reload")


def look(lab: Lab, gateway: str) -> bool:
    """What the timer does each minute; whether it ended well. systemd would refuse so many a minute."""
    on(lab, gateway, f"systemctl reset-failed {PULSE} 2>/dev/null || true")
    return lab.run(gateway, ["systemctl", "start", PULSE]).code == 0


def pids(lab: Lab, gateway: str) -> dict[str, int]:
    """Each unit's main process."""
    show = f"for it in {' '.join(ASKED)}; do systemctl show --value -p MainPID $it; done"
    return dict(zip(ASKED, map(int, on(lab, gateway, show).split()), strict=True))


def told(lab: Lab, gateway: str, since: str) -> list[str]:
    """What it has said since then."""
    argv = f"journalctl -q -t mastio-pulse -p warning --after-cursor='{since}' -o cat"
    return on(lab, gateway, argv).splitlines()


def cursor(lab: Lab, gateway: str) -> str:
    """Where the journal ends."""
    return on(lab, gateway, "journalctl -n 0 --show-cursor").partition("cursor: ")[2].strip()


def stop(lab: Lab, gateway: str, unit: str) -> None:
    """It neither answers nor is gone, and nobody will wake it."""
    on(lab, gateway, f"systemctl kill --signal=STOP {unit}")


def goes_on(lab: Lab) -> None:
    """A message is accepted, scanned and in its mailbox."""
    word, user = token(), next(iter(lab.accounts.items()))

    def accepted() -> bool:
        with suppress(AssertionError):  # told to come again, until all are up
            return mail.deliver(lab, message(CAROL, user[0], word))[0] == 250
        return False

    eventually(accepted, "no mail is accepted")
    assert mail.inbox(lab, *user, word)


def runs_anew(lab: Lab, gateway: str, unit: str, before: int) -> None:
    """It is another process than before."""
    eventually(lambda: pids(lab, gateway)[unit] not in (0, before), f"{unit} is not restarted")


@pytest.mark.parametrize("unit", ASKED)
def test_what_hangs_is_restarted_and_mail_goes_on_without_hands(
    lab: Lab, gateway: str, unit: str
) -> None:
    with old(lab, gateway):
        before, since = pids(lab, gateway), cursor(lab, gateway)
        stop(lab, gateway, unit)
        for _ in range(MISSES - 1):
            assert look(lab, gateway)
            assert pids(lab, gateway) == before, "too soon"
        assert look(lab, gateway)
        told_now = told(lab, gateway, since)
        assert told_now == [f"{unit} has not answered for {MISSES} minutes: restarted"]
        runs_anew(lab, gateway, unit, before[unit])
        goes_on(lab)
        others = {it for it, pid in pids(lab, gateway).items() if pid != before[it]} - {unit}
        # It comes and goes with Valkey.
        assert others <= ({"rspamd.service"} if unit.startswith("valkey") else set()), others
        assert eventually(lambda: look(lab, gateway), "it does not answer")
        assert told(lab, gateway, since) == told_now, "told once"


def test_who_answers_is_never_touched_and_who_was_stopped_is_not_started(
    lab: Lab, gateway: str
) -> None:
    with old(lab, gateway):
        before, since = pids(lab, gateway), cursor(lab, gateway)
        for _ in range(MISSES + 2):
            assert look(lab, gateway)
        assert pids(lab, gateway) == before
        on(lab, gateway, "systemctl stop unbound.service")
        try:
            for _ in range(MISSES + 1):
                assert look(lab, gateway)
            assert pids(lab, gateway)["unbound.service"] == 0
        finally:
            on(lab, gateway, "systemctl start unbound.service")
        assert told(lab, gateway, since) == []


def test_what_has_just_started_is_not_touched(lab: Lab, gateway: str) -> None:
    unit = "clamav-daemon.service"
    on(lab, gateway, f"systemctl restart {unit}")
    before, since = pids(lab, gateway), cursor(lab, gateway)
    stop(lab, gateway, unit)
    try:
        for _ in range(MISSES + 1):
            assert look(lab, gateway)
        assert pids(lab, gateway) == before
        assert told(lab, gateway, since) == []
    finally:
        on(lab, gateway, f"systemctl kill --signal=CONT {unit}")


def test_what_hangs_again_and_again_is_a_failed_unit_until_it_answers(
    lab: Lab, gateway: str
) -> None:
    unit = "unbound.service"
    with old(lab, gateway):
        since = cursor(lab, gateway)
        for _ in range(2):
            before = pids(lab, gateway)[unit]
            stop(lab, gateway, unit)
            well = [look(lab, gateway) for _ in range(MISSES)]
            runs_anew(lab, gateway, unit, before)
        assert well == [True, True, False]
        assert told(lab, gateway, since)[-1] == f"{unit} does not answer, though it was restarted"
        assert f"{PULSE} has failed" in mastio(lab.folder, "status").stdout
        assert eventually(lambda: look(lab, gateway), "it does not answer")
        assert PULSE not in mastio(lab.folder, "status").stdout
