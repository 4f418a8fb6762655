"""What is changed in the logs on watch shows, and so do machines that fall silent, lose lines, or have a wrong clock.

Watch's timers do not run in the lab: what they start is started here.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mastio.cli.logs import PINS
from mastio.context import ALARMS, LOGS
from mastio.roles.logbook import STATE
from mastio.site.model import Role
from tests.lab.arrivals import arrived, held_up, kept, many, talk
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import LIMIT, inbox, remote, the, token
from tests.lab.patience import at_last
from tests.lab.sabotage import on
from tests.lab.test_verify import having, verify
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

VICTIM = "webmail"
"""Whose logs are changed, and who falls silent."""
PACKED = f"{LOGS}/{VICTIM}/{datetime.now(UTC) - timedelta(days=3):%F}.log.gz"
"""A past day of it."""


@pytest.fixture(scope="module", autouse=True)
def talking(lab: Lab) -> Iterator[None]:
    talk(lab)
    yield
    # What it has found wrong here is nothing that others should be told.
    on_watch(lab, f"rm -f {STATE}/life.json {STATE}/*-told.json")


def on_watch(lab: Lab, script: str, *words: str) -> str:
    argv = ["sh", "-ec", script, "sh", *words]
    done = lab.transport.run(the(lab, Role.WATCH).name, argv, timeout=LIMIT)
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


def failed(lab: Lab, check: str) -> list[str]:
    """What a check of verification finds wrong."""
    return having(verify(lab, "--only", check), "failed").get(check, [])


@pytest.fixture(scope="module")
def file(lab: Lab) -> Iterator[str]:
    """A sealed file of the victim's; the chain is the module's own."""
    place = f"{LOGS}/{VICTIM}/$(date +%F).log"
    on_watch(lab, f"rm -rf {STATE}/* {PACKED}; echo a line >{PACKED.removesuffix('.gz')}")
    (lab.folder / PINS).unlink(missing_ok=True)
    seal(lab)
    word = token()
    assert lab.run(VICTIM, ["logger", "--", f"{word} one"]).code == 0
    assert arrived(lab, f"{word} one", 1)
    seal(lab)
    assert verified(lab) == []
    yield on_watch(lab, f"echo {place}").strip()
    on_watch(lab, f"rm -rf {STATE}/* {PACKED}")
    (lab.folder / PINS).unlink(missing_ok=True)


REPACK = f"gzip -dc {PACKED} | sed s/line/LINE/ | gzip -n >/run/packed; "
SABOTAGE = {
    "a word edited": ("sed -i '1s/systemd/SYSTEMD/;1s/a/A/' \"$1\"", "edited: octets 0–"),
    # More than what may have come since the last seal: it would make up for what is gone.
    "some lines removed": ("sed -i 2,9d \"$1\"", "cut: "),
    "a file removed": ("rm \"$1\"", "the file was removed"),
    "a past day added": ('echo lie > "${1%/*}/2026-01-01.log"', "the file was added after the day was over"),
    "a packed day edited": (f"{REPACK} cat /run/packed >{PACKED}", "edited: octets 0–"),
    "a packed day damaged": (
        # A block of a kind that there is not (RFC 1951, 3.2.3).
        f"{REPACK} printf '\\377' | dd of=/run/packed bs=1 seek=10 conv=notrunc status=none; cat /run/packed >{PACKED}",
        "cut: ",
    ),
    "the chain cut": (f"sed -i '$d' {STATE}/chain", "it was cut"),
    "a seal edited": (f"sed -i '1s/\"keep\":[0-9]*/\"keep\":1/' {STATE}/chain", "is not signed with the key"),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGE)
def test_what_is_changed_is_named(lab: Lab, file: str, name: str) -> None:
    script, words = SABOTAGE[name]
    keep = f"mkdir /run/kept; cp -a {LOGS}/{VICTIM} {STATE} /run/kept/"
    back = (
        f"rm -f {LOGS}/{VICTIM}/2026-01-01.log; cat /run/kept/{VICTIM}/${{1##*/}} > /run/kept/file; "
        f'mv /run/kept/file "$1"; cp -a /run/kept/{VICTIM}/*.gz {LOGS}/{VICTIM}/; '
        f"cp -a /run/kept/logbook/. {STATE}/; rm -r /run/kept; "
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
    before = len(alarms(lab, f"{VICTIM}, ", 0))
    # All of it: what has come since the last seal must not make up for what is gone.
    on_watch(lab, 'cp -a "$1" /run/whole; sed -i d "$1"', file)
    try:
        seal(lab)
        seal(lab)
        assert any(f"{VICTIM}, " in it and "cut" in it for it in failed(lab, "L2"))
    finally:
        on_watch(lab, 'mv /run/whole "$1"; systemctl kill -s HUP rsyslog.service', file)
    seal(lab)
    assert not failed(lab, "L2")
    told = alarms(lab, f"{VICTIM}, ", before + 2)[before:]
    assert told == [True, False], "once, and well again"


def test_a_letter_that_was_exchanged_is_told_by_the_nightly_proof(lab: Lab, file: str) -> None:
    """Of the same length: seals do not notice, and nobody has asked."""
    before = len(alarms(lab, f"{VICTIM}, ", 0))
    prove = "systemctl start mastio-logbook@proof.service"
    seal(lab)
    on_watch(lab, prove)
    assert "L2" in having(verify(lab, "--only", "L2"), "passed")
    # In place: rsyslog goes on writing into the same file.
    byte = 'dd of="$1" bs=1 count=1 conv=notrunc status=none'
    on_watch(lab, f'head -c1 "$1" >/run/letter; printf X | {byte}', file)
    try:
        seal(lab)
        assert "L2" in having(verify(lab, "--only", "L2"), "passed"), "as if it were well"
        on_watch(lab, prove)
        assert any(f"{VICTIM}, " in it and "edited: octets 0–" in it for it in failed(lab, "L2"))
    finally:
        on_watch(lab, f"{byte} </run/letter; rm /run/letter", file)
    on_watch(lab, prove)
    assert "L2" in having(verify(lab, "--only", "L2"), "passed")
    told = alarms(lab, f"{VICTIM}, ", before + 2)[before:]
    assert told == [True, False], "once, and well again"


def alarms(lab: Lab, word: str, count: int = 1) -> list[bool]:
    """Of each alarm with a word, in the order in which they came to the administrator: whether it is bad news."""
    admin = lab.site.admin_mail

    def bad() -> list[bool]:
        found = inbox(lab, admin, lab.accounts[admin], "logs are", patience=1)
        news = [(it, str(it.get_payload()).partition("Still:")[0]) for it in found]
        return ["NOT as they should be" in str(it["Subject"]) for it, text in news if word in text]

    return at_last(bad, lambda it: len(it) >= count)


def test_logs_are_kept_as_long_as_the_site_file_says(lab: Lab) -> None:
    """Past days are packed; what is older is removed, and that is no change."""
    folder, days = f"{LOGS}/{VICTIM}", lab.site.policy.log_days
    on_watch(lab, f"rm -rf {STATE}/* {folder}/*.log.gz")
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
        assert arrived(self.lab, f"boot={self.boot} seq={self.number} ", 1)


def own_sign(lab: Lab, machine: str) -> str:
    """The machine gives its own sign, which is waited for; its boot."""
    assert lab.run(machine, ["systemctl", "start", "mastio-alive.service"]).code == 0
    told = "cat /proc/sys/kernel/random/boot_id /run/mastio-alive/count"
    boot, number = on(lab, machine, told).split()
    assert arrived(lab, f"boot={boot} seq={number} ", 1)
    return boot


def listen(lab: Lab) -> dict[str, str]:
    """What watch finds wrong with the victim, as its timer would have it look."""
    on_watch(lab, "systemctl start mastio-logbook@life.service")
    told: dict[str, str] = json.loads(on_watch(lab, f"cat {STATE}/life-told.json"))["wrong"]
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
        # And those that went by since its last sign.
        said = re.match(r"no sign of life for (\d+) minutes", listen(lab)["silent"])
        assert said and 10 <= int(said[1]) < 20
        listen(lab)
        assert any(f"{VICTIM} silent" in it for it in failed(lab, "L4"))
    finally:
        assert lab.run(VICTIM, ["systemctl", "start", "syslog.socket", "rsyslog.service"]).code == 0
    pulse.give()
    assert "silent" not in listen(lab)
    assert not any(f"{VICTIM} silent" in it for it in failed(lab, "L4"))
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
    word, count = token(), 200
    before = lab.run(VICTIM, ["sysctl", "-n", setting]).stdout.decode().strip()
    own_sign(lab, VICTIM)
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
        time.monotonic() + 200
    )  # journald says so each half minute at most, when it has something to do
    while not (lost := listen(lab).get("lost lines", "")) and time.monotonic() < end:
        own_sign(lab, VICTIM)
    assert "(journald to rsyslog)" in lost and f"{VICTIM} lost lines" in alarmed(lab)


NARROW = r"""
cp -p /etc/rsyslog.conf /run/rsyslog.conf
sed -i -E -e 's/(maxDiskSpace=)"[^"]*"/\1"100k"/' -e 's/(maxFileSize=)"[^"]*"/\1"50k"/' \
    -e '/impstats/s/(interval=)"[^"]*"/\1"1"/' /etc/rsyslog.conf
systemctl restart rsyslog.service
"""
"""The queue to watch holds some hundred lines, and each second rsyslog says what it has thrown away."""


def test_lines_that_found_the_queue_full_are_told_and_how_many(lab: Lab, pulse: Pulse) -> None:
    began, word, count = time.monotonic(), token(), random.randrange(1500, 2500)
    before = lost(lab)
    on_watch(lab, f"rm -f {ALARMS}/*")  # what another test lost is told once a day
    assert "lost lines" not in listen(lab)
    on(lab, VICTIM, NARROW)
    try:
        on_watch(lab, "systemctl stop syslog.socket rsyslog.service")
        try:
            remote(lab, VICTIM, many, word=word, count=count)
            time.sleep(1)
        finally:
            on_watch(lab, "systemctl start syslog.socket rsyslog.service")
        said, counted, thrown, end = "", 0, count, time.monotonic() + 300
        while not (said and thrown <= counted) and time.monotonic() < end:
            now = listen(lab).get("lost lines", "")
            said = said or now  # as it was when the alarm was raised
            counted = sum(
                json.loads(on_watch(lab, f"cat {STATE}/life.json"))["lost"][VICTIM].values()
            )
            thrown = int(on(lab, VICTIM, f"grep -c {word} /var/log/mail.log"))
            thrown -= len(kept(lab, word).get(VICTIM, []))
        assert thrown > 500, "the queue is not that small"
        # What else the machine wrote meanwhile is among them: its counters each second.
        assert thrown <= counted <= thrown + 100 + (time.monotonic() - began)
        assert re.match(r"\d+ lines were thrown away: the queue was full \(to-watch\)", said), said
        assert f"{VICTIM} lost lines: {said}" in alarmed(lab)
        # Long lines are broken in mail.
        assert alarms(lab, f"{VICTIM} lost lines: {said.partition(' were')[0]}") == [True]
        after = lost(lab)
        assert after == counted if not before else after > before
    finally:
        on(lab, VICTIM, "mv /run/rsyslog.conf /etc/rsyslog.conf; systemctl restart rsyslog.service")


def lost(lab: Lab) -> int:
    """How many lines the digest says were lost, among what needs a person."""
    digest = json.loads(mastio(lab.folder, "digest", "--json", "--since", "3h").stdout)
    number = int(digest["summary"]["counts"].get("trouble.logs lost", 0))
    words = f"log lines were lost on their way ({number:,} ×)"
    assert not number or words in [it["words"] for it in digest["needs"]], digest["needs"]
    return number


def test_a_clock_that_jumps_is_told(lab: Lab, pulse: Pulse) -> None:
    assert "clock" not in str(listen(lab))
    pulse.give(ahead=3600)
    wrong = listen(lab)
    assert "set forward by 3600 seconds" in wrong["clock set"]
    # The sign was some time on its way.
    ahead = re.match(r"its clock is (\d+) seconds ahead", wrong["clock"])
    assert ahead and 3600 - 60 < int(ahead[1]) <= 3600
    told = alarmed(lab)
    assert f"{VICTIM} clock set" in told and f"{VICTIM} clock:" in told, told
    pulse.give()
    assert "clock" not in listen(lab)


def test_the_machines_own_sign_is_one(lab: Lab) -> None:
    """What their timers start."""
    boots = {machine: own_sign(lab, machine) for machine in (VICTIM, the(lab, Role.WATCH).name)}
    listen(lab)
    heard = json.loads(on_watch(lab, f"cat {STATE}/life.json"))["heard"]
    assert {machine: heard[machine]["boot"] for machine in boots} == boots
