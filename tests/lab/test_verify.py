"""Verification on the real site: green when it is whole, and each check fires when what it guards is gone.

tests/lab/sabotage.py has the proof: what is broken, on which machine, and the checks that must fail; no others
may. What takes longer, or a test of its own, is below; I1 to I3 are in tests/lab/test_integrity.py.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from mastio import services
from mastio.accounts.passwords import hashed
from mastio.lab import outside
from mastio.lab.provider import Lab as Provider
from mastio.roles.bans import GUARD
from mastio.site.model import Role
from mastio.verify import registry
from mastio.verify.model import Family
from tests.lab import mail
from tests.lab.arrivals import talk
from tests.lab.borrowed import borrowed
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.sabotage import NGINX, SABOTAGE, UNBOUND, Sabotage, on, postfix, rounds, sabotaged
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

# It compares times, which a busy box spoils; its own test in tests/unit/verify needs no clock.
_TIMED = ("A3",)
# Nothing is there to look at: nobody has begun to measure (that is tests/lab/test_integrity.py) or to archive
# (test_backup.py, test_restore.py), no kernel, no lists of packages, no way to ClamAV, no tunnels between machines
# (test_joined.py) or for people's devices (test_clients.py), no tools of other people; no timer seals, listens or reads
# (test_logbook.py, test_digest.py), and a machine that has watch on it needs no name to write logs.
NOT_HERE = {
    "B1",
    "B2",
    "B3",
    "B4",
    "C5",
    "I1",
    "I2",
    "I3",
    "L2",
    "L3",
    "L4",
    "L5",
    "N10",
    "N9",
    "P1",
    "P3",
    "X1",
    "X2",
    "X3",
}
RESULTS = Path(__file__).parents[2] / "test-results"


def verify(lab: Lab, *options: str) -> dict[str, Any]:
    """Run `mastio verify --json`; its report."""
    done = mastio(lab.folder, "verify", "--json", *options)
    assert done.returncode in (0, 1, 69), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    report["code"] = done.returncode
    return report


def having(report: dict[str, Any], verdict: str) -> dict[str, list[str]]:
    """The checks with a verdict, and what was seen."""
    found: dict[str, list[str]] = {}
    for it in report["findings"]:
        if it["verdict"] == verdict:
            found.setdefault(it["check"], []).extend(f"{it['vantage']}: {x}" for x in it["seen"])
    return found


@pytest.fixture(scope="module", autouse=True)
def talking(lab: Lab) -> None:
    """L1 counts on it."""
    talk(lab)


@pytest.fixture(scope="module")
def green(lab: Lab) -> dict[str, Any]:
    """The healthy site's report, by the full set."""
    RESULTS.mkdir(exist_ok=True)
    return verify(lab, "--full", "--html", str(RESULTS / "verify.html"))


def test_a_healthy_site_is_green_by_the_fast_set(lab: Lab) -> None:
    report = verify(lab)
    assert not having(report, "failed") and not having(report, "could not check")
    assert set(having(report, "not run")) <= NOT_HERE
    assert report["code"] == 0
    print(f"fast set: {report['seconds']} s")


def test_a_healthy_site_is_green_by_the_full_set(green: dict[str, Any]) -> None:
    assert not having(green, "failed") and not having(green, "could not check")
    assert green["code"] == 0
    seen = {*having(green, "passed"), *having(green, "not run")}
    assert seen == {check.id for check in registry.CHECKS}
    assert set(having(green, "not run")) <= NOT_HERE
    print(f"full set: {green['seconds']} s")


def the_set_with(lab: Lab, expected: frozenset[str]) -> dict[str, Any]:
    """The report of the fast set and of these checks besides."""
    fast = {it.id for it in registry.CHECKS if not it.full and it.id not in _TIMED}
    report = verify(lab, "--only", ",".join(sorted(fast | expected)))
    print(json.dumps(having(report, "failed"), indent=1))
    return report


def alone(lab: Lab, *broken: Sabotage) -> dict[str, list[str]]:
    """What is broken makes exactly its checks fail, and none of them when it is whole again; what they saw."""
    expected = frozenset[str]().union(*(one.expected for one in broken))
    with sabotaged(lab, *broken):
        report = the_set_with(lab, expected)
    found = having(report, "failed")
    assert set(found) == expected, {key: found.get(key) for key in set(found) ^ expected}
    assert report["code"] == 1
    after = verify(lab, "--only", ",".join(sorted(expected)))
    assert not having(after, "failed"), having(after, "failed")
    return found


@pytest.mark.parametrize("broken", rounds(SABOTAGE), ids=lambda it: "+".join(x.name for x in it))
def test_what_is_broken_is_found_and_nothing_else(lab: Lab, broken: list[Sabotage]) -> None:
    alone(lab, *broken)


def test_a_weak_password_is_found(lab: Lab) -> None:
    script = (
        "import sqlite3, sys; address, password = sys.stdin.read().split(); "
        "base = sqlite3.connect('/var/lib/mastio/directory/directory.sqlite'); "
        "base.execute('UPDATE account SET password = ? WHERE address = ?', (password, address)); base.commit()"
    )
    admin = lab.site.admin_mail
    good = hashed(lab.accounts[admin])
    store = mail.the(lab, Role.STORE).name

    def has(secret: str) -> None:
        on(lab, store, f"python3 -c {shlex.quote(script)}", f"{admin} {secret}".encode())

    has(hashed("changeme"))
    try:
        report = the_set_with(lab, frozenset({"A1"}))
    finally:
        has(good)
    assert set(having(report, "failed")) == {"A1"}
    assert not having(verify(lab, "--only", "A1"), "failed")


def test_what_the_full_set_alone_looks_for_is_found(lab: Lab) -> None:
    broken = (
        Sabotage("bans that nobody carries out", "firewall", f"printf '#!/bin/sh\\necho []\\n' > {GUARD}", "A2",
                 (GUARD,)),
        Sabotage("a program replaced", "watch", "echo >> /usr/bin/pldd", "P4", ("/usr/bin/pldd",)),
        postfix("a banner", "N4 N8", "smtpd_banner = $myhostname ESMTP Postfix (Debian/GNU)"),
        _obeys_what_came_before_tls("R7"),
    )  # fmt: skip
    alone(lab, *broken)
    assert json.loads(lab.mastio("ban", "list", "--json")) == []


def _obeys_what_came_before_tls(fails: str) -> Sabotage:
    """No setting makes Postfix do it: before it stands a program with the defect (CVE-2011-0411), and with no other."""
    port, program = services.SMTP.port, "/run/standin.py"
    behind = f"127.0.0.1:{_BEHIND}"
    screen = (
        f"{behind}/inet={behind} inet n - n - 1 postscreen "
        "-o postscreen_upstream_proxy_protocol=haproxy"
    )
    spawn = f"{port}/inet={port} inet n n n - - spawn user=nobody argv=/usr/bin/python3 {program} {_BEHIND}"
    return Sabotage(
        "commands pass into TLS", "gateway",
        f"printf %s {shlex.quote(_DEFECT)} >{program}; "
        f"postconf -M {shlex.quote(screen)} {shlex.quote(spawn)}", fails, ("/etc/postfix/master.cf",),
        "postfix reload 2>/dev/null; sleep 2", undo=f"rm {program}",
    )  # fmt: skip


_BEHIND = 2525
"""Where Postfix itself listens meanwhile, on the machine's own loopback."""
_DEFECT = """
import os, select, socket, ssl, subprocess, sys
OPENSSL = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout - -out -"
client = socket.socket(fileno=os.dup(0))
here, there = client.getsockname(), client.getpeername()
plain = lambda address: address.removeprefix("::ffff:")
family = "TCP6" if ":" in plain(there[0]) else "TCP4"
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
server.sendall(f"PROXY {family} {plain(there[0])} {plain(here[0])} {there[1]} {here[1]}\\r\\n".encode())
while True:
    for one, other in ((client, server), (server, client)):
        if one not in select.select([client, server], [], [])[0]:
            continue
        data = one.recv(65536)
        if not data:
            sys.exit()
        before, mark, after = data.partition(b"STARTTLS\\r\\n")
        if one is client and mark and after:
            client.sendall(b"220 2.0.0 Ready to start TLS\\r\\n")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            own = os.memfd_create("own")
            os.write(own, subprocess.run(OPENSSL.split(), capture_output=True).stdout)
            context.load_cert_chain(f"/proc/self/fd/{own}")
            inside = context.wrap_socket(client, server_side=True)
            inside.sendall(b"250 2.0.0 Ok\\r\\n")
            inside.recv(1000)
            sys.exit()
        other.sendall(data)
"""


def test_a_parked_domain_that_takes_mail_is_found(lab: Lab) -> None:
    settings = '[dns]\nparked = ["parked.test"]\n'
    records = "parked.test. MX 10 mx.elsewhere.test.", "parked.test. TXT v=spf1"
    lies = "".join(f'\\n    local-data: "{it}"' for it in records)
    one = Sabotage(
        "a parked domain that takes mail", outside.MACHINE,
        f"sed -i 's/^server:/server:\\n    local-zone: \"parked.test.\" static{lies}/' {UNBOUND}",
        "D10", (UNBOUND,), "systemctl restart unbound; sleep 1",
    )  # fmt: skip
    with tuned(lab, settings):
        lab.mastio("lab", "up")  # the lab's name servers publish what the site asks for
        assert "D10" in having(verify(lab, "--only", "D10"), "passed")
        found = alone(lab, one)
    assert len(found["D10"]) == 3, found


def test_other_peoples_tools_are_heard(lab: Lab) -> None:
    """lynis, ssh-audit and testssl.sh where they are installed find what is broken."""
    webmail = mail.the(lab, Role.WEBMAIL).name
    broken = (
        Sabotage("two roots", "watch", "echo 'toor:x:0:0::/root:/bin/sh' >>/etc/passwd", "X1", ("/etc/passwd",)),
        Sabotage("old ssh ciphers", webmail, "echo 'Ciphers +3des-cbc' >/etc/ssh/sshd_config.d/00-sabotage.conf; "
                 "systemctl reload ssh", "X2", undo="rm /etc/ssh/sshd_config.d/00-sabotage.conf; "
                 "systemctl reload ssh"),
        Sabotage("nobody's TLS", webmail, f"sed -i 's/^    ssl_ciphers .*/    ssl_ciphers ALL:@SECLEVEL=0;/' {NGINX}",
                 "X3", (NGINX,), "systemctl reload nginx; sleep 1"),
    )  # fmt: skip
    with (
        borrowed(lab, "watch", "lynis", "ssh-audit"),
        borrowed(lab, outside.MACHINE, "bsdextrautils", "testssl.sh"),
        sabotaged(lab, *broken),
    ):
        found = having(the_set_with(lab, frozenset({"X1", "X2", "X3"})), "failed")
    # Two of these things our own checks see as well.
    words = {
        "X1": "AUTH-9204", "X2": "3des-cbc", "X3": "cipherlist_aNULL",
        "A6": "toor has user id 0", "T2": "AECDH-AES256-SHA",
    }  # fmt: skip
    assert set(found) == {*words}
    for check, seen in found.items():
        # What they say of the lab as such: packages that were forced in, an authority without a revocation list.
        new = [it for it in seen if "PKGS-7390" not in it and "cert_revocation" not in it]
        assert any(words[check] in it for it in new), seen


def test_what_cannot_be_looked_at_is_never_green(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over ssh, as in production: nobody is named outside, and one machine's sshd is away."""
    webmail = mail.the(lab, Role.WEBMAIL).name
    monkeypatch.setenv("MASTIO_OVER_SSH", "1")
    on(
        lab,
        webmail,
        "systemctl stop ssh.service ssh.socket 2>/dev/null || systemctl stop ssh.service",
    )
    try:
        report = verify(lab, "--only", "N6,A6,H4,P2")
    finally:
        on(lab, webmail, "systemctl start ssh.service")
    assert report["code"] == 69
    by_vantage: dict[str, set[str]] = {}
    for it in report["findings"]:
        by_vantage.setdefault(it["vantage"], set()).add(it["verdict"])
    assert by_vantage.pop(webmail) == {"could not check"}
    assert by_vantage.pop("outside") == {"not run"}
    assert all(it == {"passed"} for it in by_vantage.values()), by_vantage
    assert report["seconds"] < 60
    assert not any("Traceback" in words for it in report["findings"] for words in it["seen"])


def test_a_machine_that_is_gone_is_never_green(lab: Lab) -> None:
    webmail = mail.the(lab, Role.WEBMAIL).name
    Provider(lab.site.name).machine(webmail).stop()
    try:
        report = verify(lab)
    finally:
        lab.mastio("lab", "up")
    assert report["code"] == 1, "from outside, what is published and silent has failed"
    seen = {it["check"]: it["verdict"] for it in report["findings"] if it["vantage"] == webmail}
    assert seen and {*seen.values()} <= {"could not check", "not run"}, seen
    assert "N1" in having(report, "failed") and having(report, "passed")
    assert report["seconds"] < 180
    assert not any("Traceback" in words for it in report["findings"] for words in it["seen"])


@pytest.mark.parametrize(
    ("broken", "mended"),
    [("stop", "start"), ("kill --signal=STOP", "kill --signal=CONT")],
    ids=["refused", "silent"],
)
def test_names_that_nobody_answers_are_never_green(lab: Lab, broken: str, mended: str) -> None:
    """The world's DNS is away, or does not answer: what is asked of it is not known, which is not the same as fine."""
    # D10 asks nothing here: the lab has no parked domain; D12 asks the gateway.
    names = [it for it in registry.CHECKS if it.family is Family.NAMES]
    names = [it.id for it in names if it.id not in ("D10", "D12")]
    fresh = "systemctl restart unbound"
    with sabotaged(lab, Sabotage("no DNS", outside.MACHINE, f"systemctl {broken} knot; {fresh}", "",
                                 undo=f"systemctl {mended} knot; {fresh}")):  # fmt: skip
        report = verify(lab, "--only", ",".join(names))
    assert not having(report, "passed"), report
    assert report["code"] in (1, 69) and report["seconds"] < 120
    assert not any("Traceback" in words for it in report["findings"] for words in it["seen"])


def test_hand_written_expectations_and_nmap_agree(lab: Lab) -> None:
    """Rules and checks share the flow matrix; this does not: a wrong row of the table fails here."""
    address = str(next(it for it in lab.site.public if it.version == 4))
    result = lab.transport.run(
        outside.MACHINE, ["nmap", "-n", "-Pn", "-p-", "-T5", "--max-retries", "1", "--min-rate", "4000", "-oG", "-",
                          "-S", "203.0.113.100", "-e", "internet", address], timeout=300,
    )  # fmt: skip
    ports = result.stdout.decode().partition("Ports: ")[2].partition("\t")[0]
    opened = {entry.split("/")[0] for entry in ports.split(", ") if "/open/" in entry}
    assert opened == {"25", "80", "443"}, ports
    assert services.SMTP.port == 25


def test_the_page_asks_for_nothing_and_fits_a_phone_and_everybody(
    lab: Lab, green: dict[str, Any]
) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    page_file = RESULTS / "verify.html"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for name, width in (("desktop", 1280), ("phone", 390)):
            page = chromium.new_page(viewport={"width": width, "height": 900})
            asked: list[str] = []
            page.on("request", lambda it, asked=asked: asked.append(it.url))
            page.goto(page_file.as_uri())
            assert asked == [page_file.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=RESULTS / f"verify-{name}.png", full_page=True)
        # Its own policy forbids scripts, also axe's.
        page = chromium.new_context(bypass_csp=True).new_page()
        page.goto(page_file.as_uri())
        barriers = Axe().run(page)
        assert not barriers.violations_count, barriers.generate_report()
        chromium.close()


def test_the_command_tells_what_it_cannot(lab: Lab) -> None:
    done = mastio(lab.folder, "verify", "--only", "X99")
    assert done.returncode == 64 and "no such check: X99" in done.stderr
