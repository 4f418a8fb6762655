"""Which machines, links and addresses a site needs; the ssh_config that reaches them."""

import json

import pytest

from mastio.errors import MastioError
from mastio.lab import bootstrap, internet, network, ssh
from mastio.lab.model import LabMachine, machines, recall
from mastio.site.model import Site
from mastio.state import HostState
from tests.sites import all_sites, demo_site, single_site, v4_site, webmail_site


def of(site: Site) -> dict[str, LabMachine]:
    states = {it.name: HostState(packages=("b", "a")) for it in site.machines}
    states["outside"] = HostState(packages=("swaks",))
    return {it.name: it for it in machines(site, states)}


def links(machine: LabMachine) -> dict[str, list[str]]:
    return {link.segment: [str(it) for it in link.addresses] for link in machine.links}


def test_the_firewall_stands_everywhere_and_each_machine_in_its_zone() -> None:
    found = of(demo_site())
    assert list(links(found["firewall"])) == ["mail", "web", "core", "mgmt", "internet"]
    assert links(found["firewall"])["core"] == ["10.77.3.1/24", "fd6d:6173:7469:3::1/64"]
    assert links(found["firewall"])["internet"] == ["203.0.113.1/24", "2001:db8:113::1/64"]
    assert links(found["store"]) == {"core": ["10.77.3.10/24", "fd6d:6173:7469:3::a/64"]}
    assert [str(it) for it in found["store"].links[0].routers] == [
        "10.77.3.1",
        "fd6d:6173:7469:3::1",
    ]
    assert found["store"].packages == ("a", "b")


def test_outside_is_everybody_else() -> None:
    found = of(demo_site())["outside"]
    addresses = links(found)["internet"]
    assert addresses[:2] == ["203.0.113.100/24", "2001:db8:113::100/64"]
    assert {"203.0.113.53/24", "2001:db8:113::53/64", "203.0.113.200/24"} <= set(addresses)
    assert links(of(v4_site())["outside"])["internet"][:2] == [
        "203.0.113.100/24",
        "203.0.113.53/24",
    ]


@pytest.mark.parametrize("site", [single_site(), webmail_site()], ids=["single", "webmail"])
def test_without_a_firewall_all_stand_on_the_internet(site: Site) -> None:
    for machine in of(site).values():
        assert list(links(machine)) == ["internet"]


def test_machines_that_tunnels_will_join_can_have_them() -> None:
    """Plain ones too, as a kernel of a provider's knows WireGuard before anybody asks for it."""
    assert {it.name for it in of(webmail_site()).values() if it.devices} == {"mail", "webmail"}
    for site in (single_site(), demo_site()):
        assert not [it for it in of(site).values() if it.devices]


@pytest.mark.parametrize("site", all_sites())
def test_a_machine_comes_back_from_its_record(site: Site) -> None:
    for machine in of(site).values():
        assert recall(json.loads(json.dumps(machine.record()))) == machine


def test_no_address_is_given_twice() -> None:
    for site in all_sites():
        given = [
            str(it)
            for machine in of(site).values()
            for link in machine.links
            for it in link.addresses
        ]
        assert len(given) == len(set(given))


def test_a_public_address_that_the_internet_needs_is_refused() -> None:
    from dataclasses import replace
    from ipaddress import ip_address

    with pytest.raises(MastioError, match=r"203\.0\.113\.53"):
        internet.outside(replace(demo_site(), public=(ip_address("203.0.113.53"),)))


def test_interface_names_fit_the_kernel() -> None:
    assert network.interface("mail") == "mail"
    long = [network.interface(f"a-very-long-zone-name-{it}") for it in range(9)]
    assert len(set(long)) == 9
    assert all(len(it) <= 15 for it in long)


def test_ssh_goes_through_watch() -> None:
    text = "\n".join(ssh.config(demo_site()))
    assert "Host store 10.77.3.10 fd6d:6173:7469:3::a\n    HostName 10.77.3.10" in text
    assert text.count("ProxyJump watch") == 4
    (way,) = [line for line in text.splitlines() if "ProxyCommand" in line]
    assert way.endswith("socat - TCP:203.0.113.1:22,bind=203.0.113.200")
    assert "StrictHostKeyChecking yes" in text


def test_a_new_ssh_key_is_what_openssh_reads() -> None:
    private, public = bootstrap.ssh_key("somebody")
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert public.startswith("ssh-ed25519 ")
    assert public.endswith(" somebody\n")
    assert bootstrap.ssh_key("x") != bootstrap.ssh_key("x")
