"""A virus scanner that cannot look to the end says so: nothing passes because it was slow, starved or short of room.

Each message is shown beside its clean twin, and each fault ends without hands once its cause is gone.
`test_scanners_die` has the same under load, with scanners that are killed and stopped.
"""

import io
import json
import random
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage

import pytest

from mastio import services
from mastio.context import Internet
from mastio.lab import outside
from mastio.roles.gateway.scanners import SCAN_SECONDS
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, the, token
from tests.lab.patience import at_last
from tests.lab.sabotage import RSPAMD, hung, on
from tests.lab.test_filter import EICAR, attached, returned
from tests.lab.test_quarantine import held
from tests.unit.roles.test_gateway import built, text

pytestmark = pytest.mark.lab

CONF = "/etc/clamav/clamd.conf"
CLAMD = "clamav-daemon.service"
LUA = "/etc/rspamd/lua.local.d"
ALLOWED = f"{SCAN_SECONDS}s"
LIMITS = ("/etc/rspamd/local.d/options.inc", "/etc/rspamd/local.d/worker-proxy.inc")
"""Where it stands how long a scan may take: ALLOWED."""


def nested(depth: int) -> bytes:
    """The test virus, so many archives deep."""
    data = EICAR.encode()
    for number in range(depth):
        data = packed(f"{number}.zip" if number else "a.txt", data)
    return data


def packed(name: str, data: bytes, *more: tuple[str, bytes]) -> bytes:
    """An archive, small where it can be."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for its_name, its_data in ((name, data), *more):
            archive.writestr(its_name, its_data)
    return buffer.getvalue()


def zipped(to: str, data: bytes, word: str = "") -> EmailMessage:
    return attached("a.zip", data, CAROL, to, word or token())


def send(lab: Lab, to: str, data: bytes, word: str = "") -> tuple[int, str]:
    return mail.deliver(lab, zipped(to, data, word))


def soon(lab: Lab, letter: EmailMessage, code: int) -> None:
    """The same message gets this answer before long; a scanner that is too slow now asks to come again."""
    said = at_last(lambda: mail.deliver(lab, letter), lambda it: it[0] == code)
    assert said[0] == code, said


@contextmanager
def clamd(lab: Lab, *settings: str) -> Iterator[None]:
    """ClamAV's daemon with other settings for a while."""
    gateway = the(lab, Role.GATEWAY_IN).name
    begin = f"systemctl restart {CLAMD}; for i in $(seq 100); do clamdscan --ping 1 && break; sleep 0.1; done"

    def run(script: str, stdin: bytes = b"") -> None:
        assert lab.run(gateway, ["sh", "-c", f"{script}; {begin}"], stdin).code == 0

    before = lab.run(gateway, ["cat", CONF]).stdout
    keys = {it.partition(" ")[0].encode() for it in settings}
    kept = [it for it in before.splitlines() if it.partition(b" ")[0] not in keys]
    try:
        run(f"cat > {CONF}", b"\n".join([*kept, *(it.encode() for it in settings), b""]))
        yield
    finally:
        run(f"cat > {CONF}", before)


def test_an_archive_too_deep_to_be_looked_through_is_filed_away(
    lab: Lab, alice: tuple[str, str]
) -> None:
    word = token()
    assert send(lab, alice[0], nested(12))[0] == 554, "as deep as it looks, it finds what is there"
    assert send(lab, alice[0], nested(25), word)[0] == 250
    (entry,) = held(lab, word)
    assert "not looked through" in entry["reason"]
    assert not mail.inbox(lab, *alice, word, patience=1)
    lab.mastio("quarantine", "delete", "--yes", entry["id"])


def test_a_file_in_an_archive_that_is_looked_at_in_part_only_is_filed_away(
    lab: Lab, alice: tuple[str, str]
) -> None:
    large, word = b"\0" * 60_000_000, token()
    for inner in (packed("a.bin", large), packed("b.zip", packed("a.bin", large))):
        soon(lab, zipped(alice[0], inner, word), 250)
    entries = held(lab, word, 2)
    assert len(entries) == 2
    for entry in entries:
        assert "not looked through" in entry["reason"]
        lab.mastio("quarantine", "delete", "--yes", entry["id"])
    clean = token()
    soon(lab, zipped(alice[0], packed("a.bin", large[:5_000_000]), clean), 250)
    assert mail.inbox(lab, *alice, clean)


def test_who_is_too_slow_to_look_to_the_end_asks_to_come_again(
    lab: Lab, alice: tuple[str, str]
) -> None:
    slow = attached("a.zip", packed("a.bin", b"\0" * 20_000_000), CAROL, alice[0], token())
    with clamd(lab, "MaxScanTime 1"):
        code, text = mail.deliver(lab, slow)
        assert code == 451 and "scanner" in text, (code, text)
    soon(lab, slow, 250)


def test_who_answers_with_an_error_has_found_nothing_clean(
    lab: Lab, alice: tuple[str, str]
) -> None:
    """Rspamd itself takes what is neither OK nor FOUND for nothing, and the message passes."""
    noise = random.Random(1).randbytes(9000)
    bad, good = packed("a.txt", EICAR.encode(), ("b.bin", noise)), packed("b.bin", noise)
    assert send(lab, alice[0], bad)[0] == 554
    with clamd(lab, "StreamMaxLength 1K"):  # "INSTREAM size limit exceeded. ERROR"
        for archive in (bad, good):
            code, said = send(lab, alice[0], archive)
            assert code == 451 and "scanner" in said, (code, said)
    soon(lab, attached("a.zip", good, CAROL, alice[0], token()), 250)
    assert send(lab, alice[0], bad)[0] == 554


def test_who_has_no_room_to_work_asks_to_come_again(lab: Lab, alice: tuple[str, str]) -> None:
    gateway = the(lab, Role.GATEWAY_IN).name

    def allow(mode: str) -> None:
        script = f"chmod {mode} /tmp/systemd-private-*-{CLAMD}-*/tmp"
        assert lab.run(gateway, ["sh", "-c", script]).code == 0

    allow("0")
    try:
        for text in ("Good day.", EICAR):
            code, said = mail.deliver(lab, message(CAROL, alice[0], token(), text))
            assert code == 451 and "scanner" in said, (code, said)
    finally:
        allow("1777")
    soon(lab, message(CAROL, alice[0], token(), EICAR), 554)
    soon(lab, message(CAROL, alice[0], token()), 250)


@pytest.mark.parametrize(
    ("unit", "word"), [("clamav-daemon", "scanner"), ("rspamd", "unavailable")]
)
def test_who_hangs_lets_nothing_pass(
    lab: Lab, alice: tuple[str, str], unit: str, word: str
) -> None:
    """ClamAV: both tries of Rspamd (antivirus.conf). Rspamd: as long as Postfix waits (milter_command_timeout)."""
    letter = message(CAROL, alice[0], token())
    steps = (f"MAIL FROM:<{CAROL}>", f"RCPT TO:<{alice[0]}>", "DATA")
    with hung(lab, the(lab, Role.GATEWAY_IN).name, unit):
        replies = mail.talk(lab, steps, letter.as_string())
        code, said = next((it for it in replies if it[0] != 250), (0, f"passed: {replies}"))
        assert 400 <= code < 500 and word in said, (code, said)
    soon(lab, letter, 250)
    soon(lab, message(CAROL, alice[0], token(), EICAR), 554)


@contextmanager
def slow(lab: Lab, kind: str, seconds: int, limit: str) -> Iterator[None]:
    """A rule of Rspamd that waits so long with every message, where a scan may take `limit`."""
    gateway, rule = the(lab, Role.GATEWAY_IN).name, f"{LUA}/zz_slow.lua"
    lua = f"""rspamd_config:register_symbol {{
      name = "LAB_SLOW", type = "{kind}", score = 0, flags = "empty,nostat",
      callback = function(task) task:add_timer({seconds}.0, function() end) end,
    }}"""
    saved = on(lab, gateway, f"tar -cP {' '.join(LIMITS)} | base64")
    try:
        shorter = f"sed -i -E 's/^( *(task_)?timeout = ){ALLOWED};/\\1{limit};/' {' '.join(LIMITS)}"
        on(lab, gateway, f"cat > {rule}; {shorter}; {RSPAMD}", lua.encode())
        yield
    finally:
        on(lab, gateway, f"rm {rule}; base64 -d | tar -xP; {RSPAMD}", saved.encode())


@pytest.mark.parametrize("kind", ["normal", "postfilter"])
def test_a_scan_that_outlasts_its_time_lets_nothing_pass(
    lab: Lab, alice: tuple[str, str], kind: str
) -> None:
    letter = message(CAROL, alice[0], token())
    with slow(lab, kind, 12, "3s"):
        code, said = mail.deliver(lab, letter)
        assert code == 451 and "timeout" in said, (code, said)
    # Its twin: the same rule, within its time.
    with slow(lab, kind, 2, ALLOWED):
        soon(lab, letter, 250)


def waiting(lab: Lab) -> list[str]:
    """Why messages wait in the store's queue."""
    output = lab.run(the(lab, Role.STORE).name, ["postqueue", "-j"]).stdout
    return [
        recipient.get("delay_reason", "")
        for line in output.splitlines()
        for recipient in json.loads(line)["recipients"]
    ]


def test_who_hangs_lets_nothing_leave(lab: Lab, alice: tuple[str, str]) -> None:
    """What a user has sent waits with the store until the scanner has looked; then a virus goes back to its sender."""
    clean, bad = token(), token()
    with hung(lab, the(lab, Role.GATEWAY_OUT).name, "clamav-daemon"):
        for word, words in ((clean, "Good day."), (bad, EICAR)):
            assert mail.submit(lab, *alice, message(alice[0], CAROL, word, words))[0] == 250
        why = at_last(lambda: waiting(lab), lambda it: sum("scanner" in one for one in it) == 2)
        assert sum("scanner" in one for one in why) == 2, why
        for word in (clean, bad):
            assert not mail.at_carols(lab, word, patience=0)
    assert mail.at_carols(lab, clean)
    assert "malware" in returned(lab, alice, bad)
    assert not mail.at_carols(lab, bad, patience=0)


def test_signatures_come_through_watchs_proxy_and_from_the_sites_mirrors_alone(lab: Lab) -> None:
    """freshclam with the site's settings fetches a file of the lab: nobody but ClamAV can sign those of its mirrors."""
    gateway, watch = the(lab, Role.GATEWAY_IN).name, the(lab, Role.WATCH).name
    place, served, name = "/var/lib/clamav/test", "/var/lib/signatures-test", "lab.ndb"
    settings = text(built(lab.site, gateway, Internet()), "/etc/clamav/freshclam.conf")
    others = ("NotifyClamd", "MaxAttempts", "DatabaseDirectory")
    kept = [it for it in settings.splitlines() if it.split()[0] not in others]
    own = (
        f"DatabaseDirectory {place}",
        "MaxAttempts 1",
        f"DatabaseCustomURL https://{outside.MX}/{name}",
        *(f"ExcludeDatabase {it}" for it in ("main", "daily", "bytecode")),
    )
    config = "\n".join((*kept, *own, "")).encode()
    signature = f"Lab.{token()}:0:*:{token().encode().hex()}"
    trusted = lab.run(outside.MACHINE, ["cat", outside.TRUSTED]).stdout
    on(lab, gateway, f"mkdir {place}; chown clamav: {place}; cat > {place}.conf", config)
    on(lab, gateway, f"cat > {place}.pem", trusted)
    fetch = (
        f"CURL_CA_BUNDLE={place}.pem freshclam --config-file={place}.conf --stdout 2>&1 || true; "
        f"cat {place}/{name} || true"
    )
    serve = (
        f"mkdir {served}; echo '{signature}' > {served}/{name}; systemctl stop nginx.service; "
        f"systemd-run --quiet --collect --unit=signatures-test --working-directory={served} "
        f"openssl s_server -accept {services.HTTPS.port} -cert /etc/exim4/tls.pem -key /etc/exim4/tls.key -WWW"
    )
    file = lab.folder / "site.toml"
    before = file.read_text()
    try:
        on(lab, outside.MACHINE, serve)
        said = on(lab, gateway, fetch)
        assert "Connecting via watch" in said and signature not in said, said
        file.write_text(f'{before}\n[proxy]\nmirrors = ["{outside.MX}"]\n')
        lab.mastio("apply", "--yes", watch)
        # The proxy that apply has started anew may not listen yet.
        said = at_last(lambda: on(lab, gateway, fetch), lambda it: signature in it, rest=0)
        assert signature in said, said
    finally:
        file.write_text(before)
        lab.mastio("apply", "--yes", watch)
        on(lab, gateway, f"rm -rf {place} {place}.conf {place}.pem")
        end = f"systemctl stop signatures-test; systemctl start nginx.service; rm -rf {served}"
        on(lab, outside.MACHINE, end)
