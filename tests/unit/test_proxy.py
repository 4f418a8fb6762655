"""Mail programs on the internet: they meet the proxy on the gateway, and the store no more than before."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mastio import pki, secrets, services
from mastio.build import build
from mastio.context import Internet
from mastio.dns import autoconfig, zone
from mastio.flows import INTERNET, expand
from mastio.site import parse
from mastio.site.model import Clients, Site
from mastio.site.problems import SiteFileError
from mastio.vault import Vault
from mastio.verify import breach
from mastio.verify.grants import Power
from tests import sites
from tests.unit.test_vpn import FILE


def site(split: bool = False) -> Site:
    return replace(sites.split_site() if split else sites.demo_site(), clients=Clients.INTERNET)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    found = Vault(tmp_path, {})
    secrets.ensure(found, site())
    return found


def content(machine: str, path: str, vault: Vault) -> str:
    return next(
        it.content for it in build(site(), vault, Internet())[machine].files if it.path == path
    )


@pytest.mark.parametrize("split", [False, True])
def test_programs_reach_the_receiving_gateway_and_only_that_the_store(split: bool) -> None:
    def cells(site: Site) -> set[tuple[str, str, str]]:
        return {(it.source, it.target, it.service.name) for it in expand(site).flows}

    usual = sites.split_site() if split else sites.demo_site()
    gateway = "gateway-in" if split else "gateway"
    assert cells(site(split)) - cells(usual) == {
        (source, target, name)
        for source, target in ((INTERNET, gateway), (gateway, "store"))
        for name in ("imaps", "submissions")
    }
    assert not [it for it in expand(site(split)).into("store") if it.source == INTERNET]


def test_the_proxy_asks_a_store_that_proves_its_certificate(vault: Vault) -> None:
    proxy = content("gateway", "/etc/dovecot/dovecot.conf", vault)
    assert "passdb static {" in proxy
    assert f"port = {services.INWARD[services.IMAPS]}\n" in proxy
    way = content("gateway", "/etc/stunnel/mastio-programs.conf", vault)
    for line in (
        "verifyChain = yes",
        "checkHost = store.demo.internal",
        "connect = 10.77.3.10:993",
    ):
        assert f"{line}\n" in way
    assert pki.names(vault["public/mx.fortress.test/cert"]) == {
        "mx.fortress.test",
        "imap.fortress.test",
    }
    assert not any(
        "password" in it for it in secrets.for_machine(vault, site(), site().machine("gateway"))
    )


def test_the_store_believes_the_proxy_about_clients_and_nobody_else(vault: Vault) -> None:
    dovecot = content("store", "/etc/dovecot/dovecot.conf", vault)
    assert "login_trusted_networks = 10.77.1.10 fd6d:6173:7469:1::a\n" in dovecot
    master = content("store", "/etc/postfix/master.cf", vault)
    assert "-o smtpd_authorized_xclient_hosts=10.77.1.10,[fd6d:6173:7469:1::a]\n" in master
    plain = build(sites.demo_site(), vault, Internet())["store"]
    assert not any("login_trusted" in it.content for it in plain.files)
    # Sieve's door, which no network leads to, is the only other place where a client may say who is behind it.
    said = [
        (it.path, line)
        for it in plain.files
        for line in it.content.splitlines()
        if "xclient" in line
    ]
    assert said == [("/etc/postfix/master.cf", "  -o smtpd_authorized_xclient_hosts=localhost")]
    sieve = (
        content("store", "/etc/postfix/master.cf", vault)
        .partition("\nsieve  ")[2]
        .partition("\npickup")[0]
    )
    assert sieve.split()[:2] == ["unix", "-"] and said[0][1] in sieve.splitlines()


def test_dns_offers_what_is_there(vault: Vault) -> None:
    found = {(it.owner, it.type, it.data) for it in zone.records(site(), vault)}
    assert ("imap.fortress.test", "A", "203.0.113.1") in found
    assert ("_imaps._tcp.fortress.test", "SRV", "0 1 993 imap.fortress.test.") in found
    assert ("_submissions._tcp.fortress.test", "SRV", "0 1 465 imap.fortress.test.") in found
    assert ("_pop3s._tcp.fortress.test", "SRV", "0 0 0 .") in found
    assert len([it for it in found if it[:2] == ("_993._tcp.imap.fortress.test", "TLSA")]) == 2


def test_programs_that_do_not_ask_dns_are_told_the_same(vault: Vault) -> None:
    root = ElementTree.fromstring(content("webmail", "/var/www/mastio/autoconfig.xml", vault))
    told = {it.get("type"): (it.findtext("hostname"), it.findtext("port")) for it in root.iter()}
    assert told["imap"] == ("imap.fortress.test", "993")
    assert told["smtp"] == ("imap.fortress.test", "465")
    assert {it.text for it in root.iter("socketType")} == {"SSL"}
    assert [it.text for it in root.iter("domain")] == [*site().domains]
    name = "autoconfig.fortress.test"
    assert name in pki.names(vault["public/mail.fortress.test/cert"])
    assert (name, "A", "203.0.113.1") in {
        (it.owner, it.type, it.data) for it in zone.records(site(), vault)
    }
    assert f"server_name {name}" in content("webmail", "/etc/nginx/nginx.conf", vault)


@pytest.mark.parametrize("clients", [Clients.WEBMAIL_ONLY, Clients.VPN])
def test_nothing_is_told_where_strangers_programs_are_not_let_in(
    tmp_path: Path, clients: Clients
) -> None:
    closed = replace(sites.demo_site(), clients=clients)
    found = Vault(tmp_path, {})
    secrets.ensure(found, closed)
    assert not any("autoconfig" in it.owner for it in zone.records(closed, found))
    assert "autoconfig.fortress.test" not in pki.names(found["public/mail.fortress.test/cert"])
    files = build(closed, found, Internet())["webmail"].files
    assert not any("autoconfig" in it.path + it.content for it in files)


def test_an_organisations_name_may_hold_anything() -> None:
    document = autoconfig.document(replace(site(), organisation="<Fish & Chips>"))
    root = ElementTree.fromstring(document)
    assert root.findtext("emailProvider/displayName") == "<Fish & Chips>"


def test_what_the_gateway_can_do_then_is_granted_then_and_no_other_time() -> None:
    def held(site: Site) -> dict[Power, str]:
        matrix, machine = expand(site), site.machine("gateway")
        known = breach.declared(matrix, machine)
        return {it.power: it.why for it in breach.powers(matrix, machine, (), known)}

    more = held(site()).keys() - held(sites.demo_site()).keys()
    assert more == {Power.LOGGING_IN, Power.PASSWORD}, "it keeps no mail"
    assert all(held(site()).values())
    usual, gateway = expand(sites.demo_site()), sites.demo_site().machine("gateway")
    reached = {("store", ("tcp", services.IMAPS.port))}
    (power,) = (
        it for it in breach.powers(usual, gateway, (), reached) if it.power is Power.PASSWORD
    )
    assert not power.why, "without the policy it is a finding"


def test_the_gateway_must_not_be_the_store() -> None:
    with pytest.raises(SiteFileError) as wrong:
        parse.parse(FILE + 'clients = "internet"\ntopology = "single"\n', "site.toml")
    assert "give the store a machine of its own" in str(wrong.value)
    assert parse.parse(FILE + 'clients = "internet"\n', "site.toml").clients is Clients.INTERNET
