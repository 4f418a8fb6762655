"""A site as data: what is written comes back, whatever the site."""

import json
from datetime import date
from ipaddress import ip_network

import pytest
from hypothesis import given

from mastio.site import parse, plain
from mastio.site.model import Site
from tests import sites
from tests.strategies import any_sites
from tests.unit.site.test_verify_keys import BASE


@given(any_sites())
def test_every_site_comes_back(site: Site) -> None:
    assert plain.recall(plain.record(site)) == site


def test_what_the_site_file_says_comes_back() -> None:
    text = BASE + (
        '[verify.accepted.D6]\nreason = "slow"\nuntil = "2027-01-31"\n[bans]\nnever = ["192.0.2.0/24"]\n'
        '[filter]\nwelcome = ["a@b.test", "c.test", "198.51.100.0/24"]\ntopics.drugs = 0\n'
        '[filter.domains."fortress.test"]\nspam_junk_score = 7\ntopics.loans = 2\n'
    )
    site = parse.parse(text, "site.toml")
    back = plain.recall(plain.record(site))
    assert back == site
    assert back.accepted[0].until == date(2027, 1, 31)
    assert back.bans.never == (ip_network("192.0.2.0/24"),)
    assert hash(back) == hash(site)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"name": "x"}'])
def test_what_is_no_site_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        plain.recall(text)


def test_another_version_is_refused() -> None:
    data = json.loads(plain.record(sites.demo_site()))
    del data["bans"]
    with pytest.raises(ValueError, match="version"):
        plain.recall(json.dumps(data))
