"""The rules of each machine, read as text; with root also by nft itself."""

import os
import re
import subprocess

import pytest

from mastio.firewall import ruleset
from mastio.flows import expand
from mastio.site.model import Role, Site
from tests import sites


def rules_of(site: Site, machine: str) -> str:
    return ruleset(expand(site), site.machine(machine))


def rules_for(port: int, rules: str) -> list[str]:
    return [line.strip() for line in rules.splitlines() if f"dport {port} " in line]


def test_imap_on_the_store_is_open_to_webmail_alone() -> None:
    site = sites.demo_site()
    webmail, store = site.machine("webmail").addresses, site.machine("store").addresses
    assert [line.split(" comment")[0] for line in rules_for(993, rules_of(site, "store"))] == [
        f"ip saddr {webmail[0]} ip daddr {store[0]} tcp dport 993 accept",
        f"ip6 saddr {webmail[1]} ip6 daddr {store[1]} tcp dport 993 accept",
    ]


def test_no_machine_but_the_gateway_may_open_port_25() -> None:
    site = sites.demo_site()
    for machine in ("store", "webmail", "watch"):
        assert rules_for(25, rules_of(site, machine)) == []


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_every_chain_that_judges_drops_by_default(site: Site) -> None:
    for machine in site.machines:
        rules = rules_of(site, machine.name)
        hooks = re.findall(r"hook (input|output|forward) priority filter; policy (\w+);", rules)
        expected = ["input", "output"] + ["forward"] * machine.has(Role.FIREWALL)
        assert hooks == [(hook, "drop") for hook in expected]
        assert rules.count("flush ruleset") == 1
        assert 'log prefix "mastio input:"' in rules


def test_the_client_keeps_its_address_on_the_way_in() -> None:
    rules = rules_of(sites.demo_site(), "firewall")
    assert "ip saddr != @site4 ip daddr { 203.0.113.1 } tcp dport 25 dnat ip to 10.77.1.10" in rules
    assert "ip6 daddr { 2001:db8:113::1 } tcp dport 25 dnat ip6 to fd6d:6173:7469:1::a" in rules
    assert "masquerade" not in rules
    assert re.findall(r"snat ip6? to (\S+)$", rules, re.MULTILINE) == [
        "203.0.113.1", "2001:db8:113::1",
    ]  # fmt: skip


def test_a_caller_that_must_be_told_apart_is_led_to_its_own_door() -> None:
    rules = rules_of(sites.demo_site(), "watch")
    led = [line.split(" comment")[0] for line in rules_for(6514, rules)]
    assert (
        "ip saddr 10.77.3.10 ip daddr 10.77.4.10 tcp dport 6514 dnat ip to 10.77.4.10:6517" in led
    )
    assert (
        "ip6 saddr fd6d:6173:7469:3::a ip6 daddr fd6d:6173:7469:4::a tcp dport 6514 "
        "dnat ip6 to [fd6d:6173:7469:4::a]:6517"
    ) in led
    assert len(led) == 8 and all(" dnat " in line for line in led)
    # Nobody gets to a door but so, not even the one whose it is.
    assert [line.split(" comment")[0] for line in rules_for(6517, rules)] == [
        "ip saddr 10.77.3.10 ip daddr 10.77.4.10 tcp dport 6517 ct status dnat accept",
        "ip6 saddr fd6d:6173:7469:3::a ip6 daddr fd6d:6173:7469:4::a tcp dport 6517 ct status dnat accept",
    ]
    assert "dnat" not in rules_of(sites.demo_site(), "store")


def test_only_published_flows_are_forwarded_from_outside() -> None:
    rules = rules_of(sites.demo_site(), "firewall")
    from_outside = [line for line in rules.splitlines() if "ct status dnat" in line]
    assert sorted(re.findall(r"dport (\d+)", "\n".join(from_outside))) == sorted(
        2 * ["25", "80", "443"]
    )
    assert all("jump client" in line for line in from_outside)


def test_a_machine_without_a_perimeter_limits_its_clients_itself() -> None:
    rules = rules_of(sites.single_site(), "mail")
    assert "ip saddr != @site4 ip daddr 203.0.113.1 tcp dport 25 jump client" in rules
    assert "ct count over" in rules
    assert "nat hook" not in rules
    assert "ct count over" not in rules_of(sites.demo_site(), "gateway")


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_what_comes_in_and_mail_that_leaves_is_told_where_the_internet_begins(site: Site) -> None:
    matrix = expand(site)
    for machine in site.machines:
        rules = rules_of(site, machine.name)
        out = [it for it in rules_for(25, rules) if "daddr != @site" in it]
        faces = machine == matrix.firewall or matrix.firewall is None
        assert ('log prefix "mastio accept:"' in rules) is faces
        assert all(("goto leaving" in it) is faces for it in out)
        assert rules.count("ct mark set 1") == 2 * faces
        sends = machine == matrix.firewall or machine.has(Role.GATEWAY_OUT)
        assert bool(out) is sends


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_who_was_away_says_that_it_has_forgotten(site: Site) -> None:
    """To the site's own machines: a stranger hears nothing."""
    for machine in site.machines:
        rules = rules_of(site, machine.name)
        said = [line.strip() for line in rules.splitlines() if "goto forgotten" in line]
        assert len(said) == 2 and all("@site" in line.split("tcp")[0] for line in said)


def test_no_router_advertisement_is_believed_behind_the_firewall() -> None:
    assert "icmpv6 type nd-router-advert" not in rules_of(sites.demo_site(), "store")
    assert "icmpv6 type nd-router-advert" in rules_of(sites.demo_site(), "firewall")


def test_a_family_that_the_site_lacks_outside_leads_nowhere() -> None:
    rules = rules_of(sites.v4_site(), "gateway")
    assert rules_for(25, rules)
    assert not [line for line in rules_for(25, rules) if "ip6 " in line]


def test_comments_fit_what_nft_allows() -> None:
    for site in sites.all_sites():
        for machine in site.machines:
            for text in re.findall(r'comment "([^"]*)"', rules_of(site, machine.name)):
                assert len(text.encode()) <= 128


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="nft checks a ruleset only for root")
@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_nft_accepts_every_ruleset(site: Site) -> None:
    for machine in site.machines:
        done = subprocess.run(
            ["unshare", "--net", "nft", "--check", "--file", "-"],
            input=rules_of(site, machine.name), text=True, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_bans_are_judged_first_and_only_where_the_internet_arrives(site: Site) -> None:
    facing = expand(site).firewall
    for machine in site.machines:
        rules = rules_of(site, machine.name)
        if facing not in (None, machine):
            assert "banned" not in rules
            continue
        arrival = rules.index("chain arrival {")
        for family, ip in ((4, "ip"), (6, "ip6")):
            drop = f"{ip} saddr != @site{family} {ip} saddr @banned{family} counter drop"
            assert arrival < rules.index(drop) < rules.index("ct state established,related accept")
        # loaded with every ruleset, in its transaction
        assert rules.endswith('}\ninclude "/var/lib/mastio/bans/*.nft"\n')
