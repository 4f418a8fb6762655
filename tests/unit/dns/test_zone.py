"""The zone: what the demonstration site publishes, to the letter, and that DNS programs can read it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import dns.zone
import pytest

from mastio import pki, secrets
from mastio.dns import sts, text, zone
from mastio.dns.records import Record
from mastio.site.model import Dmarc, Dns, MtaSts, Site
from mastio.vault import Vault
from tests.sites import all_sites, demo_site, split_site, webmail_site

GOLDEN = Path(__file__).with_name("demo.zone")
TWO = replace(demo_site(), domains=("fortress.test", "castle.test"))


@cache
def _made(site: Site) -> Mapping[str, str]:
    vault = Vault(Path(), {})
    secrets.ensure(vault, site)
    return dict(vault)


def vault_of(site: Site, folder: Path) -> Vault:
    """A vault of the test's own; keys take long to make, so all begin with the same."""
    return Vault(folder, dict(_made(replace(site, dns=Dns()))))


def find(site: Site, vault: Mapping[str, str], owner: str, kind: str) -> list[str]:
    return [it.data for it in zone.records(site, vault) if (it.owner, it.type) == (owner, kind)]


def printed(site: Site, vault: Mapping[str, str]) -> str:
    return text.zone_file(zone.grouped(site, zone.records(site, vault)))


def test_the_printed_zone_is_as_kept(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shown = printed(demo_site(), vault_of(demo_site(), tmp_path))
    shown = re.sub(r'p=[A-Za-z0-9+/=]+"(\n +"[A-Za-z0-9+/=]+")?', 'p=<key>"', shown)
    shown = re.sub(r"TLSA 3 1 1 [0-9a-f]{64}", "TLSA 3 1 1 <hash>", shown)
    if request.config.getoption("--update"):
        GOLDEN.write_text(shown)
    assert shown == GOLDEN.read_text(), "pytest tests/unit/dns --update shows the diff in git"


@pytest.mark.parametrize("site", all_sites(), ids=lambda site: str(site.topology))
def test_every_topologys_zone_is_a_valid_zone_file(site: Site, tmp_path: Path) -> None:
    vault = vault_of(site, tmp_path)
    soa = "fortress.test. IN SOA ns. hostmaster. 1 2 3 4 5\nfortress.test. IN NS ns.\n"
    read = dns.zone.from_text(printed(site, vault) + soa, "fortress.test.", relativize=False)
    kept = {it for it in zone.records(site, vault) if it.type != "PTR"}
    found = sum(len(rdataset) for node in read.nodes.values() for rdataset in node.rdatasets)
    assert found == len(kept) + 2  # SOA and NS are the test's
    assert not any(len(it) > 255 for it in re.findall(r'"([^"]*)"', printed(site, vault)))


def test_printing_twice_is_the_same(tmp_path: Path) -> None:
    vault = vault_of(TWO, tmp_path)
    assert printed(TWO, vault) == printed(TWO, vault)


def test_reports_of_a_second_domain_are_welcome_at_the_main_one(tmp_path: Path) -> None:
    vault = vault_of(TWO, tmp_path)
    assert find(TWO, vault, "castle.test._report._dmarc.fortress.test", "TXT") == ['"v=DMARC1"']
    (dmarc,) = find(TWO, vault, "_dmarc.castle.test", "TXT")
    assert "rua=mailto:dmarc-reports@fortress.test" in dmarc


def test_the_next_key_of_the_mx_is_in_dns_before_it_is_used(tmp_path: Path) -> None:
    site = demo_site()
    vault = vault_of(site, tmp_path)
    now, coming = find(site, vault, "_25._tcp.mx.fortress.test", "TLSA")
    secrets.rotate(vault, site, ["public/mx.fortress.test"])
    later = find(site, vault, "_25._tcp.mx.fortress.test", "TLSA")
    assert later[0] == coming and later[1] not in (now, coming)


def test_the_id_of_the_policy_follows_its_text() -> None:
    testing = replace(demo_site(), dns=Dns(mta_sts=MtaSts.TESTING))
    assert "mode: testing\r\n" in sts.policy(testing)
    assert sts.identifier(testing) != sts.identifier(demo_site())
    assert re.fullmatch("[a-z0-9]{1,32}", sts.identifier(testing))


def test_the_site_file_decides_dmarc_and_caa(tmp_path: Path) -> None:
    site = replace(demo_site(), dns=Dns(dmarc=Dmarc.QUARANTINE, caa=()))
    vault = vault_of(site, tmp_path)
    assert "p=quarantine; sp=quarantine" in find(site, vault, "_dmarc.fortress.test", "TXT")[0]
    assert not find(site, vault, "fortress.test", "CAA")


def test_a_parked_domain_takes_and_sends_nothing(tmp_path: Path) -> None:
    site = replace(demo_site(), dns=Dns(parked=("old.test",)))
    vault = vault_of(site, tmp_path)
    assert find(site, vault, "old.test", "MX") == ["0 ."]
    assert find(site, vault, "old.test", "TXT") == ['"v=spf1 -all"']
    assert find(site, vault, "_dmarc.old.test", "TXT") == ['"v=DMARC1; p=reject; sp=reject"']


def test_without_a_perimeter_spf_names_the_machine_that_sends(tmp_path: Path) -> None:
    site = webmail_site()
    vault = vault_of(site, tmp_path)
    assert find(site, vault, "mail.fortress.test", "A") == ["203.0.113.2"]
    assert find(site, vault, "fortress.test", "TXT") == [
        '"v=spf1 ip4:203.0.113.1 ip6:2001:db8:113::1 -all"'
    ]


def test_hosts_outside_the_domains_have_a_zone_of_their_own(tmp_path: Path) -> None:
    site = replace(split_site(), mx_host="mx.provider.test")
    groups = zone.grouped(site, zone.records(site, vault_of(site, tmp_path)))
    assert list(groups) == ["fortress.test", "mx.provider.test", ""]
    assert {it.type for it in groups["mx.provider.test"]} == {"A", "AAAA", "TXT", "TLSA", "CAA"}


def test_no_private_key_shows(tmp_path: Path) -> None:
    vault = vault_of(TWO, tmp_path)
    shown = printed(TWO, vault)
    assert "PRIVATE" not in shown
    assert vault["public/mx.fortress.test/next"].splitlines()[1] not in shown


def test_a_reason_is_no_part_of_a_record() -> None:
    assert Record("a.test", "A", "192.0.2.1", "why") == Record("a.test", "A", "192.0.2.1")


def test_an_ed25519_record_holds_the_bare_key(tmp_path: Path) -> None:
    from mastio.dns import records

    assert (
        len(records.dkim("a.test", "s", pki.ed25519_key()).data)
        == len('"v=DKIM1; k=ed25519; p="') + 44
    )
