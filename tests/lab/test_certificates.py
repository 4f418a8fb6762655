"""Public certificates from a real authority (ACME) on the lab's internet: pebble, which is as strict as Let's Encrypt.

The site asks it by DNS first, then by HTTP; a stranger outside sees what comes of it.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mastio import pki, secrets, services
from mastio.context import CHALLENGES
from mastio.lab import internet, outside
from mastio.lab.outside import authority
from mastio.roles.certificates import FOLDER, PROGRAM, SETTINGS
from mastio.site.model import Role
from mastio.vault import Vault
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import the
from tests.lab.patience import at_last
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

LOOK = """
import json, smtplib, socket, ssl
asked = json.loads(PAYLOAD)
found = {}
for name, address, port in asked["doors"]:
    context = ssl.create_default_context(cadata=asked["root"])
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        if port == 25:
            client = smtplib.SMTP(address, port, timeout=20)
            client._host = name
            client.starttls(context=context)
            sock = client.sock
        else:
            sock = context.wrap_socket(socket.create_connection((address, port), 20), server_hostname=name)
        found[name] = ssl.DER_cert_to_PEM_cert(sock.getpeercert(True))
        sock.close()
    except ssl.SSLCertVerificationError as error:
        found[name] = error.verify_message
print(json.dumps(found))
"""


def root(lab: Lab) -> str:
    """The authority's root, which no list has."""
    fetch = ["curl", "--silent", "--insecure", f"https://{authority.MANAGEMENT}/roots/0"]
    done = at_last(lambda: lab.run("outside", fetch), lambda it: it.code == 0, 120)
    return done.stdout.decode()


def address(lab: Lab, role: Role) -> str:
    """Where strangers find it."""
    behind = lab.site.carrying(Role.FIREWALL)
    return str((lab.site.public if behind else the(lab, role).addresses)[0])


def seen(lab: Lab, trusted: str) -> dict[str, str]:
    """What a stranger who trusts the authority sees at each name: the certificate, or why it is not believed."""
    web = [lab.site.webmail_host, *(f"mta-sts.{it}" for it in lab.site.domains)]
    doors = [[lab.site.mx_host, address(lab, Role.GATEWAY_IN), services.SMTP.port]]
    doors += [[name, address(lab, Role.WEBMAIL), services.HTTPS.port] for name in web]
    asked = json.dumps({"doors": doors, "root": trusted}).encode()
    done = lab.transport.run_python("outside", LOOK, asked, 90)
    assert done.code == 0, done.stderr.decode()
    found: dict[str, str] = json.loads(done.stdout)
    return found


def tlsa(lab: Lab) -> set[str]:
    """The keys that DNS shows for the MX."""
    name = f"_25._tcp.{lab.site.mx_host}"
    resolver = str(internet.resolver(lab.site)[0])
    said = lab.run("outside", ["dig", "+short", f"@{resolver}", name, "TLSA"]).stdout.decode()
    return {"".join(line.split()[3:]).lower() for line in said.splitlines()}


def write(lab: Lab, original: str, trusted: str, *more: str) -> None:
    lines = [
        f'directory = "https://{outside.AUTHORITY}/dir"',
        f'authority = """\n{trusted}"""',
        *more,
    ]
    text = "\n".join(("", "[acme]", *(lines if trusted else (lines[0], *more)), ""))
    (lab.folder / "site.toml").write_text(original + text)


def come_and_are_renewed(lab: Lab, *challenge: str) -> None:
    """In a lab of another topology, which has no authority yet and ends with its module."""
    site_file = lab.folder / "site.toml"
    original = site_file.read_text()
    write(lab, original, "", *challenge)
    lab.mastio("lab", "up", "--port", str(urlsplit(lab.webmail_url).port))
    write(lab, original, trusted := root(lab), *challenge)
    lab.mastio("apply", "--yes")
    before = seen(lab, trusted)
    assert len(before) > 2 and all("BEGIN CERTIFICATE" in it for it in before.values()), before
    lab.mastio("certificates", "renew")
    after = seen(lab, trusted)
    for name, former in before.items():
        assert former != after[name], f"{name}: another certificate"
        assert pki.key_digest(former) == pki.key_digest(after[name]), f"{name}: for the same key"
    proofs = f"ls {CHALLENGES} 2>/dev/null || true"
    assert not on(lab, the(lab, Role.WEBMAIL).name, proofs), "no proof is left"
    lab.mastio("verify", "--only", "H7,T9")
    assert lab.mastio("plan").startswith("Nothing to do")


BY_DNS = ('challenge = "dns"', f'dns_server = "{outside.NS}"')


@pytest.fixture(scope="module")
def trusted(lab: Lab) -> Iterator[str]:
    """The site asks the authority, by DNS; its root is given to the site."""
    site_file = lab.folder / "site.toml"
    original = site_file.read_text()
    try:
        write(lab, original, "", *BY_DNS)
        lab.mastio("lab", "up")
        # What an earlier lab left is of an authority that is no more.
        lab.run("watch", ["find", FOLDER, "-mindepth", "1", "-delete"])
        write(lab, original, pem := root(lab), *BY_DNS)
        lab.mastio("apply", "--yes")
        yield pem
    finally:
        site_file.write_text(original)
        lab.mastio("lab", "up")


def standing(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.mastio("certificates", "status", "--json"))
    return found


def watch(lab: Lab, what: str, **order: object) -> tuple[int, str]:
    argv = ["/usr/local/lib/mastio/mastio-on-watch", "certificates", what]
    done = lab.transport.run("watch", argv, json.dumps(order).encode(), 300)
    return done.code, done.stdout.decode()


def test_apply_gets_certificates_by_dns_that_strangers_believe(lab: Lab, trusted: str) -> None:
    for name, found in seen(lab, trusted).items():
        assert "BEGIN CERTIFICATE" in found, f"{name}: {found}"
    assert all(it["source"] == "authority" and not it["failed"] for it in standing(lab))
    assert lab.mastio("plan").startswith("Nothing to do")
    server = f"@{internet.nameserver(lab.site)[0]}"
    proof = ["dig", "+short", server, f"_acme-challenge.{lab.site.mx_host}", "TXT"]
    assert lab.run("outside", proof).stdout == b"", "the proof is taken away again"


def test_without_the_root_they_are_not_believed(lab: Lab, trusted: str) -> None:
    other = pki.authority("another")[1]
    assert not any("BEGIN CERTIFICATE" in it for it in seen(lab, other).values())


def test_what_differs_in_dns_is_mended_by_nsupdate(lab: Lab, trusted: str) -> None:
    """Somebody's change, and a record of somebody else beside ours, on a name server that takes signed updates."""
    server, domain = str(internet.nameserver(lab.site)[0]), lab.site.domains[0]

    def nsupdate(script: str) -> None:
        argv = ["nsupdate", "-v", "-k", "/etc/mastio/certificates-tsig.key"]
        done = lab.run("watch", argv, f"server {server}\n{script}".encode())
        assert done.code == 0, done.stderr.decode()

    def ask(*words: str) -> tuple[int, str]:
        done = mastio(lab.folder, "dns", domain, "--check", "--resolver", server, *words)
        return done.returncode, done.stdout

    try:
        assert ask("--format", "nsupdate") == (0, "")
        nsupdate(
            f"zone {domain}\nupdate delete _dmarc.{domain}. TXT\n"
            f'update add _dmarc.{domain}. 60 TXT "v=DMARC1; p=none"\n'
            f'update add {domain}. 60 TXT "somebody=verified"\nsend\n'
        )
        code, script = ask("--format", "nsupdate")
        assert code == 2
        assert len(script.splitlines()) == 4, script
        nsupdate(script)
        assert ask()[0] == 0
        said = lab.run("outside", ["dig", "+short", f"@{server}", domain, "TXT"]).stdout
        assert b"somebody=verified" in said, "what is not ours stays"
    finally:
        lab.run("outside", ["systemctl", "restart", "knot.service"])


@pytest.fixture(scope="module")
def by_http(lab: Lab, trusted: str) -> str:
    site_file = lab.folder / "site.toml"
    text = site_file.read_text()
    for line in BY_DNS:
        text = text.replace(f"{line}\n", "")
    site_file.write_text(text)
    lab.mastio("apply", "--yes")
    return trusted


def test_renewal_by_http_keeps_the_keys(lab: Lab, by_http: str) -> None:
    before, published = seen(lab, by_http), tlsa(lab)
    assert "order" not in watch(lab, "renew")[1], "nothing is due"
    lab.mastio("certificates", "renew")
    after = seen(lab, by_http)
    for name in before:
        assert before[name] != after[name], "another certificate"
        assert pki.key_digest(before[name]) == pki.key_digest(after[name]), "for the same key"
    assert pki.key_digest(after[lab.site.mx_host]) in published == tlsa(lab)
    assert lab.run("webmail", ["ls", CHALLENGES]).stdout == b"", "no proof is left"


def test_the_next_key_takes_its_turn_without_a_gap(lab: Lab, by_http: str) -> None:
    mx, former = lab.site.mx_host, seen(lab, by_http)[lab.site.mx_host]
    published = tlsa(lab)
    assert len(published) == 2, "this key and the next one"
    lab.mastio("certificates", "rotate", mx)
    assert seen(lab, by_http)[mx] == former, "nothing changes before it is applied"
    lab.mastio("apply", "--yes", "gateway")
    now = seen(lab, by_http)[mx]
    assert "BEGIN CERTIFICATE" in now, now
    assert {pki.key_digest(now)} == published - {pki.key_digest(former)}, (
        "the one that DNS announced"
    )
    lab.mastio("apply", "--yes")
    # The resolver outside remembers what it was told, for as long as the record says.
    shown = at_last(lambda: tlsa(lab), lambda it: it != published, rest=1)
    assert pki.key_digest(now) in shown != published, "and the one after it is announced"
    assert not standing(lab)[0]["failed"]


def test_a_key_that_dns_does_not_show_does_not_take_its_turn(lab: Lab, by_http: str) -> None:
    vault = Vault.open(lab.folder)
    name = secrets.following(lab.site.mx_host)
    former = vault[name]
    vault.put(name, pki.server_key())
    vault.save()
    try:
        done = mastio(lab.folder, "certificates", "rotate", lab.site.mx_host)
        assert (done.returncode, done.stdout) == (2, "")
        assert "does not show the next key" in done.stderr
    finally:
        vault = Vault.open(lab.folder)  # the command has written it, too
        vault.put(name, former)
        vault.save()


def test_watchs_key_leads_to_one_program_that_refuses_the_rest(lab: Lab, by_http: str) -> None:
    ssh = json.loads(lab.run("watch", ["cat", SETTINGS]).stdout)["ssh"]
    for machine in ("gateway", "webmail"):
        for words in (["id"], ["cat", "/etc/mastio/pki/public.key"]):
            done = lab.run("watch", [*ssh[machine], *words], b"{}")
            assert (done.code, done.stdout) == (77, b""), done
        ca = pki.authority("nobody")
        name = lab.site.mx_host if machine == "gateway" else lab.site.webmail_host
        foreign = pki.issue(*ca, name)[1]
        asked = {"op": "bring", "chains": [foreign]}
        done = lab.run("watch", [*ssh[machine], PROGRAM], json.dumps(asked).encode())
        assert "not for the key" in json.loads(done.stdout)["unfit"]
    assert "store" not in ssh
    assert all("BEGIN CERTIFICATE" in it for it in seen(lab, by_http).values())


def test_a_renewal_that_fails_is_an_alarm_until_it_is_well(lab: Lab, by_http: str) -> None:
    def alarms() -> list[str]:
        found = json.loads(mastio(lab.folder, "alarms", "--json").stdout)
        return [about for about in found["open"] if about.startswith("certificate")]

    assert alarms() == []
    asked = str(internet.authority(lab.site)[0])
    rules = (
        f"add table ip closed; add chain ip closed in {{ type filter hook input priority 0; }}; "
        f"add rule ip closed in ip daddr {asked} reject"
    )
    assert lab.run("outside", ["nft", rules]).code == 0
    try:
        code, said = watch(lab, "now", hosts=[lab.site.mx_host])
        assert code == 1 and "Problem connecting" in said, said
        assert alarms() == [f"certificate renewal {lab.site.mx_host}"]
    finally:
        lab.run("outside", ["nft", "delete", "table", "ip", "closed"])
    assert watch(lab, "now", hosts=[lab.site.mx_host])[0] == 0
    assert alarms() == []


def test_what_a_machine_shows_by_mistake_is_mended(lab: Lab, by_http: str) -> None:
    """Somebody restored an old file: servers show another certificate than watch has."""
    good = seen(lab, by_http)[lab.site.webmail_host]
    interim = ["cp", "/etc/mastio/pki/public.pem", "/var/lib/mastio/certificate/public.pem"]
    assert lab.run("webmail", interim).code == 0
    lab.run("webmail", ["systemctl", "reload", "nginx"])
    assert any(
        "webmail" in it["machines"] and it["machines"]["webmail"] for it in standing_or_bad(lab)
    )
    assert watch(lab, "renew")[0] == 0
    assert seen(lab, by_http)[lab.site.webmail_host] == good
    assert lab.run("watch", ["ls", FOLDER]).code == 0


def standing_or_bad(lab: Lab) -> list[dict[str, Any]]:
    done = mastio(lab.folder, "certificates", "status", "--json")
    assert done.returncode == 1, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_what_it_needs_on_the_machines_is_granted(lab: Lab, by_http: str) -> None:
    """And each door shows what is on the disk."""
    lab.mastio("verify", "--only", "H7,T9")
