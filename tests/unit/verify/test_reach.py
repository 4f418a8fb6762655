"""What should be reachable, against expectations written by hand."""

from ipaddress import ip_address
from time import monotonic
from typing import Any

import pytest

from mastio import services
from mastio.flows import expand
from mastio.transport import OUTSIDE
from mastio.verify import reach, registry
from mastio.verify.checks import network
from mastio.verify.checks.network import ranges
from mastio.verify.doors import doors
from mastio.verify.model import Cell
from mastio.verify.vantage import NotRunError, Vantage
from tests import sites
from tests.unit.verify.fakes import ground

SITE = sites.demo_site()
MATRIX = expand(SITE)


def wanted(vantage: str, target: str, source: str = "192.0.2.9") -> set[str]:
    found = next(it for it in reach.targets(MATRIX, vantage) if it.name == target)
    return {
        f"{port}/{kind}"
        for kind, port in reach.expected(MATRIX, vantage, found, ip_address(source))
    }


def test_the_internet_reaches_mail_and_web() -> None:
    assert wanted(OUTSIDE, reach.PUBLIC) == {"25/tcp", "80/tcp", "443/tcp"}


def test_administrators_reach_ssh_as_well() -> None:
    admin = str(SITE.admin_networks[0][1])
    assert wanted(OUTSIDE, reach.PUBLIC, admin) == {"22/tcp", "25/tcp", "80/tcp", "443/tcp"}


def test_machines_reach_what_their_work_needs() -> None:
    assert wanted("gateway", "store") == {"24/tcp"}
    assert wanted("webmail", "store") == {"106/tcp", "465/tcp", "993/tcp", "4190/tcp"}
    assert wanted("store", "gateway") == {"587/tcp", "11334/tcp"}
    assert wanted("store", "webmail") == set()
    assert wanted("store", "watch") == {"123/udp", "3128/tcp", "6514/tcp"}
    assert wanted("watch", "firewall") == {"22/tcp"}
    assert wanted("webmail", reach.PUBLIC) == set()


def test_every_vantage_looks_at_both_families_and_at_the_firewall_before_it() -> None:
    for machine in SITE.machines:
        targets = reach.targets(MATRIX, machine.name)
        addresses = [it.address for it in targets]
        assert {it.version for it in addresses} == {4, 6} and len(set(addresses)) == len(addresses)
        assert not set(addresses) & set(machine.addresses)
        if machine.name != "firewall":
            assert set(SITE.zone(machine.zone).routers) <= set(addresses)


def test_faults_are_found_and_a_clean_cell_has_none() -> None:
    tcp = (("tcp", 24),)
    clean = Cell("gateway", "store", "10.77.3.10", tcp, tcp, (), 65535)
    assert list(reach.faults(clean)) == []
    (words,) = reach.faults(Cell("gateway", "store", "a", tcp, (*tcp, ("tcp", 993)), (), 1))
    assert "answers on 993/tcp" in words
    (words,) = reach.faults(Cell("gateway", "store", "a", tcp, tcp, (("tcp", 3306),), 1))
    assert "not filtered on 3306/tcp" in words
    (words,) = reach.faults(Cell("gateway", "store", "a", tcp, (), tcp, 1))
    assert "does not answer" in words and "24/tcp" in words


def test_long_lists_are_cut() -> None:
    assert reach.listed([("tcp", n) for n in range(20)], 2) == "0/tcp, 1/tcp and 18 more"


def test_ranges() -> None:
    assert ranges("1 7 19-23") == ((1, 1), (7, 7), (19, 23))


def test_who_has_two_roles_tries_its_own_doors_too() -> None:
    matrix = expand(sites.single_site())
    found = {it.service.name for it in doors(matrix, "mail")}
    assert {"imaps", "submissions", "sieve", "delivery", "relay", "learn", "password"} == found
    assert not [it for it in doors(matrix, OUTSIDE) if it.service is services.IMAPS]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (network.reachability, "no other machine"),
        (network.egress, "no perimeter"),
        (network.joined, "no tunnels"),
        (network.devices, "have no tunnel"),
    ],
)
def test_what_a_lone_machine_cannot_prove_is_not_run(check: Any, words: str) -> None:
    with pytest.raises(NotRunError, match=words):
        list(check(Vantage("mail", ground(site=sites.single_site()), monotonic() + 10)))


def test_no_check_is_without_a_word_on_any_topology() -> None:
    for site in sites.all_sites():
        for check in registry.CHECKS:
            assert check.vantages(site), f"{check.id} is silently left out of {site.topology}"
