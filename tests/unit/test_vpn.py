"""The tunnel of people's devices: what the matrix and the firewall make of it, who gets in, and what is refused."""

import shlex
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import pytest

from mastio import pki, secrets, services, vpn
from mastio.build import build
from mastio.cli.vpn import dump, qr_code
from mastio.context import Internet
from mastio.dns import zone
from mastio.errors import MastioError
from mastio.firewall import ruleset
from mastio.flows import INTERNET, VPN, expand
from mastio.roles.vpn import CONFIG, DEVICES, KEY, devices
from mastio.site import parse
from mastio.site.model import Clients, Site
from mastio.site.problems import SiteFileError
from mastio.state import File
from mastio.vault import Vault
from tests import sites

NETWORKS = (IPv4Network("10.77.200.0/29"), IPv6Network("fd6d:6173:7469:c8::/64"))
FILE = """
schema = 1
name = "demo"
organisation = "Fortress"
domains = ["fortress.test"]
admin = "a@fortress.test"
public = ["203.0.113.1", "2001:db8:113::1"]
reach = "lab"
"""


def site() -> Site:
    return replace(sites.demo_site(), clients=Clients.VPN, vpn_networks=NETWORKS)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    found = Vault(tmp_path, {})
    secrets.ensure(found, site())
    return found


def file(machine: str, path: str, vault: Vault) -> File:
    return next(it for it in build(site(), vault, Internet())[machine].files if it.path == path)


def test_a_device_reaches_mail_on_the_store_and_nothing_else() -> None:
    more = {(it.source, it.target, it.service) for it in expand(site()).flows} - {
        (it.source, it.target, it.service) for it in expand(sites.demo_site()).flows
    }
    assert more == {
        (INTERNET, "firewall", services.WIREGUARD),
        (VPN, "store", services.IMAPS),
        (VPN, "store", services.SUBMISSIONS),
    }


def test_a_device_is_neither_the_internet_nor_a_machine_of_the_site() -> None:
    matrix = expand(site())
    for machine in site().machines:
        rules = ruleset(matrix, machine)
        assert "10.77.200.0/29" in rules.partition("set site6")[0], "not the internet"
        for line in rules.splitlines():
            if "echo-request" in line and " ip saddr" in line:
                assert "ip saddr != 10.77.200.0/29 ip daddr != 10.77.200.0/29" in line, "no ping"
    perimeter = ruleset(matrix, site().machine("firewall"))
    assert "ip saddr 10.77.200.0/29 ip saddr @banned4 counter drop" in perimeter
    assert "ip6 saddr fd6d:6173:7469:c8::/64 ip6 saddr @banned6 counter drop" in perimeter
    offers = [it for it in perimeter.splitlines() if "dport 51820" in it]
    assert len(offers) == 2, "two families; never translated"
    assert all("!= @site" in it and "jump client" in it for it in offers)
    assert "ip daddr 203.0.113.1 udp dport 51820" in offers[0]


def test_people_arrive_at_a_door_where_another_certificate_is_shown(vault: Vault) -> None:
    rules = ruleset(expand(site()), site().machine("store"))
    assert (
        "ip saddr 10.77.200.0/29 ip daddr 10.77.3.10 tcp dport 465 dnat ip to 10.77.3.10:10465"
        in rules
    )
    master = file("store", "/etc/postfix/master.cf", vault).content
    door = master.partition("10.77.3.10:10465 ")[2].partition("inet")[2].partition(" inet ")[0]
    assert "smtpd_tls_chain_files=/etc/mastio/pki/public.key,/etc/mastio/pki/public.pem" in door
    assert "smtpd_sasl_auth_enable=yes" in door
    dovecot = file("store", "/etc/dovecot/dovecot.conf", vault).content
    assert "local_name imap.fortress.test {" in dovecot
    assert pki.names(file("store", "/etc/mastio/pki/public.pem", vault).content) == {
        "imap.fortress.test"
    }


def test_the_name_leads_into_the_site_and_mail_programs_are_offered_nothing(vault: Vault) -> None:
    found = {
        (it.type, it.data) for it in zone.records(site(), vault) if it.owner == "imap.fortress.test"
    }
    assert found == {("A", "10.77.3.10"), ("AAAA", "fd6d:6173:7469:3::a")}
    offered = [it.data for it in zone.records(site(), vault) if it.type == "SRV"]
    assert set(offered) == {"0 0 0 ."}


def test_a_device_is_told_the_store_and_the_firewall_the_device(vault: Vault) -> None:
    device, private = vpn.add(vault, site(), "alice-phone", "alice@fortress.test")
    assert device.addresses == (NETWORKS[0][2], NETWORKS[1][2])
    assert pki.wireguard_public(private) == device.public
    told = vpn.configuration(vault, site(), device, private)
    assert f"PublicKey = {pki.wireguard_public(vault[KEY])}\n" in told
    assert "AllowedIPs = 10.77.3.10/32, fd6d:6173:7469:3::a/128\n" in told, "no other way leads in"
    config = file("firewall", CONFIG, vault)
    assert (config.secret, config.mode) == (True, 0o600)
    assert f"PublicKey = {device.public}\n" in config.content
    assert "AllowedIPs = 10.77.200.2/32, fd6d:6173:7469:c8::2/128\n" in config.content
    assert private not in "".join(vault.values()) + config.content, "only the device has it"
    assert not any(
        it.path == CONFIG for it in build(sites.demo_site(), vault, Internet())["firewall"].files
    )
    for machine in site().machines:
        if machine.name != "firewall":
            assert not any(
                it.startswith("vpn/") for it in secrets.for_machine(vault, site(), machine)
            )


def test_devices_outlive_a_policy_that_is_tried_for_a_day(vault: Vault) -> None:
    vpn.add(vault, site(), "phone")
    secrets.ensure(vault, sites.demo_site())
    assert [it.name for it in devices(vault)] == ["phone"]
    assert KEY not in vault


def test_addresses_are_given_again_and_the_network_has_an_end(vault: Vault) -> None:
    for name in ("a", "b", "c", "d", "e"):
        last, _ = vpn.add(vault, site(), name)
    assert last.addresses[0] == ip_address("10.77.200.6")
    with pytest.raises(MastioError, match="network is full"):
        vpn.add(vault, site(), "f")
    assert vpn.revoke(vault, site(), "b").name == "b"
    assert f"{DEVICES}b" not in vault
    again, _ = vpn.add(vault, site(), "f")
    assert again.addresses[0] == ip_address("10.77.200.3")


def test_what_is_refused(vault: Vault) -> None:
    vpn.add(vault, site(), "phone")
    with pytest.raises(MastioError, match="there is a device phone already"):
        vpn.add(vault, site(), "phone")
    with pytest.raises(MastioError, match="no name for a device"):
        vpn.add(vault, site(), "Alice's phone\n[Peer]")
    with pytest.raises(MastioError, match="there is no device tablet"):
        vpn.revoke(vault, site(), "tablet")
    for work in (
        lambda: vpn.add(vault, sites.demo_site(), "x"),
        lambda: vpn.revoke(vault, sites.demo_site(), "phone"),
    ):
        with pytest.raises(MastioError, match="this site has no tunnel") as refused:
            work()
        assert 'clients = "vpn"' in (refused.value.hint or "")


def test_what_wg_tells() -> None:
    text = (
        "k\tp\t51820\toff\nPUB\tpsk\t198.51.100.9:4711\t10.77.200.2/32\t1764365000\t10\t20\toff\n"
    )
    text += "NEW\tpsk\t(none)\t10.77.200.3/32\t0\t0\t0\toff\n"
    seen = dump(text)
    assert (seen["PUB"].endpoint, seen["PUB"].handshake) == ("198.51.100.9:4711", 1764365000)
    assert (seen["NEW"].endpoint, seen["NEW"].handshake) == ("", 0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('clients = "pop3"', "'pop3' is unknown"),
        ('clients = "vpn"\ntopology = "single"', "there is none"),
        ('[vpn]\nnetworks = ["10.9.0.0/24"]', "there is no tunnel"),
        ('clients = "vpn"\n[vpn]\nnetworks = ["10.77.3.0/24"]', "overlaps zone core"),
        ('clients = "vpn"\n[vpn]\nnetworks = ["10.9.0.0/30"]', "too small"),
        ('clients = "vpn"\n[vpn]\nnetworks = ["10.9.0.0"]', "10.9.0.0"),
        ('clients = "vpn"\n[acme]\ndirectory = "https://acme.test/dir"', "no authority can ask"),
    ],
)  # fmt: skip
def test_a_site_file_that_cannot_be(more: str, said: str) -> None:
    with pytest.raises(SiteFileError, match=r".*") as wrong:
        parse.parse(FILE + more, "site.toml")
    assert said in str(wrong.value), shlex.quote(str(wrong.value))


def test_a_site_file_with_a_tunnel() -> None:
    found = parse.parse(FILE + 'clients = "vpn"\nimap = "post.fortress.test"\n', "site.toml")
    assert (found.clients, found.imap_host) == (Clients.VPN, "post.fortress.test")
    assert str(found.vpn_networks[0]) == "10.77.200.0/24"
    given = parse.parse(FILE + 'clients = "vpn"\n[vpn]\nnetworks = ["10.9.0.0/16"]\n', "site.toml")
    assert str(given.vpn_networks[0]) == "10.9.0.0/16"
    assert given.vpn_networks[1] == found.vpn_networks[1], "the other family's is the usual one"


def test_the_qr_code_is_qrencodes_which_gets_the_key_by_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install qrencode" in qr_code("PrivateKey = secret")
    tool = tmp_path / "qrencode"
    tool.write_text('#!/bin/sh\necho "asked: $*"\nexec /bin/cat\n')
    tool.chmod(0o755)
    assert qr_code("PrivateKey = secret") == "asked: -t ansiutf8\nPrivateKey = secret"
