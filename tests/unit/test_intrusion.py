"""Rules for Suricata from the flow matrix: each flow has its own, and nothing is typed twice."""

import re
from dataclasses import replace

import pytest

from mastio import intrusion, services
from mastio.flows import INTERNET, expand
from mastio.intrusion import INSIDE, OUTSIDE, WIRES
from mastio.site.model import Intrusion, Site
from tests import sites

DEMO = sites.demo_site()
RULE = re.compile(
    r"alert (?P<kind>\w+) (?P<source>\S+) (?P<from>\S+) (?:->|<>) (?P<target>\S+) (?P<to>\S+) \((?P<options>.*)\)"
)


def rules(site: Site = DEMO) -> list[dict[str, str]]:
    lines = [it for it in intrusion.rules(expand(site)).splitlines() if it and it[0] != "#"]
    found = [RULE.fullmatch(it) for it in lines]
    assert all(found)
    return [it.groupdict() for it in found if it]


def about(words: str, site: Site = DEMO) -> list[dict[str, str]]:
    return [it for it in rules(site) if f'msg:"mastio: {words}' in it["options"]]


def test_what_is_spoken_is_known_of_every_service() -> None:
    assert WIRES.keys() == {*services.ALL}


@pytest.mark.parametrize("site", [DEMO, sites.split_site(), sites.v4_site()])
def test_every_flow_across_the_firewall_has_a_rule_and_no_two_have_a_number(site: Site) -> None:
    matrix = expand(site)
    text = intrusion.rules(matrix)
    for flow in matrix.forwarded:
        assert f'msg:"{intrusion.message(flow)}";' in text
    numbers = re.findall(r"sid:(\d+);", text)
    assert len(numbers) == len({*numbers}) and min(map(int, numbers)) > intrusion.FIRST
    assert text == intrusion.rules(expand(site))


def test_mail_from_outside() -> None:
    first, mark, at_once, after = (
        it for it in rules() if it["source"] == "$EXTERNAL_NET" and it["to"] == "25"
    )
    assert first["kind"] == "tcp" and first["target"] == "[10.77.1.10,fd6d:6173:7469:1::a]"
    for negative in ("app-layer-protocol:!smtp;", "app-layer-protocol:!tls;"):
        assert negative in first["options"]
    assert (
        mark["kind"] == "smtp" and "flowbits:set,mastio.smtp; flowbits:noalert;" in mark["options"]
    )
    assert at_once["kind"] == "tls" and "flowbits:isnotset,mastio.smtp;" in at_once["options"]
    assert "app-layer-event:applayer_no_tls_after_starttls;" in after["options"]


def test_strangers_are_counted_and_our_own_machines_are_told_of() -> None:
    for words, priority in (
        ("internet > gateway smtp", OUTSIDE),
        ("internet > webmail https", OUTSIDE),
        ("gateway > internet smtp: not smtp", INSIDE),
        ("gateway > watch syslog", INSIDE),
        ("watch > firewall ssh", INSIDE),
        ("admin > watch ssh: not ssh", INSIDE),
        # What somebody on the internet answers is not what our machine does.
        ("gateway > internet dns: not dns, the answer", OUTSIDE),
    ):
        found = about(words)
        assert found, words
        assert all(f"priority:{priority};" in it["options"] for it in found), words


def test_a_protocol_that_suricata_does_not_know_is_told_by_those_that_it_knows() -> None:
    first, answer, begun = about("webmail > store sieve")
    assert "app-layer-protocol:!failed;" in first["options"]
    assert answer["from"] == "4190"
    # And by what its clients begin with, or go on with in TLS.
    for word in ("STARTTLS", "LOGOUT", "|16 03|"):
        assert f'content:!"{word}"; depth:' in begun["options"]


def test_names_and_time_have_rules_for_their_transports() -> None:
    assert {it["kind"] for it in about("gateway > internet dns")} == {"tcp", "udp"}
    assert {it["kind"] for it in about("gateway > watch ntp")} == {"udp"}
    assert not any("established" in it["options"] for it in rules() if it["kind"] == "udp")


def test_every_two_zones_are_heard_in_one_place() -> None:
    found = intrusion.segments(expand(DEMO))
    assert [it.zone for it in found] == ["mail", "web", "core", "mgmt"]
    assert [str(it.address) for it in found] == [f"10.77.{it}.1" for it in (1, 2, 3, 4)]
    for number, one in enumerate(found):
        for other, zone in enumerate(DEMO.zones):
            for network in zone.networks:
                assert (f"not net {network}" in one.filter) == (other < number)
        # A declared port, or a fragment, which has none.
        assert "(port 22 or " in one.filter and "port 11334 or ip[6:2]" in one.filter
        assert "3306" not in one.filter


def test_the_internet_is_heard_where_it_has_come_in() -> None:
    assert not any(it.zone == INTERNET for it in intrusion.segments(expand(sites.split_site())))


def test_switched_off_or_without_a_firewall_there_is_none() -> None:
    assert intrusion.watched(expand(DEMO))
    assert not intrusion.watched(expand(replace(DEMO, ids=Intrusion(enabled=False))))
    assert not intrusion.watched(expand(sites.single_site()))
    assert intrusion.flows(expand(sites.single_site())) == ()
