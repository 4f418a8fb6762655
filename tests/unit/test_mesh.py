"""Machines without a firewall: who has a tunnel to whom, what goes inside, and what the rules make of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from mastio import pki, secrets, services
from mastio.build import build
from mastio.context import Internet
from mastio.firewall import ruleset
from mastio.flows import expand
from mastio.roles.mesh import CONFIG, KEY
from mastio.site import parse
from mastio.site.model import Role, Site
from mastio.site.problems import SiteFileError
from mastio.state import File
from mastio.vault import Vault
from mastio.verify import reach
from tests import sites

FILE = """
schema = 1
name = "demo"
organisation = "Fortress"
domains = ["fortress.test"]
admin = "a@fortress.test"
public = ["203.0.113.1", "203.0.113.2", "198.51.100.3"]
reach = "lab"
"""
THREE = """
[machines.front]
roles = ["gateway-in", "gateway-out"]
zone = "here"
addresses = ["203.0.113.1"]
[machines.keep]
roles = ["store", "watch"]
zone = "there"
addresses = ["198.51.100.3"]
[machines.web]
roles = ["webmail"]
zone = "here"
addresses = ["203.0.113.2"]
[zones.here]
[zones.there]
"""


def three() -> Site:
    """Machines at two providers, each a zone."""
    return parse.parse(FILE + THREE, "site.toml")


def files(site: Site, machine: str, folder: Path) -> dict[str, File]:
    vault = Vault(folder, {})
    secrets.ensure(vault, site)
    return {it.path: it for it in build(site, vault, Internet())[machine].files}


def test_what_machines_say_to_each_other_goes_inside_and_ssh_beside_it() -> None:
    matrix = expand(sites.webmail_site())
    mail, web = matrix.site.machines
    for flow in matrix.flows:
        if {flow.source, flow.target} != {mail.name, web.name}:
            assert not matrix.tunnelled(flow)
            continue
        beside = flow.service in (services.SSH, services.MESH)
        there = matrix.site.machine(flow.target)
        assert matrix.met(flow) == (there.addresses if beside else there.inner)
    assert all(matrix.met(flow) == mail.inner for flow in matrix.inner)


def test_machines_have_a_tunnel_where_the_matrix_joins_them_and_nowhere_else() -> None:
    matrix = expand(three())
    joined = {
        it.name: {other.name for other in matrix.mesh(it.name)} for it in matrix.site.machines
    }
    assert joined == {"front": {"keep"}, "keep": {"front", "web"}, "web": {"keep"}}
    for site in (sites.demo_site(), sites.split_site(), sites.single_site()):
        assert not [it for it in expand(site).flows if it.service is services.MESH]


def test_the_port_is_open_to_the_other_end_alone() -> None:
    matrix = expand(sites.webmail_site())
    rules = ruleset(matrix, matrix.site.machine("mail"))
    into = rules.partition("chain input")[2].partition("chain output")[0].splitlines()
    assert [it.split(" comment")[0].strip() for it in into if "dport 51821" in it] == [
        "ip saddr 203.0.113.2 ip daddr 203.0.113.1 udp dport 51821 accept",
        "ip6 saddr 2001:db8:113::2 ip6 daddr 2001:db8:113::1 udp dport 51821 accept",
    ]
    assert [it.split(" comment")[0].strip() for it in into if "dport 993" in it] == [
        "ip saddr 10.77.201.11 ip daddr 10.77.201.10 tcp dport 993 accept",
        "ip6 saddr fd6d:6173:7469:201::b ip6 daddr fd6d:6173:7469:201::a tcp dport 993 accept",
    ]


def test_what_belongs_into_the_tunnel_goes_no_other_way_whatever_was_agreed_before() -> None:
    matrix = expand(sites.webmail_site())
    rules = ruleset(matrix, matrix.site.machine("webmail"))
    arrival = rules.partition("chain arrival {")[2].partition("chain input {")[0]
    output = rules.partition("chain output {")[2]
    for address in ("ip {} 10.77.201.10", "ip6 {} fd6d:6173:7469:201::a"):
        assert f'iifname != "mesh" {address.format("saddr")} goto spoofed' in arrival
        stray = output.index(f'oifname != "mesh" {address.format("daddr")} counter reject')
        assert stray < output.index("ct state established,related accept")


def test_each_end_has_its_own_key_and_the_public_halves_of_those_it_talks_to(
    tmp_path: Path,
) -> None:
    site = three()
    vault = Vault(tmp_path, {})
    secrets.ensure(vault, site)
    file = {it.path: it for it in build(site, vault, Internet())["web"].files}[CONFIG]
    assert file.secret and file.mode == 0o600
    assert f"PrivateKey = {vault[KEY.format('web')]}\n" in file.content
    assert f"PublicKey = {pki.wireguard_public(vault[KEY.format('keep')])}\n" in file.content
    assert file.content.count("[Peer]") == 1
    assert "Endpoint = 198.51.100.3:51821\n" in file.content
    assert "AllowedIPs = 10.77.201.11/32\n" in file.content
    known = secrets.for_machine(vault, site, site.machine("web"))
    assert [it for it in known if it.startswith("mesh/") and it.endswith("/key")] == [
        "mesh/web/key"
    ]


def test_postfix_calls_with_the_address_that_the_other_end_lets_in(tmp_path: Path) -> None:
    master = files(three(), "front", tmp_path)["/etc/postfix/master.cf"].content
    assert "\n10.77.201.10:587 inet" in master and "\n587 " not in master
    assert "-o smtp_bind_address=10.77.201.10\n" in master
    hosts = files(three(), "front", tmp_path)["/etc/hosts"].content
    assert "10.77.201.11 keep." in hosts and "198.51.100.3" not in hosts


def test_a_stranger_and_a_neighbour_find_no_more_than_before() -> None:
    matrix = expand(sites.webmail_site())
    mail = matrix.site.machine("mail")
    for target in reach.targets(matrix, "webmail"):
        found = reach.expected(
            matrix, "webmail", target, matrix.site.machine("webmail").addresses[0]
        )
        inner = target.address in mail.inner
        assert (("tcp", services.IMAPS.port) in found) is inner
        assert ("udp", services.MESH.port) not in found, "it is silent to a scan"
        assert found == () or inner


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('topology = "webmail"\n[mesh]\nnetworks = ["10.9.0.0/28"]', "10.9.0.0/28 is too small"),
        ('topology = "webmail"\n[mesh]\nnetworks = ["fd00::/64"]', "the site has no IPv6 address in `public`"),
        (
            'topology = "webmail"\n[mesh]\nnetworks = ["10.9.0.0/24", "10.8.0.0/24"]',
            "10.8.0.0/24 is a second IPv4 network",
        ),
        ('topology = "webmail"\n[mesh]\nnetworks = ["203.0.113.0/24"]', "203.0.113.1 of `public` meet"),
        ('topology = "webmail"\n[mesh]\nnetworks = ["mesh"]', "mesh.networks"),
        ('topology = "webmail"\n[admins]\nnetworks = ["10.77.201.0/28"]\nkeys = []', "of admins.networks meet"),
        ('[mesh]\nnetworks = ["10.9.0.0/24"]', "there are no tunnels between machines"),
        ('topology = "single"\n[mesh]\nnetworks = ["10.9.0.0/24"]', "there are no tunnels between machines"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(more: str, said: str) -> None:
    with pytest.raises(SiteFileError) as caught:
        parse.parse(FILE + more, "site.toml")
    assert said in str(caught.value)


def test_the_network_is_a_choice() -> None:
    text = FILE + 'topology = "webmail"\n[mesh]\nnetworks = ["10.9.0.0/24"]'
    assert [str(it.inside[0]) for it in parse.parse(text, "site.toml").machines] == [
        "10.9.0.10",
        "10.9.0.11",
    ]
    walled = replace(sites.demo_site()).carrying(Role.STORE)[0]
    assert walled.inside == walled.addresses
