"""Watch verifies by itself: what it finds is kept and told, its key can only look, and its silence is heard."""

import json
import shlex
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from mastio import services
from mastio.context import ALARMS, PKI
from mastio.lab import internet, outside
from mastio.roles.inspection import FOLDER, METRICS
from mastio.site.model import Role
from mastio.verify.checks.content import SIGNATURES
from mastio.verify.scheduled import LOOKING
from tests.lab.arrivals import talk
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, at_carols, inbox, remote, the
from tests.lab.sabotage import on, signatures
from tests.lab.test_status import metric
from tests.lab.test_verify import NOT_HERE
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

_KNOWN = "sysctl -qw net.ipv4.conf.all.accept_redirects"
"""What H4 looks at."""


@pytest.fixture(scope="module", autouse=True)
def blank(lab: Lab) -> Iterator[None]:
    """Watch has looked at nothing yet, and told nobody of anything."""
    watch = the(lab, Role.WATCH).name
    words = shlex.join(("mailbox", "INBOX", "subject", f"[{lab.site.name}]"))
    for address in lab.accounts:
        on(lab, the(lab, Role.STORE).name, f"doveadm expunge -u {address} {words}")
    lab.run(watch, ["sh", "-c", f"rm -rf {FOLDER}/* {ALARMS}/*"])
    talk(lab)  # L1 counts on it
    yield
    lab.run(watch, ["sh", "-c", f"rm -rf {FOLDER}/* {ALARMS}/*"])


def let_watch(lab: Lab, what: str) -> tuple[int, str]:
    """What its timer would start; how it ended, and what it said."""
    watch, unit = the(lab, Role.WATCH).name, f"mastio-verify@{what}.service"
    done = lab.transport.run(watch, ["systemctl", "start", unit], timeout=1200)
    said = f"journalctl --sync || true; journalctl -u {unit} -n 12 -o cat --no-pager"
    return done.code, on(lab, watch, said)


def scheduled(lab: Lab) -> tuple[int, dict[str, Any]]:
    done = mastio(lab.folder, "verify", "--scheduled", "--json")
    return done.returncode, json.loads(done.stdout)


def alarms(lab: Lab) -> tuple[int, dict[str, Any]]:
    done = mastio(lab.folder, "alarms", "--json")
    return done.returncode, json.loads(done.stdout)["open"]


def told(lab: Lab, words: str, count: int = 1) -> list[Any]:
    """Mail in the administrator's mailbox with such a subject."""
    admin = lab.site.admin_mail
    return inbox(lab, admin, lab.accounts[admin], words, count=count)


def test_before_it_has_looked_nothing_is_green(lab: Lab) -> None:
    code, found = scheduled(lab)
    assert code == 69
    assert found["fast"] == {"report": None, "late": True}


def test_it_looks_from_every_machine_and_says_what_changed(lab: Lab) -> None:
    code, said = let_watch(lab, "fast")
    assert code == 0, said
    found = scheduled(lab)[1]["fast"]
    assert not found["late"]
    verdicts: dict[str, list[str]] = {}
    for it in found["report"]["findings"]:
        verdicts.setdefault(it["verdict"], []).append(
            f"{it['check']}@{it['vantage']}: {it['seen']}"
        )
    assert not verdicts.get("failed") and not verdicts.get("could not check"), verdicts
    assert {it.partition("@")[2].partition(":")[0] for it in verdicts["passed"]} == {
        it.name for it in lab.site.machines
    }
    # What only an outsider sees, what calls one (N5), and what the lab has not.
    silent = (*NOT_HERE, "N5")
    assert all("@outside" in it or it.startswith(silent) for it in verdicts["not run"])

    # What it scanned is in the digest, and no news there.
    digest = json.loads(mastio(lab.folder, "digest", "--json", "--since", "3h").stdout)
    assert digest["summary"]["counts"]["scanned"] > 0
    assert on(lab, the(lab, Role.WATCH).name, f"ls {FOLDER}/{LOOKING} 2>&1 || true").endswith(
        "No such file or directory\n"
    )

    store = the(lab, Role.STORE).name
    on(lab, store, f"{_KNOWN}=1")
    try:
        assert let_watch(lab, "fast")[0] == 0
    finally:
        on(lab, store, f"{_KNOWN}=0")
    code, found = scheduled(lab)
    assert code == 1 and found["fast"]["report"]["verdict"] == "failed"
    (mail,) = told(lab, f"[{lab.site.name}] NOT as it should be: H4")
    text = mail.get_payload(decode=True).decode()
    assert f"H4@{store}: was passed, is failed" in text and "accept_redirects" in text
    assert metric(lab, "verify_bad", set="fast") == 1
    code, book = alarms(lab)
    assert "nobody has answered: verify fast" in mastio(lab.folder, "status").stdout
    assert code == 1 and book["verify fast"]["told"] and not book["verify fast"]["answered"]
    assert let_watch(lab, "fast")[0] == 0
    assert told(lab, f"[{lab.site.name}] well again: H4"), scheduled(lab)
    assert let_watch(lab, "fast")[0] == 0
    assert len(told(lab, f"[{lab.site.name}]")) == 2, "no news is no mail"
    assert alarms(lab) == (0, {})


_ODD = r"""
import socket, time
with open("/proc/self/comm", "wb") as file:
    file.write(b"\xff\x1b[2J")
door = socket.socket()
door.bind(("", 4711))
door.listen()
time.sleep(1000)
"""
"""A program with a name that is no UTF-8 and would clear a screen; it listens where it should not."""


def test_what_an_odd_program_says_is_told_and_all_else_with_it(lab: Lab) -> None:
    store, webmail = the(lab, Role.STORE).name, the(lab, Role.WEBMAIL).name
    assert let_watch(lab, "fast")[0] == 0
    opened = "grep -q ':1267 00000000:0000 0A' /proc/net/tcp"
    start = f"systemd-run --quiet --unit=odd python3 -c {shlex.quote(_ODD)}"
    on(lab, webmail, f"{start}; until {opened}; do sleep 0.1; done")
    on(lab, store, f"{_KNOWN}=1")
    try:
        code, said = let_watch(lab, "fast")
    finally:
        on(lab, webmail, "systemctl stop odd.service")
        on(lab, store, f"{_KNOWN}=0")
    assert code == 0, said
    (mail,) = told(lab, f"[{lab.site.name}] NOT as it should be: H1, H4")
    text = mail.get_payload(decode=True).decode()
    assert rf"{webmail}: \xff\x1b[2J listens on 0.0.0.0 4711/tcp" in text, text
    assert "accept_redirects" in text and text.replace("\n", "").replace("\r", "").isprintable()
    shown = mastio(lab.folder, "verify", "--scheduled")
    assert r"\xff\x1b[2J listens" in shown.stdout and "\x1b[2J" not in shown.stdout
    assert let_watch(lab, "fast")[0] == 0
    assert told(lab, f"[{lab.site.name}] well again: H1, H4")
    assert alarms(lab) == (0, {})


def test_signatures_that_grow_old_are_told_by_their_age(lab: Lab) -> None:
    gateway = the(lab, Role.GATEWAY_IN).name

    def seen() -> tuple[int, list[list[Any]]]:
        done = mastio(lab.folder, "verify", "--only", "C5", "--json")
        findings = json.loads(done.stdout)["findings"]
        return done.returncode, [[it["verdict"], it["seen"]] for it in findings]

    old = [f"{gateway}: the daily signatures are 9 days old"]
    try:
        on(lab, gateway, signatures(daily=2))
        assert seen() == (0, [["passed", []]])
        on(lab, gateway, signatures(daily=9))
        assert seen() == (1, [["failed", old]])
        # What stands there is no signature that clamd could load; two hours long that may be so.
        on(lab, gateway, f"{signatures(daily=2)}; touch -d '-3 hours' {SIGNATURES}/daily.cvd")
        unloaded = (
            f"{gateway}: the scanner has not loaded the daily signatures 1, which came 3 h ago"
        )
        assert seen() == (1, [["failed", [unloaded]]])
        on(lab, gateway, signatures(daily=9))
        assert let_watch(lab, "fast")[0] == 0
        (found,) = [
            it["seen"]
            for it in scheduled(lab)[1]["fast"]["report"]["findings"]
            if it["check"] == "C5"
        ]
        assert found == old
        assert alarms(lab)[1]["verify fast"]["told"]
        (mail,) = told(lab, f"[{lab.site.name}] NOT as it should be: C5")
        assert old[0] in mail.get_payload(decode=True).decode()
        on(lab, gateway, signatures(daily=2))
        assert let_watch(lab, "fast")[0] == 0
        assert told(lab, f"[{lab.site.name}] well again: C5"), scheduled(lab)
        assert alarms(lab) == (0, {})
    finally:
        on(lab, gateway, signatures())


def test_its_key_can_only_look(lab: Lab) -> None:
    watch = the(lab, Role.WATCH).name
    store = the(lab, Role.STORE).name
    ssh = json.loads(on(lab, watch, "cat /etc/mastio/inspection.json"))["ssh"][store]
    call = shlex.join(ssh)
    assert lab.run(watch, ["sh", "-c", f"{call} true"]).code == 0
    for wish in ("id", "cat /etc/mastio/pki/host.key", "true extra", ""):
        refused = lab.run(watch, ["sh", "-c", f"{call} -- {shlex.quote(wish)} </dev/null"])
        assert refused.code == 77, wish
        assert b"refused" in refused.stderr and not refused.stdout
    # Neither a shell's tricks, nor forwarding, nor a program of one's own.
    tricks = lab.run(watch, ["sh", "-c", f"{call} 'true; id'"])
    assert tricks.code == 77 and not tricks.stdout
    forward = [*ssh[:-1], "-o", "ExitOnForwardFailure=yes", "-W", "127.0.0.1:25", ssh[-1]]
    assert lab.run(watch, ["sh", "-c", f"{shlex.join(forward)} </dev/null"]).code != 0
    boot = json.loads(on(lab, store, "cat /etc/mastio/look.json"))["boot"]
    own = b"import os; os.system('id')"
    parcel = b"%d\n0\n%b" % (len(own), own)
    refused = lab.run(watch, [*ssh, shlex.join(boot)], parcel)
    assert refused.code == 77 and b"not a program that may be run" in refused.stderr
    script = f"until grep -rhq 'mastio-look.*refused' /var/log/remote/{store}/; do sleep 0.3; done"
    on(lab, watch, f"timeout 200 sh -c {shlex.quote(script)}")


def test_an_alarm_waits_while_the_store_is_away_and_silence_is_one(lab: Lab) -> None:
    watch, store = the(lab, Role.WATCH).name, the(lab, Role.STORE).name
    subject = f"[{lab.site.name}] verification has not run: fast"
    old = 'sed -i \'0,/began/s/\\("began": "\\)[^"]*/\\12026-01-01T00:00:00+00:00/\''
    on(
        lab,
        watch,
        f"{old} {FOLDER}/fast.json; touch -d '-4 hours' {FOLDER}/fast.json; touch {FOLDER}/full.json",
    )
    on(lab, store, "systemctl stop postfix.service")
    try:
        code, said = let_watch(lab, "late")
        assert code != 0 and "alarms wait, 1 by mail" in said
    finally:
        on(lab, store, "systemctl start postfix.service")
    code, found = scheduled(lab)
    assert code != 0 and found["fast"]["late"] and found["fast"]["report"]
    assert found["full"] == {"report": None, "late": True}
    code, said = let_watch(lab, "late")
    assert code == 0, said
    assert len(told(lab, subject)) == 1
    assert let_watch(lab, "late")[0] == 0
    assert len(told(lab, subject)) == 1, "once is enough"


def test_outside_hears_it_while_the_store_is_away(lab: Lab) -> None:
    watch, store = the(lab, Role.WATCH).name, the(lab, Role.STORE).name
    late = f"rm -f {ALARMS}/*; touch -d '-4 hours' {FOLDER}/fast.json; touch {FOLDER}/full.json"
    with tuned(lab, f'[alarms]\noutside = ["{CAROL}"]\n'):
        lab.run(outside.MACHINE, ["find", outside.MAILDIR, "-type", "f", "-delete"])
        on(lab, store, "systemctl stop postfix.service dovecot.service")
        try:
            on(lab, watch, late)
            code, said = let_watch(lab, "late")
            assert code != 0 and "alarms wait, 1 by mail" in said and "by outside" not in said
            (mail,) = at_carols(lab, "verification has not run: fast")
            stuck = mastio(lab.folder, "alarms")
            assert stuck.returncode == 1 and "mail does not work" in stuck.stdout
            assert "alarms do not leave by mail since" in mastio(lab.folder, "status").stdout
        finally:
            on(lab, store, "systemctl start postfix.service dovecot.service")
        assert f"d={lab.site.domains[0]};" in str(mail["DKIM-Signature"])
        assert mail["From"] == f"mastio <postmaster@{lab.site.domains[0]}>"
        # What it may hand over is alarms: nobody else's name, nobody else's mailbox.
        for sender, to in (
            (f"alice@{lab.site.domains[0]}", CAROL),
            ("postmaster", "x@outside.test"),
        ):
            code, said = handed_over(lab, watch, sender, to)
            assert code == 554 and "denied" in said, (code, said)
        assert let_watch(lab, "late")[0] == 0


def handed_over(lab: Lab, watch: str, sender: str, to: str) -> tuple[int, str]:
    """What the gateway answers watch to a recipient."""
    sender = sender if "@" in sender else f"{sender}@{lab.site.domains[0]}"
    gateway = the(lab, Role.GATEWAY_OUT).name
    where = (lab.site.internal_name(gateway), services.RELAY.port, PKI, sender, to)
    program = (
        "import smtplib, ssl, sys; host, port, pki, sender, to = sys.argv[1:];"
        "c = ssl.create_default_context(cafile=pki + '/ca.pem');"
        "c.load_cert_chain(pki + '/host.pem', pki + '/host.key');"
        "s = smtplib.SMTP(host, int(port), timeout=60); s.starttls(context=c); s.ehlo();"
        "s.mail(sender); print(*s.rcpt(to))"
    )
    done = lab.run(watch, ["python3", "-c", program, *map(str, where)])
    code, _, said = done.stdout.decode().partition(" ")
    return int(code), said


def hook(certificate: str, key: str, address: str, port: int, seconds: float) -> str:
    """Listen for one request; its body, of a GET its path."""
    import http.server
    import ssl
    import threading

    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.done(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def do_GET(self) -> None:
            self.done(self.path)

        def done(self, what: str) -> None:
            heard.append(what)
            self.send_response(204)
            self.end_headers()

    server = http.server.HTTPServer((address, port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.timeout = seconds
    worker = threading.Thread(target=server.handle_request)
    worker.start()
    worker.join(seconds + 5)
    server.server_close()
    return heard[0] if heard else ""


@contextmanager
def listening(lab: Lab) -> Iterator["Future[str]"]:
    """Outside somebody listens to https for a while; what is heard first."""
    address = str(next(it for it in internet.mta(lab.site) if it.version == 4))
    on(lab, outside.MACHINE, "systemctl stop nginx.service")
    try:
        with ThreadPoolExecutor() as pool:
            ear = pool.submit(
                remote, lab, outside.MACHINE, hook, certificate="/etc/exim4/tls.pem", key="/etc/exim4/tls.key",
                address=address, port=services.HTTPS.port, seconds=250,
            )  # fmt: skip
            opened = f"grep -q ':{services.HTTPS.port:04X} 00000000:0000 0A' /proc/net/tcp"
            on(lab, outside.MACHINE, f"until {opened}; do sleep 0.1; done")
            yield ear
    finally:
        # Not before the other has left the port.
        on(lab, outside.MACHINE, "systemctl start nginx.service")


def test_a_webhook_hears_it_and_somebody_hears_that_watch_is_there(lab: Lab) -> None:
    watch = the(lab, Role.WATCH).name
    calls = (
        f'webhook = "https://{outside.MX}/alarm"\nheartbeat = "https://{outside.MX}/ping/secret"'
    )
    broken = f"{METRICS}/mastio.prom"
    with tuned(lab, f"[alarms]\n{calls}\n"):
        with listening(lab) as ear:
            on(lab, watch, f"rm -f {ALARMS}/*; touch -d '-5 hours' {FOLDER}/fast.json")
            code, said = let_watch(lab, "late")
            heard = json.loads(ear.result())
        assert code == 0, said
        assert heard["subject"] == f"[{lab.site.name}] verification has not run: fast"
        assert heard["verdict"] == "not run"

        with listening(lab) as ear:
            on(lab, watch, f"rm -f {broken}; mkdir -p {broken}")
            try:
                assert let_watch(lab, "metrics")[0] != 0
            finally:
                on(lab, watch, f"rmdir {broken}")
            assert not ear.done(), "a look that failed says nothing"
            assert let_watch(lab, "metrics")[0] == 0
            assert ear.result() == "/ping/secret"

        # Nobody answers: the look is as good as any, and the log says so, but not the whole URL.
        on(lab, outside.MACHINE, "systemctl stop nginx.service")
        try:
            code, said = let_watch(lab, "metrics")
        finally:
            on(lab, outside.MACHINE, "systemctl start nginx.service")
        assert code == 0 and f"did not reach {outside.MX}: " in said and "secret" not in said, said


def test_who_does_not_answer_is_told_on_until_somebody_does(lab: Lab) -> None:
    watch = the(lab, Role.WATCH).name
    other = list(lab.accounts.items())[1]
    table = f'[alarms]\nescalate_to = ["{other[0]}"]\nescalate_hours = 0.1\n'
    back = "import json, sys; p = sys.argv[1]; b = json.load(open(p)); " + "; ".join(
        (
            "[it.update(told=it['told'] - 600, urged=None) for it in b.values()]",
            "json.dump(b, open(p, 'w'))",
        )
    )
    late = f"touch -d '-4 hours' {FOLDER}/fast.json; touch {FOLDER}/full.json"
    with tuned(lab, table):
        on(lab, watch, f"rm -f {ALARMS}/*; {late}")
        assert let_watch(lab, "late")[0] == 0
        on(lab, watch, f"python3 -c {shlex.quote(back)} {ALARMS}/book.json")
        assert let_watch(lab, "late")[0] == 0
        assert len(inbox(lab, *other, "[unanswered for 0 h]")) == 1
        (about,) = alarms(lab)[1]
        lab.mastio("alarms", "ack", about, "--why", "it is a test")
        assert "it is a test" in alarms(lab)[1][about]["answered"]
        on(lab, watch, f"python3 -c {shlex.quote(back)} {ALARMS}/book.json")
        assert let_watch(lab, "late")[0] == 0
        on(lab, watch, f"touch {FOLDER}/fast.json")
        assert let_watch(lab, "late")[0] == 0
    assert told(lab, f"[{lab.site.name}] verification runs again: fast")
    assert len(inbox(lab, *other, "[unanswered for 0 h]")) == 1, "somebody was at it"
    assert alarms(lab) == (0, {})
    done = mastio(lab.folder, "alarms", "ack", "nothing", "--why", "x")
    assert done.returncode == 65 and "no alarm about 'nothing' is open" in done.stderr
