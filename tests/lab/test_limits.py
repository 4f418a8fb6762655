"""What runs out: the right answer at the right place, an alarm, and all goes on by itself when it is there again.

Elsewhere: a clock that jumps (`test_logbook`), a mailbox that is full and what `trace` says of it (`test_trace`),
certificates that expire, as the checks see them (T9, `test_verify`).
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from mastio.cli.common import App
from mastio.context import ALARMS, PKI
from mastio.lab import outside
from mastio.roles.inspection import FOLDER
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, the, token
from tests.lab.patience import eventually
from tests.lab.sabotage import on
from tests.lab.test_watch_verifies import alarms, let_watch
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

SPOOL, MAIL, LOGS = "/var/spool/postfix", "/var/vmail", "/var/log/remote"
PATIENCE = 280
"""Seconds in which what waited has gone on: Postfix tries again after a minute or two, or after as long as it has
waited."""


@pytest.fixture(scope="module", autouse=True)
def blank(lab: Lab) -> Iterator[None]:
    """Nobody has been told of anything."""
    watch, store = the(lab, Role.WATCH).name, the(lab, Role.STORE).name
    # What is counted below is looked for among a mailbox's last messages: nothing may drop out meanwhile.
    words = shlex.join(("mailbox", "INBOX", "subject", f"[{lab.site.name}]"))
    on(lab, store, f"doveadm expunge -u {lab.site.admin_mail} {words}")
    clear = f"rm -rf {FOLDER}/limits.json {FOLDER}/cried {ALARMS}/*"
    on(lab, watch, clear)
    yield
    on(lab, watch, clear)


@contextmanager
def small(lab: Lab, machine: str, folder: str, size: int, *units: str) -> Iterator[None]:
    """A folder on a small disk of its own, which `units` use; afterwards where it was, with what is there then.

    `size` is what the disk has for more than is there already.
    """
    stop, start = (
        f"systemctl {verb} {' '.join(units)}" if units else "true" for verb in ("stop", "start")
    )
    there = f"$(du -sk {folder} | cut -f1)"
    mount = f"mount -t tmpfs -o size=$(({there} + {size} * 1024))k small {folder}"
    aside = f"mkdir -p /run/was; mount --bind {folder} /run/was; mount --make-private /run/was"
    on(lab, machine, f"{stop}; {aside}; {mount}; cp -aT /run/was {folder} 2>/dev/null; {start}")
    try:
        yield
    finally:
        back = f"find /run/was -mindepth 1 -delete; cp -aT {folder} /run/was"
        on(lab, machine, f"{stop}; {back}; umount {folder}; umount /run/was; {start}")


def room(lab: Lab, machine: str, folder: str, size: str) -> None:
    """Gives the small disk another size."""
    on(lab, machine, f"mount -o remount,size={size} {folder}")


def look(lab: Lab, *about: str) -> dict[str, str]:
    """The open alarms of these names and their verdicts, after a look of watch."""
    code, said = let_watch(lab, "metrics")
    assert code == 0, said
    found = alarms(lab)[1]
    return {name: found[name]["alarm"]["verdict"] for name in about if name in found}


def test_a_store_whose_disk_is_full_loses_nothing(lab: Lab, alice: tuple[str, str]) -> None:
    store, word = the(lab, Role.STORE).name, token()
    assert look(lab, f"disk {store}") == {}
    with small(lab, store, MAIL, 64, "dovecot.service"):
        on(
            lab,
            store,
            f"used=$(du -sk {MAIL} | cut -f1); mount -o remount,size=$((used + 300))k {MAIL}",
        )
        assert mail.deliver(lab, message(CAROL, alice[0], word), padding=600_000)[0] == 250
        until(
            lab, store, f"postqueue -p | grep -q {CAROL}", "it does not wait in the store's queue"
        )
        on(lab, store, f"head -c 10m /dev/zero >{MAIL}/filler || true")
        assert look(lab, f"disk {store}") == {f"disk {store}": "failed"}
        room(lab, store, MAIL, "4g")
        assert mail.inbox(lab, *alice, word, patience=PATIENCE)
        on(lab, store, f"rm {MAIL}/filler")
        assert look(lab, f"disk {store}") == {}


def until(lab: Lab, machine: str, command: str, words: str, patience: float = PATIENCE) -> None:
    """Waits for a command to succeed on a machine."""
    eventually(lambda: lab.run(machine, ["sh", "-c", command]).code == 0, words, patience)


def test_a_gateway_whose_disk_is_full_asks_senders_to_come_again(
    lab: Lab, alice: tuple[str, str]
) -> None:
    gateway, word = the(lab, Role.GATEWAY_IN).name, token()
    from_carol = (f"MAIL FROM:<{CAROL}>",)
    assert mail.talk(lab, from_carol)[0][0] == 250
    with small(lab, gateway, SPOOL, 256, "postfix.service"):
        on(lab, gateway, f"head -c 250m /dev/zero >{SPOOL}/filler || true")
        code, text = mail.talk(lab, from_carol)[0]
        assert code == 452, text
        assert look(lab, f"disk {gateway}") == {f"disk {gateway}": "failed"}
        on(lab, gateway, f"rm {SPOOL}/filler")
        assert mail.deliver(lab, message(CAROL, alice[0], word))[0] == 250
        assert look(lab, f"disk {gateway}") == {}
    assert mail.inbox(lab, *alice, word)


def test_a_watch_whose_disk_is_full_is_told(lab: Lab) -> None:
    watch = the(lab, Role.WATCH).name
    with small(lab, watch, LOGS, 512, "syslog.socket", "rsyslog.service"):
        assert look(lab, f"disk {watch}") == {}
        on(lab, watch, f"head -c 500m /dev/zero >{LOGS}/filler || true")
        assert look(lab, f"disk {watch}") == {f"disk {watch}": "failed"}
        on(lab, watch, f"rm {LOGS}/filler")
        assert look(lab, f"disk {watch}") == {}


def test_a_watch_that_cannot_write_says_so_all_the_same(lab: Lab) -> None:
    watch = the(lab, Role.WATCH).name
    subject = f"[{lab.site.name}] {watch}: its disk is full"
    admin = lab.site.admin_mail
    before = len(mail.inbox(lab, admin, lab.accounts[admin], subject, count=0, patience=0))
    with small(lab, watch, FOLDER, 64):
        on(lab, watch, f"head -c 70m /dev/zero >{FOLDER}/filler || true")
        assert let_watch(lab, "metrics")[0] != 0
        found = mail.inbox(lab, admin, lab.accounts[admin], subject, count=before + 1)
        assert len(found) == before + 1
        on(lab, watch, f"rm {FOLDER}/filler")
        assert let_watch(lab, "metrics")[0] == 0


def test_in_quiet_hours_what_is_critical_is_told_and_the_rest_when_they_are_over(lab: Lab) -> None:
    """A unit that has failed is told when it is so at two looks; a full disk at once."""
    webmail, now = the(lab, Role.WEBMAIL).name, datetime.now(UTC)
    unit, disk = f"units {webmail}", f"disk {webmail}"
    quiet = "-".join(f"{now + timedelta(hours=it):%H:%M}" for it in (-2, 2))
    admin = lab.site.admin_mail

    def told(words: str, count: int = 0) -> int:
        subject = f"[{lab.site.name}] {webmail}: {words}"
        return len(mail.inbox(lab, admin, lab.accounts[admin], subject, count=count))

    failed, full, room, well = (
        told(it)
        for it in ("a unit has failed", "its disk is full", "its disk has room", "all units run")
    )
    try:
        with tuned(lab, f'[alarms]\nquiet = "{quiet}"\n'):
            lab.run(webmail, ["systemd-run", "--quiet", "--unit=sabotage", "false"])
            with small(lab, webmail, "/tmp", 16):
                on(lab, webmail, "head -c 16m /dev/zero >/tmp/filler || true")
                assert look(lab, unit, disk) == {disk: "failed"}, (
                    "one look is not enough for a unit"
                )
            assert look(lab, unit, disk) == {unit: "failed"}
            assert told("its disk is full", full + 1) == full + 1
            assert alarms(lab)[1][unit]["told"] is None
            # It comes after what was sent before it: had it been sent, it were here.
            assert told("its disk has room", room + 1) == room + 1
            assert told("a unit has failed") == failed
        assert let_watch(lab, "late")[0] == 0
        assert told("a unit has failed", failed + 1) == failed + 1
        assert alarms(lab)[1][unit]["told"]
    finally:
        lab.run(webmail, ["systemctl", "reset-failed", "sabotage.service"])
    assert look(lab, unit) == {}
    assert told("all units run", well + 1) == well + 1


def test_without_names_mail_waits_and_somebody_hears_of_it(
    lab: Lab, alice: tuple[str, str]
) -> None:
    gateway, word = the(lab, Role.GATEWAY_IN).name, token()
    on(lab, gateway, "systemctl stop unbound.service")
    try:
        envelope = (f"MAIL FROM:<{CAROL}>", f"RCPT TO:<{alice[0]}>")
        codes = [code for code, _ in mail.talk(lab, envelope)]
        assert max(codes) // 100 == 4, codes
        assert look(lab, f"names {gateway}") == {}, "one look is not enough"
        assert look(lab, f"names {gateway}") == {f"names {gateway}": "failed"}
    finally:
        on(lab, gateway, "systemctl start unbound.service")
    # It remembers nothing: the first names take it long on a busy box.
    until(lab, gateway, f"getent hosts {outside.MX}", "it finds no names")
    assert mail.deliver(lab, message(CAROL, alice[0], word))[0] == 250
    assert look(lab, f"names {gateway}") == {}


def test_a_user_hears_that_the_mailbox_is_nearly_full(lab: Lab) -> None:
    user = f"{token()}@{lab.site.domains[0]}", token()
    lab.mastio("user", "add", user[0], "--password-stdin", "--quota", "1", stdin=user[1] + "\n")
    try:
        assert mail.deliver(lab, message(CAROL, user[0], token()), padding=400_000)[0] == 250
        word = token()
        assert mail.deliver(lab, message(CAROL, user[0], word), padding=300_000)[0] == 250
        assert mail.inbox(lab, *user, word)
        assert not mail.inbox(lab, *user, "nearly full", patience=0)
        assert mail.deliver(lab, message(CAROL, user[0], token()), padding=250_000)[0] == 250
        (note,) = mail.inbox(lab, *user, "nearly full")
        assert "90 %" in note.as_string()
    finally:
        lab.mastio("user", "delete", user[0], "--purge")


def expired(lab: Lab, machine: str) -> bytes:
    """The machine's own certificate, as it would be had it run out yesterday."""
    vault = App(str(lab.folder)).vault
    old = x509.load_pem_x509_certificate(lab.run(machine, ["cat", f"{PKI}/host.pem"]).stdout)
    key = serialization.load_pem_private_key(vault["ca/key"].encode(), None)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(old.subject).issuer_name(old.issuer).public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(yesterday - timedelta(days=30)).not_valid_after(yesterday)
    )  # fmt: skip
    for it in old.extensions:
        made = made.add_extension(it.value, it.critical)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", [Role.STORE, Role.GATEWAY_IN])
def test_mail_waits_while_a_certificate_is_out_of_date(
    lab: Lab, alice: tuple[str, str], role: Role
) -> None:
    machine, gateway, word = the(lab, role).name, the(lab, Role.GATEWAY_IN).name, token()
    former = lab.run(machine, ["cat", f"{PKI}/host.pem"]).stdout
    put = ["tee", f"{PKI}/host.pem"]
    late = expired(lab, machine)
    try:
        assert lab.run(machine, put, late).code == 0
        on(lab, machine, "systemctl restart postfix.service")
        assert mail.deliver(lab, message(CAROL, alice[0], word))[0] == 250
        waits = f"postqueue -j | grep {CAROL} | grep -q '\"deferred\"'"
        until(lab, gateway, waits, "it does not wait at the gateway")
        assert not mail.inbox(lab, *alice, word, patience=3), "an expired certificate is believed"
    finally:
        assert lab.run(machine, put, former).code == 0
        on(lab, machine, "systemctl restart postfix.service")
    assert mail.inbox(lab, *alice, word, patience=PATIENCE)
