"""What is changed in the logs on watch shows, and so do machines that fall silent, lose lines, or have a wrong clock.

Watch's timers do not run in the lab: what they start is started here.
"""

import json
import time
from collections.abc import Iterator

import pytest

from mastio.cli.logs import PINS
from mastio.context import LOGS
from mastio.roles.logbook import STATE
from mastio.site.model import Role
from tests.lab.arrivals import arrived, held_up, many, talk
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import inbox, remote, the, token
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

VICTIM = "webmail"
"""Whose logs are changed, and who falls silent."""


@pytest.fixture(scope="module", autouse=True)
def talking(lab: Lab) -> None:
    talk(lab)


def on_watch(lab: Lab, script: str, *words: str) -> str:
    done = lab.run(the(lab, Role.WATCH).name, ["sh", "-ec", script, "sh", *words])
    assert done.code == 0, done.stderr.decode()
    return done.stdout.decode()


def seal(lab: Lab) -> None:
    on_watch(lab, "systemctl start mastio-logbook@seal.service")


def verified(lab: Lab) -> list[str]:
    """What `mastio logs verify` names; its exit code goes with it."""
    done = mastio(lab.folder, "logs", "verify", "--json")
    faults = list(json.loads(done.stdout)["faults"])
    assert done.returncode == (1 if faults else 0), done.stderr
    return faults


@pytest.fixture(scope="module")
def file(lab: Lab) -> Iterator[str]:
    """A sealed file of the victim's; the chain is the module's own."""
    place = f"{LOGS}/{VICTIM}/$(date +%F).log"
    on_watch(lab, f"rm -rf {STATE}/*")
    (lab.folder / PINS).unlink(missing_ok=True)
    seal(lab)
    word = token()
    assert lab.run(VICTIM, ["logger", "--", f"{word} one"]).code == 0
    assert arrived(lab, f"{word} one", 1)
    seal(lab)
    assert verified(lab) == []
    yield on_watch(lab, f"echo {place}").strip()
    on_watch(lab, f"rm -rf {STATE}/*")
    (lab.folder / PINS).unlink(missing_ok=True)


SABOTAGE = {
    "a word edited": ("sed -i '1s/systemd/SYSTEMD/;1s/a/A/' \"$1\"", "edited: octets 0–"),
    "a line removed": ("sed -i 2d \"$1\"", "cut: "),
    "a file removed": ("rm \"$1\"", "the file was removed"),
    "a past day added": ('echo lie > "${1%/*}/2026-01-01.log"', "the file was added after the day was over"),
    "the chain cut": (f"sed -i '$d' {STATE}/chain", "it was cut"),
    "a seal edited": (f"sed -i '1s/\"keep\":[0-9]*/\"keep\":1/' {STATE}/chain", "is not signed with the key"),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGE)
def test_what_is_changed_is_named(lab: Lab, file: str, name: str) -> None:
    script, words = SABOTAGE[name]
    keep = f"mkdir /run/kept; cp -a {LOGS}/{VICTIM} {STATE} /run/kept/"
    back = (
        f"rm -f {LOGS}/{VICTIM}/2026-01-01.log; cat /run/kept/{VICTIM}/${{1##*/}} > /run/kept/file; "
        f'mv /run/kept/file "$1"; cp -a /run/kept/logbook/. {STATE}/; rm -r /run/kept; '
        "systemctl kill -s HUP rsyslog.service"
    )
    on_watch(lab, keep, file)
    try:
        on_watch(lab, script, file)
        found = verified(lab)
        assert any(words in it for it in found), found
    finally:
        on_watch(lab, back, file)
    assert verified(lab) == []


def test_what_was_edited_is_told_by_the_next_seal(lab: Lab, file: str) -> None:
    """A file that has become shorter is an alarm at once, without anybody asking."""
    before = len(alarms(lab, f"{VICTIM}/", 0))
    # All of it: what has come since the last seal must not make up for what is gone.
    on_watch(lab, 'cp -a "$1" /run/whole; sed -i d "$1"', file)
    try:
        seal(lab)
        seal(lab)
    finally:
        on_watch(lab, 'mv /run/whole "$1"; systemctl kill -s HUP rsyslog.service', file)
    seal(lab)
    told = alarms(lab, f"{VICTIM}/", before + 2)[before:]
    assert told == [True, False], "once, and well again"


def alarms(lab: Lab, word: str, count: int = 1) -> list[bool]:
    """Of each alarm with a word, in the order in which they came to the administrator: whether it is bad news."""
    admin, end = lab.site.admin_mail, time.monotonic() + 60
    while True:
        found = inbox(lab, admin, lab.accounts[admin], "logs are", patience=1)
        news = [(it, str(it.get_payload()).partition("Still:")[0]) for it in found]
        bad = ["NOT as they should be" in str(it["Subject"]) for it, text in news if word in text]
        if len(bad) >= count or time.monotonic() > end:
            return bad
        time.sleep(0.5)


def test_logs_are_kept_as_long_as_the_site_file_says(lab: Lab) -> None:
    """Past days are packed; what is older is removed, and that is no change."""
    folder, days = f"{LOGS}/{VICTIM}", lab.site.policy.log_days
    on_watch(lab, f"rm -rf {STATE}/*")
    (lab.folder / PINS).unlink(missing_ok=True)

    def name(ago: int) -> str:
        return on_watch(lab, f"date -d '-{ago} days' +%F.log").strip()

    old, young, younger = name(days + 2), name(20), name(5)
    try:
        for it in (old, young, younger):
            on_watch(lab, f"echo a line >{folder}/{it}")
        seal(lab)
        there = on_watch(lab, f"ls {folder}").split()
        assert {f"{young}.gz", f"{younger}.gz"} <= set(there) and old not in there
        assert verified(lab) == []
        with tuned(lab, "[policy]\nlog_days = 10\n"):
            seal(lab)
            there = on_watch(lab, f"ls {folder}").split()
            assert f"{younger}.gz" in there and f"{young}.gz" not in there
            assert verified(lab) == []
    finally:
        on_watch(lab, f"cd {folder}; rm -f {old} {young}* {younger}*; rm -rf {STATE}/*")
        (lab.folder / PINS).unlink(missing_ok=True)


class Pulse:
    """Signs of life, as far as a test wants them, on a clock that the test sets."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.number, self.word = lab, 0, token()
        self.boot = f"{int(time.time()):08x}-{token()[1:5]}".replace("t", "0")

    def give(self, machine: str = VICTIM, skip: int = 0, ahead: float = 0.0) -> None:
        """The next sign; `skip` numbers are left out, the clock is so many seconds `ahead`."""
        self.number += 1 + skip
        up, clock = time.monotonic(), time.time() + ahead
        text = f"boot={self.boot} seq={self.number} up={up:.2f} clock={clock:.3f}"
        argv = ["logger", "-p", "daemon.notice", "-t", "mastio-alive", text]
        assert self.lab.run(machine, argv).code == 0
        assert arrived(self.lab, f"boot={self.boot} seq={self.number} ", 1, 20)


def listen(lab: Lab) -> dict[str, str]:
    """What watch finds wrong with the victim, as its timer would have it look."""
    on_watch(lab, "systemctl start mastio-logbook@life.service")
    told: dict[str, str] = json.loads(on_watch(lab, f"cat {STATE}/life-told.json"))
    return {
        name.removeprefix(f"{VICTIM} "): it for name, it in told.items() if name.startswith(VICTIM)
    }


def alarmed(lab: Lab) -> str:
    """What the alarm about the machines' signs says, that is open."""
    book = json.loads(mastio(lab.folder, "alarms", "--json").stdout)["open"]
    return str(book["logs (life)"]["alarm"]["text"])


def change(lab: Lab, code: str) -> None:
    """Changes what watch knows: `s` is all of it, `h` what it has heard of the victim."""
    opened = (
        f"import json; p = '{STATE}/life.json'; s = json.load(open(p)); h = s['heard']['{VICTIM}']"
    )
    on_watch(lab, 'python3 -c "$1"', f"{opened}\n{code}\njson.dump(s, open(p, 'w'))")


def later(lab: Lab, seconds: int) -> None:
    """Time goes by: what watch knows becomes older."""
    change(
        lab,
        f"for it in ('arrived', 'clock', 'up'): h[it] -= {seconds}\n"
        f"s['since'] -= {seconds}; h['missing'] = {{k: v - {seconds} for k, v in h['missing'].items()}}",
    )


@pytest.fixture
def pulse(lab: Lab) -> Pulse:
    """The victim is alive and well."""
    on_watch(lab, f"rm -f {STATE}/life.json {STATE}/life-told.json; mkdir -p {STATE}")
    listen(lab)  # what other tests left
    one = Pulse(lab)
    one.give()
    one.give()
    change(lab, "s['events'] = {}; h['missing'] = {}")
    on_watch(lab, f"rm -f {STATE}/life-told.json")
    wrong = listen(lab)
    assert "silent" not in wrong and "gap" not in wrong, wrong
    return one


def test_a_machine_that_falls_silent_is_told_once_and_well_again(lab: Lab, pulse: Pulse) -> None:
    before = len(alarms(lab, f"{VICTIM} silent", 0))
    assert lab.run(VICTIM, ["systemctl", "stop", "syslog.socket", "rsyslog.service"]).code == 0
    try:
        later(lab, 600)
        assert "no sign of life for 10 minutes" in listen(lab)["silent"]
        listen(lab)
    finally:
        assert lab.run(VICTIM, ["systemctl", "start", "syslog.socket", "rsyslog.service"]).code == 0
    pulse.give()
    assert "silent" not in listen(lab)
    assert alarms(lab, f"{VICTIM} silent", before + 2)[before:] == [True, False]


def test_a_sign_that_never_came_is_told(lab: Lab, pulse: Pulse) -> None:
    pulse.give()
    assert "gap" not in listen(lab)
    pulse.give(skip=2)
    listen(lab)
    later(lab, 120)
    assert "2 signs of life have not come" in listen(lab)["gap"]
    assert f"{VICTIM} gap" in alarmed(lab)


def test_lines_that_never_reached_rsyslog_are_told(lab: Lab, pulse: Pulse) -> None:
    setting, again = "net.unix.max_dgram_qlen", ["systemctl", "restart", "syslog.socket"]
    sign, word, count = ["systemctl", "start", "mastio-alive.service"], token(), 200
    before = lab.run(VICTIM, ["sysctl", "-n", setting]).stdout.decode().strip()
    assert lab.run(VICTIM, sign).code == 0
    listen(lab)  # what was lost before, in this machine's time
    change(lab, "s['events'] = {}")
    assert "lost lines" not in listen(lab)
    try:
        assert lab.run(VICTIM, ["sysctl", "-q", f"{setting}=16"]).code == 0
        assert lab.run(VICTIM, again).code == 0
        with held_up(lab, VICTIM):
            remote(lab, VICTIM, many, word=word, count=count)
    finally:
        assert lab.run(VICTIM, ["sysctl", "-q", f"{setting}={before}"]).code == 0
        assert lab.run(VICTIM, again).code == 0
    end = (
        time.monotonic() + 60
    )  # journald says so each half minute at most, when it has something to do
    while not (lost := listen(lab).get("lost lines", "")) and time.monotonic() < end:
        assert lab.run(VICTIM, sign).code == 0
        time.sleep(1)
    assert "(journald to rsyslog)" in lost and f"{VICTIM} lost lines" in alarmed(lab)


def test_a_clock_that_jumps_is_told(lab: Lab, pulse: Pulse) -> None:
    assert "clock" not in str(listen(lab))
    pulse.give(ahead=3600)
    wrong = listen(lab)
    assert "set forward by 3600 seconds" in wrong["clock set"]
    assert "3600 seconds ahead" in wrong["clock"]
    told = alarmed(lab)
    assert f"{VICTIM} clock set" in told and f"{VICTIM} clock:" in told, told
    pulse.give()
    assert "clock" not in listen(lab)


def test_the_machines_own_sign_is_one(lab: Lab) -> None:
    """What their timers start."""
    for machine in (VICTIM, the(lab, Role.WATCH).name):
        assert lab.run(machine, ["systemctl", "start", "mastio-alive.service"]).code == 0
    listen(lab)
    heard = json.loads(on_watch(lab, f"cat {STATE}/life.json"))["heard"]
    for machine in (VICTIM, the(lab, Role.WATCH).name):
        boot = lab.run(machine, ["cat", "/proc/sys/kernel/random/boot_id"]).stdout.decode().strip()
        assert heard[machine]["boot"] == boot
