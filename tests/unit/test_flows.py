"""The promises of the flow matrix, written by hand: they must hold whatever the policy table becomes."""

from dataclasses import replace

import pytest

from mastio import services
from mastio.flows import ADMIN, INTERNET, FlowMatrix, expand
from mastio.site.model import Alarms, Site
from tests import sites


def cells(matrix: FlowMatrix) -> set[tuple[str, str, int]]:
    return {(flow.source, flow.target, flow.service.port) for flow in matrix.flows}


def test_the_internet_reaches_only_mail_and_web() -> None:
    from_outside = {it for it in cells(expand(sites.demo_site())) if it[0] == INTERNET}
    assert from_outside == {
        (INTERNET, "gateway", 25),
        (INTERNET, "webmail", 80),
        (INTERNET, "webmail", 443),
    }


def test_the_sending_gateway_takes_nothing_from_the_internet() -> None:
    assert not [
        it for it in expand(sites.split_site()).into("gateway-out") if it.source == INTERNET
    ]


@pytest.mark.parametrize("site", [sites.demo_site(), sites.split_site(), sites.v4_site()])
def test_only_webmail_reads_mail(site: Site) -> None:
    for port in (993, 465, 4190):
        assert {it for it in cells(expand(site)) if it[2] == port} == {("webmail", "store", port)}


def test_only_the_sending_gateway_sends_mail_outside() -> None:
    senders = {it for it in cells(expand(sites.split_site())) if it[1:] == (INTERNET, 25)}
    assert senders == {("gateway-out", INTERNET, 25)}


def test_only_the_store_and_a_receiving_gateway_hand_over_mail_to_be_sent() -> None:
    def relayed(site: Site) -> set[tuple[str, str, int]]:
        return {it for it in cells(expand(site)) if it[2] == 587}

    assert relayed(sites.demo_site()) == {("store", "gateway", 587)}
    assert relayed(sites.split_site()) == {
        ("store", "gateway-out", 587),
        ("gateway-in", "gateway-out", 587),
    }


def test_watch_hands_over_mail_only_where_alarms_go_outside() -> None:
    for site, gateway in ((sites.demo_site(), "gateway"), (sites.split_site(), "gateway-out")):
        outside = replace(site, alarms=Alarms(outside=("ops@far.test",)))
        assert cells(expand(outside)) - cells(expand(site)) == {("watch", gateway, 587)}


def test_only_the_store_trains_the_filter_and_every_receiving_gateway_is_trained() -> None:
    for site, gateway in ((sites.demo_site(), "gateway"), (sites.split_site(), "gateway-in")):
        assert {it for it in cells(expand(site)) if it[2] == 11334} == {("store", gateway, 11334)}


def test_only_the_sending_gateway_fetches_policies() -> None:
    found = {it for it in cells(expand(sites.split_site())) if it[2] == 3129}
    assert found == {("gateway-out", "watch", 3129)}


@pytest.mark.parametrize("site", [sites.demo_site(), sites.split_site(), sites.v4_site()])
def test_the_store_has_no_path_to_the_internet(site: Site) -> None:
    matrix = expand(site)
    assert not [it for it in matrix.out_of("store") if it.target in (INTERNET, ADMIN)]
    assert not [it for it in matrix.into("store") if it.source in (INTERNET, ADMIN)]


def test_only_watch_administers_and_only_administrators_reach_watch() -> None:
    site = sites.demo_site()
    ssh = {it for it in cells(expand(site)) if it[2] == 22}
    others = {machine.name for machine in site.machines} - {"watch"}
    assert ssh == {("watch", name, 22) for name in others} | {(ADMIN, "watch", 22)}


def test_every_machine_logs() -> None:
    site = sites.demo_site()
    logging = {source for source, target, port in cells(expand(site)) if port == 6514}
    assert logging == {machine.name for machine in site.machines} - {"watch"}


def test_a_lone_machine_talks_only_to_the_outside() -> None:
    assert cells(expand(sites.single_site())) == {
        (INTERNET, "mail", 25), (INTERNET, "mail", 80), (INTERNET, "mail", 443),
        (ADMIN, "mail", 22),
        ("mail", INTERNET, 25), ("mail", INTERNET, 53), ("mail", INTERNET, 80),
        ("mail", INTERNET, 443), ("mail", INTERNET, 123),
    }  # fmt: skip


def test_what_its_roles_say_to_each_other_stays_inside_a_lone_machine() -> None:
    inner = expand(sites.single_site()).inner
    assert {(it.source, it.target) for it in inner} == {("mail", "mail")}
    assert {it.service.name for it in inner} == {
        "delivery", "imaps", "submissions", "sieve", "password", "relay", "learn",
    }  # fmt: skip
    for site in (sites.demo_site(), sites.split_site()):
        assert expand(site).inner == ()


def test_the_firewall_forwards_what_crosses_zones_and_only_that() -> None:
    matrix = expand(sites.demo_site())
    crossing = {(it.source, it.target) for it in matrix.forwarded}
    assert ("watch", "store") in crossing
    assert not [pair for pair in crossing if "firewall" in pair]
    assert {(it.source, it.target) for it in matrix.published} == {
        (INTERNET, "gateway"), (INTERNET, "webmail"), (ADMIN, "watch"),
    }  # fmt: skip


def test_an_endpoint_in_packets() -> None:
    site = sites.demo_site()
    matrix = expand(site)
    assert matrix.networks("store") == site.machine("store").addresses
    assert matrix.networks(ADMIN) == site.admin_networks
    assert matrix.networks(INTERNET) == ()
    assert matrix.allows("webmail", "store", services.IMAPS)
    assert not matrix.allows("gateway", "store", services.IMAPS)
