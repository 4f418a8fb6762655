"""The simulated internet: its zones chain up to the anchor, point where they should, and never vary."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_network

import dns.dnssec
import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mastio import pki
from mastio import secrets as needs
from mastio.dns import records as make
from mastio.lab import internet as segment
from mastio.lab import outside
from mastio.lab.outside import zones
from mastio.site.model import Address, Site
from mastio.vault import Vault
from tests import sites

SITE = sites.demo_site()
V4, V6 = sites.PUBLIC4, sites.PUBLIC6


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    vault = Vault(tmp_path_factory.mktemp("vault"), {})
    needs.ensure(vault, replace(SITE, domains=("fortress.test", "lab.fortress.test")))
    return {**vault, **outside.ensure(vault)}


@pytest.fixture(scope="module")
def texts(secrets: dict[str, str]) -> dict[str, str]:
    return dict(outside.zone_texts(SITE, secrets))


def load(texts: dict[str, str], apex: str) -> dns.zone.Zone:
    return dns.zone.from_text(texts[apex], origin=f"{apex}.", relativize=False)


def find(texts: dict[str, str], name: str, kind: str, apex: str | None = None) -> list[str]:
    """What a zone, the closest one unless told otherwise, says of a name."""
    if apex is None:
        apex = max((a for a in texts if not a or name == a or name.endswith(f".{a}")), key=len)
    rdataset = load(texts, apex).get_rdataset(f"{name}.", kind)
    return sorted(rdata.to_text() for rdata in rdataset or ())


def signed_sets(zone: dns.zone.Zone) -> Iterator[tuple[dns.rrset.RRset, dns.rrset.RRset]]:
    for name, node in zone.nodes.items():
        for rdataset in node.rdatasets:
            if rdataset.rdtype != dns.rdatatype.RRSIG:
                rrsig = node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.RRSIG, rdataset.rdtype)
                if rrsig:
                    yield (
                        dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset)),
                        (dns.rrset.from_rdata_list(name, rrsig.ttl, list(rrsig))),
                    )


def test_it_knows_every_name_of_the_lab(texts: dict[str, str]) -> None:
    assert sorted(texts) == [
        "",
        "0.0.0.0.3.1.1.0.8.b.d.0.1.0.0.2.ip6.arpa",
        "113.0.203.in-addr.arpa",
        "cautious.test",
        "fortress.test",
        "outside.test",
        "plain.test",
    ]
    assert find(texts, "fortress.test", "MX") == ["10 mx.fortress.test."]
    assert find(texts, "fortress.test", "TXT") == [f'"v=spf1 ip4:{V4} ip6:{V6} -all"']
    assert (
        find(texts, "mx.fortress.test", "A") == find(texts, "mail.fortress.test", "A") == [str(V4)]
    )
    assert find(texts, "mx.fortress.test", "AAAA") == [str(V6)]
    assert find(texts, "_dmarc.fortress.test", "TXT")[0].startswith('"v=DMARC1; p=reject;')
    assert find(texts, "outside.test", "MX") == ["10 mx.outside.test."]
    assert find(texts, "lists.fortress.test", "MX") == ["10 mx.outside.test."]
    assert find(texts, "silent.plain.test", "MX") == ["0 ."]


@pytest.mark.parametrize("address", [V4, V6])
def test_the_public_address_leads_back_to_the_mx_alone(
    texts: dict[str, str], address: Address
) -> None:
    assert find(texts, address.reverse_pointer, "PTR") == ["mx.fortress.test."]


def test_every_dkim_selector_is_published(texts: dict[str, str], secrets: dict[str, str]) -> None:
    for domain, selector, kind in (
        ("fortress.test", "k1r", "rsa; p=MIIB"),
        ("fortress.test", "k1e", "ed25519; p="),
        ("fortress.test", "k2r", "rsa; p=MIIB"),
        ("fortress.test", "k2e", "ed25519; p="),
        ("outside.test", "m1", "rsa; p=MIIB"),
    ):
        (record,) = find(texts, f"{selector}._domainkey.{domain}", "TXT")
        assert record.startswith(f'"v=DKIM1; k={kind}')
    assert not any("PRIVATE" in text for text in texts.values())


def test_the_key_that_its_mx_shows_is_published(
    texts: dict[str, str], secrets: dict[str, str]
) -> None:
    (record,) = find(texts, "_25._tcp.mx.outside.test", "TLSA")
    key = x509.load_pem_x509_certificate(secrets["outside/cert"].encode()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert record == f"3 1 1 {sha256(der).hexdigest()}"


def test_signatures_hold_and_chain_up_to_the_anchor(
    texts: dict[str, str], secrets: dict[str, str]
) -> None:
    anchor = outside.internet(SITE, secrets).trust_anchor.split("DNSKEY ")[1].strip()
    for apex in texts:
        zone, origin = load(texts, apex), dns.name.from_text(f"{apex}.")
        keys = {origin: zone.find_rdataset(origin, "DNSKEY")}
        checked = [dns.dnssec.validate(*pair, keys) for pair in signed_sets(zone)]  # type: ignore[arg-type]
        assert len(checked) > 3
        if apex:
            (key,) = keys[origin]
            ds = dns.dnssec.make_ds(origin, key, "SHA256").to_text()
            assert find(texts, apex, "DS", "") == [ds]
        else:
            assert [key.to_text() for key in keys[origin]] == [anchor]


def test_a_changed_record_does_not_validate(texts: dict[str, str]) -> None:
    forged = texts["fortress.test"].replace("10 mx.fortress.test.", "10 mx.outside.test.")
    zone = load({"fortress.test": forged}, "fortress.test")
    origin = dns.name.from_text("fortress.test.")
    keys = {origin: zone.find_rdataset(origin, "DNSKEY")}
    with pytest.raises(dns.exception.DNSException):
        for pair in signed_sets(zone):
            dns.dnssec.validate(*pair, keys)  # type: ignore[arg-type]


def test_building_twice_gives_the_same_bytes(secrets: dict[str, str]) -> None:
    assert outside.build(SITE, secrets) == outside.build(SITE, secrets)


def test_no_private_key_shows(secrets: dict[str, str]) -> None:
    state = outside.build(SITE, secrets)
    assert "PRIVATE" not in repr(state)
    for file in state.files:
        if "PRIVATE KEY" in file.content:
            assert file.secret and file.mode == 0o640
    assert not any(secrets["outside/dnssec"] in file.content for file in state.files)


def test_it_listens_on_both_families_and_has_no_firewall(secrets: dict[str, str]) -> None:
    state = outside.build(SITE, secrets)
    open_sockets = {(str(it.address), it.port, str(it.transport)) for it in state.listeners}
    for address in segment.mta(SITE):
        assert (str(address), 25, "tcp") in open_sockets
    for address in (*segment.nameserver(SITE), *segment.resolver(SITE)):
        assert {(str(address), 53, "tcp"), (str(address), 53, "udp")} <= open_sockets
    assert not state.firewall


def test_secrets_are_made_once_and_follow_the_authority(secrets: dict[str, str]) -> None:
    assert outside.ensure(secrets) == {}
    key, cert = pki.authority("another")
    moved = {**secrets, "public-ca/key": key, "public-ca/cert": cert}
    assert set(outside.ensure(moved)) == {"outside/key", "outside/cert"}


def test_an_ipv4_site_stands_in_an_ipv4_internet(secrets: dict[str, str]) -> None:
    site = sites.v4_site()
    texts = dict(outside.zone_texts(site, secrets))
    assert not any(apex.endswith("ip6.arpa") for apex in texts)
    assert not find(texts, "mx.fortress.test", "AAAA") and find(texts, "mx.fortress.test", "A")


def test_without_a_perimeter_names_lead_to_the_machines(secrets: dict[str, str]) -> None:
    site = sites.webmail_site()
    texts = dict(outside.zone_texts(site, secrets))
    assert find(texts, "mx.fortress.test", "A") == [str(V4)]
    (webmail,) = find(texts, "mail.fortress.test", "A")
    assert webmail == str(site.machine("webmail").addresses[0])
    back = site.machine("webmail").addresses[0].reverse_pointer
    assert find(texts, back, "PTR") == ["mail.fortress.test."]


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: str(site.topology))
def test_every_topology_has_its_internet(secrets: dict[str, str], site: Site) -> None:
    assert outside.build(site, secrets).files


def test_a_subdomain_is_delegated_by_the_zone_above_it(secrets: dict[str, str]) -> None:
    site = replace(SITE, domains=("lab.fortress.test", "fortress.test"))
    texts = dict(outside.zone_texts(site, secrets))
    assert find(texts, "lab.fortress.test", "DS", "fortress.test")
    assert "lab.fortress.test." not in texts[""]


def test_reverse_zones_are_cut_at_octets_and_nibbles() -> None:
    assert zones.reverse_zone(ip_network("203.0.113.0/24")) == "113.0.203.in-addr.arpa"
    assert zones.reverse_zone(ip_network("203.0.113.128/25")) == "113.0.203.in-addr.arpa"
    assert zones.reverse_zone(ip_network("2001:db8::/32")) == "8.b.d.0.1.0.0.2.ip6.arpa"


def test_long_text_is_cut_into_strings() -> None:
    assert make.text("a" * 300) == f'"{"a" * 255}" "{"a" * 45}"'
