"""Mail programs of people's own, by the site file's `clients`: a device in the tunnel (`vpn`), any device (`internet`).

The device is on `outside`: WireGuard as its user would set it up, `mbsync` that keeps a copy to read offline, `msmtp`
that sends. What a hostile device tries, nmap tries.
"""

import json
import re
import signal
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from mastio import services
from mastio.cli.common import App
from mastio.errors import Exit
from mastio.lab import internet as lab_internet
from mastio.roles.vpn import INTERFACE
from mastio.site.model import Role, Site
from mastio.transport import PYTHON, parcel
from mastio.verify.probes import scan
from mastio.verify.vantage import program
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.devices import HOLD, SET_UP, TRUST, Device, ask, run, submit, write
from tests.lab.mail import token
from tests.lab.patience import PATIENCE, at_last, eventually
from tests.lab.sabotage import Sabotage, sabotaged
from tests.lab.test_verify import having, verify

pytestmark = pytest.mark.lab

FAILURES = 4
PORTS = (
    ",".join(str(it.port) for it in (*services.ALL, *services.DOORS, *services.PEOPLES_DOORS))
    + ",110,143,995,6515,8080,10465"
)
"""What the site's machines listen on, and what mail programs would like."""


def policy(lab: Lab, name: str) -> str:
    """The lab's site file with another policy."""
    text = (lab.folder / "site.toml").read_text()
    return text.replace("\nreach =", f'\nclients = "{name}"\nreach =', 1) + (
        f"\n[bans]\nfailures = {FAILURES}\nfirst_seconds = 600\n"
    )


@pytest.fixture(scope="module")
def vpn(lab: Lab) -> Iterator[Site]:
    """The site with a tunnel, for a while."""
    file = lab.folder / "site.toml"
    before = file.read_text()
    done = mastio(lab.folder, "vpn", "add", "early")
    assert (done.returncode, "has no tunnel" in done.stderr) == (Exit.DATA, True), done.stderr
    file.write_text(policy(lab, "vpn"))
    try:
        lab.mastio("lab", "up")
        yield App(str(lab.folder)).site()
    finally:
        if '\nclients = "vpn"' in file.read_text():
            revoke_all(lab)
        file.write_text(before)
        lab.mastio("lab", "up")


def revoke_all(lab: Lab) -> None:
    for it in json.loads(lab.mastio("vpn", "list", "--json"))["devices"]:
        lab.mastio("vpn", "revoke", it["name"])


@pytest.fixture(scope="module")
def phone(lab: Lab, vpn: Site) -> Iterator[Device]:
    device = Device(lab, "phone", "--user", next(iter(lab.accounts)))
    device.up()
    yield device
    device.down()


def open_ports(lab: Lab, targets: list[str], *more: str) -> set[tuple[str, int]]:
    """Which TCP ports answer, by nmap on `outside`."""
    found = set()
    for family in (4, 6):
        mine = [it for it in targets if ip_address(it).version == family]
        if not mine:
            continue
        said = run(
            lab, "nmap", "-Pn", "-n", "-T5", "--max-rtt-timeout", "2s", "--max-retries", "3", "-oG", "-", "-p", PORTS,
            *(["-6"] if family == 6 else []), *more, *mine,
        )  # fmt: skip
        for line in said.splitlines():
            if "Ports:" in line:
                host = line.split()[1]
                found |= {(host, int(it)) for it in re.findall(r"(\d+)/open/tcp", line)}
    return found


def synced(lab: Lab, site: Site, user: str, password: str, home: str) -> str:
    """Runs mbsync, as a mail program with a copy for offline reading; what it said."""
    write(lab, f"{home}/password", password)
    write(
        lab, f"{home}/mbsyncrc",
        f"IMAPAccount site\nHost {site.imap_host}\nUser {user}\nPassCmd \"cat {home}/password\"\n"
        f"TLSType IMAPS\nCertificateFile {TRUST}\n\nIMAPStore there\nAccount site\n\n"
        f"MaildirStore here\nPath {home}/Mail/\nInbox {home}/Mail/INBOX\nSubFolders Verbatim\n\n"
        "Channel all\nFar :there:\nNear :here:\nPatterns *\nCreate Near\nSync All\nSyncState *\n",
    )  # fmt: skip
    run(lab, "mkdir", "-p", f"{home}/Mail")
    return run(lab, "mbsync", "--config", f"{home}/mbsyncrc", "--all")


def passes(lab: Lab, site: Site, word: str, home: str) -> list[str]:
    """Bob writes to alice by msmtp, mbsync brings it into the copy at `home`: the files that have it."""
    (alice, secret), (bob, other) = list(lab.accounts.items())[:2]
    run(lab, "rm", "-rf", home)
    # The internet's resolver may be starting still.
    find = ["getent", "hosts", site.imap_host]
    eventually(lambda: lab.run("outside", find).code == 0, f"nobody knows {site.imap_host}", rest=1)
    submit(lab, site, bob, other, alice, word)

    def kept() -> list[str]:
        synced(lab, site, alice, secret, home)
        return lab.run("outside", ["grep", "-rl", word, f"{home}/Mail"]).stdout.decode().split()

    return at_last(kept, rest=1)


def banned(lab: Lab) -> str:
    """The only client that is banned, as soon as there is one."""
    bans = eventually(lambda: json.loads(lab.mastio("ban", "list", "--json")), "no ban")
    assert len(bans) == 1, bans
    (one,) = bans
    return str(one["client"])


def test_a_device_syncs_is_read_offline_and_sends(lab: Lab, vpn: Site, phone: Device) -> None:
    alice, secret = next(iter(lab.accounts.items()))
    word, home = token(), "/root/alice"
    kept = passes(lab, vpn, word, home)
    phone.down()
    try:
        assert len(kept) == 1, "the copy has the message"
        letter = run(lab, "cat", kept[0])
        assert "Good day." in letter, "it is read with the tunnel down"
        assert not any(it in letter for it in phone.addresses), "nobody learns where bob was"
        # What is done offline comes to the store with the next sync.
        run(lab, "mv", kept[0], f"{kept[0].partition(':')[0].replace('/new/', '/cur/')}:2,F")
    finally:
        phone.up()
    synced(lab, vpn, alice, secret, home)
    asked = ["doveadm", "search", "-u", alice, "FLAGGED", "SUBJECT", word]
    assert lab.run(mail.the(lab, Role.STORE).name, asked).stdout, "the flag came to the store"


def from_new_networks(lab: Lab, wanted: set[str]) -> set[str]:
    """The news of the digest about users' networks, as soon as one that is wanted is among them.

    None of them is of a log-in by one of the site's machines: the webmail's are its users', the proxy's the devices'.
    """
    own = [str(it) for one in lab.site.machines for it in one.addresses]

    def networks() -> dict[str, Any]:
        done = mastio(lab.folder, "digest", "--json", "--since", "1h")
        return dict(json.loads(done.stdout)["summary"]["news"].get("networks", {}))

    found = at_last(networks, lambda it: wanted & it.keys(), rest=1)
    told = json.dumps(found)
    assert not [it for it in own if f"rip={it}," in told or f"client=unknown[{it}]" in told]
    return {*found}


def test_the_digest_tells_a_user_on_a_device_that_is_new(
    lab: Lab, vpn: Site, phone: Device, somebody: tuple[str, str]
) -> None:
    assert ask(lab, vpn, *somebody, "imap") == ["OK"]
    wanted = {f"{somebody[0]} from device {it}" for it in phone.addresses}
    assert wanted & from_new_networks(lab, wanted)


def test_a_hostile_device_reaches_two_ports_of_the_store_and_nothing_else(
    lab: Lab, vpn: Site, phone: Device
) -> None:
    other = Device(lab, "other")
    networks = [str(net) for zone in vpn.zones for net in zone.networks]
    networks += map(str, vpn.vpn_networks)
    targets = [str(it) for one in vpn.machines for it in one.addresses]
    targets += [str(network[1]) for network in vpn.vpn_networks] + other.addresses
    store = [str(it) for one in vpn.carrying(Role.STORE) for it in one.addresses]
    phone.up(allowed=", ".join(networks))
    try:
        assert open_ports(lab, targets) == {(it, port) for it in store for port in (465, 993)}
        for target in targets:
            assert lab.run("outside", ["ping", "-c1", "-W0.3", target]).code != 0, target
        # The same look, when the firewall lets devices go anywhere: each machine still shuts them out by itself.
        back, rule = "nft -f /etc/nftables.conf", "nft insert rule inet mastio"
        wide = Sabotage(
            "wide", "firewall", f"{rule} forward iifname {INTERFACE} accept", "N7", undo=back
        )
        with sabotaged(lab, wide):
            assert {it[1] for it in open_ports(lab, targets)} == {465, 993}
            with sabotaged(
                lab, Sabotage("both", "webmail", f"{rule} input accept", "N7", undo=back)
            ):
                assert {it[1] for it in open_ports(lab, targets)} > {465, 993}, "or it saw nothing"
                assert {*having(verify(lab, "--only", "N7"), "failed")} == wide.expected
    finally:
        phone.up()


def test_verify_sees_from_the_tunnel_what_is_open_to_devices(lab: Lab, vpn: Site) -> None:
    def left() -> list[bytes]:
        look = (
            f"ip -br link | cut -d' ' -f1; ip route show table all; wg show {INTERFACE} allowed-ips"
        )
        # Devices are told in any order.
        return sorted(lab.run("firewall", ["sh", "-euc", look]).stdout.splitlines())

    before = left()
    assert {*having(verify(lab, "--only", "N10"), "passed")} == {"N10"}
    back, rule = "nft -f /etc/nftables.conf", "nft insert rule inet mastio"
    source = f"ip saddr {next(it for it in vpn.vpn_networks if it.version == 4)}"
    for machine, words, seen in (
        ("firewall", f"input {source} tcp dport {services.SSH.port} accept", ["firewall", "22/tcp"]),
        ("firewall", f"forward {source} accept", ["outside", "for vpn"]),
        ("store", f"input tcp dport {services.IMAPS.port} drop", ["does not answer vpn", "993"]),
    ):  # fmt: skip
        with sabotaged(
            lab, Sabotage("from the tunnel", machine, f"{rule} {words}", "N10", undo=back)
        ):
            found = having(verify(lab, "--only", "N10"), "failed").get("N10", [])
        assert any(all(it in one for it in seen) for one in found), (words, found)
    # Killed in the middle of it, it leaves no more behind.
    target = str(mail.the(lab, Role.STORE).addresses[0])
    order = {
        "function": "behind",
        "args": [INTERFACE, [target], [[1, 65535]], [], {}, 2000],
        "kwargs": {},
    }
    parted = parcel(program(scan.__name__), json.dumps(order).encode())
    killed = lab.run("firewall", ["timeout", "--signal=KILL", "2", *PYTHON], parted)
    assert killed.code == -signal.SIGKILL and left() == before, killed.stderr.decode()


def test_without_the_tunnel_nothing_more_is_open_than_before(lab: Lab, vpn: Site) -> None:
    public = [str(it) for it in vpn.public]
    # nmap takes whichever of the addresses of `outside` it likes, an administrator's as well.
    found = {it for it in open_ports(lab, public) if it[1] != services.SSH.port}
    assert found == {(it, port) for it in public for port in (25, 80, 443)}


def test_the_site_is_as_designed(lab: Lab, vpn: Site, phone: Device) -> None:
    lab.mastio("verify", "--only", "N1,H1,H7,T9")
    rows = json.loads(lab.mastio("vpn", "list", "--json"))
    row = next(it for it in rows["devices"] if it["name"] == "phone")
    assert (row["known"], row["user"]) == (True, next(iter(lab.accounts)))
    assert time.time() - row["last_handshake"] < 300
    assert rows["strangers"] == []


def test_who_guesses_passwords_is_banned_alone(lab: Lab, vpn: Site, phone: Device) -> None:
    user, password = next(iter(lab.accounts.items()))
    assert ask(lab, vpn, user, password, "imap", "smtp") == ["OK", 235]
    wrong = ask(lab, vpn, user, "guess", "imap")
    assert wrong == ask(lab, vpn, f"nobody@{vpn.domains[0]}", "guess", "imap"), "the same for all"
    ask(lab, vpn, user, "guess", *["smtp"] * (FAILURES - 2))
    network = ip_network(banned(lab))
    assert network.num_addresses == 1, "not the neighbours"
    assert str(network[0]) in phone.addresses
    lab.mastio("ban", "lift", str(network[0]))
    assert ask(lab, vpn, user, password, "imap") == ["OK"]


def test_a_revoked_device_is_out_at_once(lab: Lab, vpn: Site, phone: Device) -> None:
    done = mastio(lab.folder, "vpn", "add", "phone")
    assert (done.returncode, "there is a device phone already" in done.stderr) == (Exit.DATA, True)
    phone.down()
    lost = Device(lab, "lost")
    try:
        lost.up()
        out_at_once(lab, vpn)
    finally:
        lost.down()
        phone.up()
    done = mastio(lab.folder, "vpn", "revoke", "lost")
    assert (done.returncode, "there is no device lost" in done.stderr) == (Exit.DATA, True)


def out_at_once(lab: Lab, vpn: Site) -> None:
    """The device `lost` is in, and is revoked."""
    user, password = next(iter(lab.accounts.items()))
    asked = json.dumps({"host": vpn.imap_host, "user": user, "password": password})
    run(lab, "rm", "-f", "/tmp/holding")
    write(lab, "/tmp/hold.py", f"PAYLOAD = {asked!r}\n{HOLD}")
    run(
        lab,
        "systemd-run",
        "--unit=hold",
        "--property=StandardOutput=file:/tmp/held",
        "python3",
        "/tmp/hold.py",
    )
    holding, active = ["test", "-e", "/tmp/holding"], ["systemctl", "is-active", "hold"]
    eventually(lambda: lab.run("outside", holding).code == 0, "never came in", 120, 0.2)
    lab.mastio("vpn", "revoke", "lost")
    eventually(lambda: lab.run("outside", active).code, "what it had open goes on", 60)
    assert run(lab, "cat", "/tmp/held") == "ended\n"
    store = [str(it) for it in mail.the(lab, Role.STORE).addresses]
    assert open_ports(lab, store) == set()


@pytest.fixture(scope="module")
def internet(lab: Lab, vpn: Site) -> Site:
    """The same site with the proxy instead, until the module ends."""
    revoke_all(lab)
    file = lab.folder / "site.toml"
    file.write_text(file.read_text().replace('\nclients = "vpn"', '\nclients = "internet"'))
    lab.mastio("lab", "up")
    # A device that guessed went on by its other address when one was banned.
    for ban in json.loads(lab.mastio("ban", "list", "--json")):
        lab.mastio("ban", "lift", ban["client"])
    return App(str(lab.folder)).site()


def test_a_mail_program_anywhere_finds_syncs_and_sends(lab: Lab, internet: Site) -> None:
    domain = internet.domains[0]
    for service in (services.IMAPS, services.SUBMISSIONS):
        want = f"{service.port} {internet.imap_host}."
        end = time.monotonic() + PATIENCE
        # The first questions may find the internet's resolver still starting.
        while want not in (
            said := run(lab, "dig", "+short", f"_{service.name}._tcp.{domain}", "SRV")
        ):
            assert time.monotonic() < end, said
            time.sleep(1)
    word, home = token(), "/root/roaming"
    kept = passes(lab, internet, word, home)
    assert len(kept) == 1
    assert word in run(lab, "cat", kept[0])


@pytest.mark.parametrize("door", ["imap", "submission"])
def test_the_digest_tells_a_user_in_a_new_network(
    lab: Lab, internet: Site, somebody: tuple[str, str], door: str
) -> None:
    source = lab_internet.stranger(internet)[0]
    if door == "imap":
        assert ask(lab, internet, *somebody, "imap", source=str(source)) == ["OK"]
    else:
        submit(lab, internet, *somebody, somebody[0], token(), source=str(source))
    network = ip_network((source, 24 if source.version == 4 else 48), strict=False)
    wanted = {f"{somebody[0]} from {network}"}
    assert wanted & from_new_networks(lab, wanted)


def test_a_mail_program_sets_itself_up_from_the_address_alone(lab: Lab, internet: Site) -> None:
    user, password = next(iter(lab.accounts.items()))
    asked = json.dumps({"user": user, "password": password}).encode()
    done = lab.transport.run_python("outside", SET_UP, asked, 60)
    assert done.code == 0, done.stderr.decode()
    assert json.loads(done.stdout) == ["text/xml", "OK", 235]


def test_only_the_proxy_is_open(lab: Lab, internet: Site) -> None:
    public = [str(it) for it in internet.public]
    found = {it for it in open_ports(lab, public) if it[1] != services.SSH.port}
    assert found == {(it, port) for it in public for port in (25, 80, 443, 465, 993)}
    lab.mastio("verify", "--only", "N1,N3,H1,H7,T1,T2,T3,T4,T9,T11,D1")


def test_who_guesses_through_the_proxy_is_banned_by_his_own_address(
    lab: Lab, internet: Site
) -> None:
    user, password = next(iter(lab.accounts.items()))
    source = str(lab_internet.stranger(internet)[0])
    assert ask(lab, internet, user, password, "imap", "smtp", source=source) == ["OK", 235]
    nobody = f"nobody@{internet.domains[0]}"
    wrong = ask(lab, internet, user, "guess", "imap", "smtp", source=source)
    assert wrong[:1] == ask(lab, internet, nobody, "guess", "imap", source=source), (
        "the same for all"
    )
    # The last one that is answered, if it is.
    ask(lab, internet, nobody, "guess", "smtp", source=source)
    assert banned(lab) == f"{source}/32"
    lab.mastio("ban", "lift", source)
    assert ask(lab, internet, user, password, "imap", source=source) == ["OK"]
