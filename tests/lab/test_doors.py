"""Watch's disk is filled by what one machine logs, and by something else: lines wait, and none is lost."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from mastio.context import ALARMS, LOGS
from mastio.roles.logbook import STATE
from mastio.roles.watch.doors import SHUT
from mastio.site.model import Role
from tests.lab.arrivals import SENDERS, arrived, kept, talk, write
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import remote, the, token
from tests.lab.patience import at_last
from tests.lab.sabotage import on
from tests.lab.test_limits import room, small
from tests.lab.test_outage import missing, steady
from tests.lab.test_watch_verifies import alarms

pytestmark = pytest.mark.lab

FLOODER = "webmail"
OTHERS = tuple(it for it in SENDERS if it != FLOODER)
PATIENCE = 120
LINES, SECONDS, LONG = 8000, 24.0, 7000
"""What the flooder writes: 56 MB, of which less than half finds room."""
RELOADED = "nft -f /etc/nftables.conf"
ANEW = "systemctl restart mastio-doors.service"


@pytest.fixture(autouse=True)
def talking(lab: Lab) -> Iterator[None]:
    talk(lab)
    yield
    on(
        lab,
        the(lab, Role.WATCH).name,
        f"rm -rf {STATE}/life.json {STATE}/life-told.json {ALARMS}/*",
    )


@contextmanager
def narrow(lab: Lab, spare: int) -> Iterator[None]:
    """Watch has so many MiB left until the first door is closed."""
    watch = the(lab, Role.WATCH).name
    with small(lab, watch, LOGS, 1024, "syslog.socket", "rsyslog.service"):
        talk(lab)  # each knows that its connection has ended
        leave = f"head -c $(($2 - $1 / 20 - {spare * 1024}))k /dev/zero >{LOGS}/filler"
        on(lab, watch, f"set -- $(df -k --output=size,avail {LOGS} | tail -n 1); {leave}")
        yield


def closed(lab: Lab, *expected: str) -> set[str]:
    """Whose doors are closed, when they are those or patience ends."""
    watch = the(lab, Role.WATCH).name

    def look() -> set[str]:
        noted: dict[str, Any] = json.loads(on(lab, watch, f"cat {SHUT} 2>/dev/null || echo '{{}}'"))
        return set(noted.get("shut", {}))

    return at_last(look, lambda it: it == {*expected}, PATIENCE, 0.5)


def told(lab: Lab) -> str:
    """What the alarm about the machines' signs says, after a look; empty when there is none."""
    on(lab, the(lab, Role.WATCH).name, "systemctl start mastio-logbook@life.service")
    found = alarms(lab)[1].get("logs (life)")
    return found["alarm"]["text"] if found else ""


def test_who_floods_waits_the_others_go_on_and_no_line_is_lost(lab: Lab) -> None:
    watch, word = the(lab, Role.WATCH).name, token()
    assert closed(lab) == set() and " waits: " not in told(lab)
    with narrow(lab, spare=25), ThreadPoolExecutor() as pool:
        flood = pool.submit(
            remote, lab, FLOODER, steady, word=word, count=LINES, seconds=SECONDS, padding=LONG
        )
        assert closed(lab, FLOODER) == {FLOODER}
        flood.result()
        more = token()
        for machine in SENDERS:
            write(lab, machine, f"{more} while it is closed")
        assert {*arrived(lab, more, len(OTHERS))} == {*OTHERS}
        said = told(lab)
        assert f"{FLOODER} waits: " in said and "it has written most" in said
        assert f"{FLOODER} silent" not in said
        assert "Nothing to do" in lab.mastio("plan", watch), "a closed door is no drift"
        assert set(missing(lab, word, LINES, (FLOODER,), patience=1)) == {FLOODER}
        assert FLOODER not in kept(lab, more)
        room(lab, watch, LOGS, "3g")
        assert closed(lab) == set()
        assert missing(lab, word, LINES, (FLOODER,)) == {}
        assert {*arrived(lab, more, len(SENDERS))} == {*SENDERS}
        assert " waits: " not in told(lab)


def test_what_is_logged_while_there_is_no_room_at_all_comes_when_there_is(lab: Lab) -> None:
    watch, word, count = the(lab, Role.WATCH).name, token(), 200
    with narrow(lab, spare=25):
        most = f"set -- $(df -k --output=size,avail {LOGS} | tail -n 1); head -c $(($2 - $1 / 60))k /dev/zero"
        on(lab, watch, f"{most} >{LOGS}/more")
        assert closed(lab, *SENDERS) == {*SENDERS}
        # A new ruleset knows of no closed door until it is told; a guard that begins anew does.
        for script in (RELOADED, ANEW):
            on(lab, watch, script)
            told_anew = at_last(
                lambda: on(lab, watch, "nft list set inet mastio shut"),
                lambda it: "elements = {" in it, PATIENCE, 0.5,
            )  # fmt: skip
            assert "elements = {" in told_anew
            assert closed(lab, *SENDERS) == {*SENDERS}
        on(lab, watch, f"cat /dev/zero >{LOGS}/rest || true")
        with ThreadPoolExecutor() as pool:
            for machine in SENDERS:
                pool.submit(remote, lab, machine, steady, word=word, count=count, seconds=1.0)
        said = told(lab)
        assert all(f"{it} waits: " in said for it in SENDERS) and "all doors are closed" in said
        on(lab, watch, f"rm {LOGS}/filler {LOGS}/more {LOGS}/rest")
        assert closed(lab) == set()
        assert missing(lab, word, count) == {}


def test_a_watch_that_comes_back_without_room_closes_before_it_takes_a_line(lab: Lab) -> None:
    watch, word = the(lab, Role.WATCH).name, token()
    full = "/etc/tmpfiles.d/full.conf"
    try:
        on(
            lab,
            watch,
            f"""
            head -c 1000k /dev/zero >/root/full; echo 'C {LOGS}/full - - - - /root/full' >{full}
            echo 'tmpfs {LOGS} tmpfs size=1m 0 0' >>/etc/fstab""",
        )
        lab.reboot(watch)
        assert closed(lab, *SENDERS) == {*SENDERS}
        began = "systemctl show --value -p ExecMainStartTimestampMonotonic"
        guard, receiver = (
            int(on(lab, watch, f"{began} {it}.service")) for it in ("mastio-doors", "rsyslog")
        )
        assert guard < receiver
        # The first tells a sender that its former connection is dead.
        for number in range(3):
            for machine in SENDERS:
                write(lab, machine, f"{word} while all are closed, {number}")
            time.sleep(2)
        assert kept(lab, word) == {}
    finally:
        on(
            lab,
            watch,
            f"""
            rm -f {full} /root/full; sed -i '\\|^tmpfs {LOGS} |d' /etc/fstab
            systemctl stop syslog.socket rsyslog.service
            umount {LOGS}; systemctl daemon-reload; systemctl start syslog.socket rsyslog.service""",
        )
    assert closed(lab) == set()
    talk(lab)
    found = arrived(lab, word, 3 * len(SENDERS))
    assert {it: len({*lines}) for it, lines in found.items()} == dict.fromkeys(SENDERS, 3)
