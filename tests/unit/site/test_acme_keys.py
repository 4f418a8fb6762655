"""The site file's [acme]."""

import pytest

from mastio import pki
from mastio.site import parse, plain
from mastio.site.model import Acme, Challenge
from mastio.site.problems import SiteFileError

BASE = """schema = 1
name = "fortress"
organisation = "Fortress Ltd"
domains = ["fortress.test"]
admin = "alice@fortress.test"
public = ["203.0.113.1"]
reach = "lab"
"""
DIRECTORY = 'directory = "https://acme.test/dir"'


def acme(text: str, base: str = BASE) -> Acme:
    return parse.parse(f"{base}[acme]\n{text}\n", "site.toml").acme


def test_without_it_no_authority_is_asked() -> None:
    assert parse.parse(BASE, "site.toml").acme == Acme()


def test_all_of_it() -> None:
    root = pki.authority("an authority")[1]
    text = (
        f'{DIRECTORY}\nchallenge = "dns"\ndns_server = "ns.fortress.test"\ndns_key = "proofs"\n'
        f'alarm_days = 5\nauthority = """\n{root}"""'
    )
    wanted = Acme("https://acme.test/dir", Challenge.DNS, "ns.fortress.test", "proofs", root, 5)
    assert acme(text) == wanted
    site = parse.parse(f"{BASE}[acme]\n{text}\n", "site.toml")
    assert plain.recall(plain.record(site)) == site


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('directory = "http://acme.test/dir"', "https"),
        ('directory = "https://acme.test/$(id)"', "no ACME directory has"),
        ('directory = "https://acme.test/\\" x"', "no ACME directory has|https"),
        (f'{DIRECTORY}\nchallenge = "tls"', "allowed: http, dns"),
        (f'{DIRECTORY}\nchallenge = "dns"', "nobody takes the records"),
        ('dns_server = "no server"', "not a domain"),
        ('dns_key = "A key"', "no name of a key"),
        ('authority = "ca.pem"', "not certificates"),
        ("alarm_days = 0", "out of range"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(SiteFileError, match=words):
        acme(text)


def test_a_private_key_is_no_authority() -> None:
    key, root = pki.authority("an authority")
    with pytest.raises(SiteFileError, match="and nothing else"):
        acme(f'authority = """\n{root}{key}"""')


def test_by_http_needs_all_names_to_lead_to_the_webmail() -> None:
    public = 'public = ["203.0.113.1", "203.0.113.2", "203.0.113.3"]'
    base = BASE.replace('public = ["203.0.113.1"]', f'{public}\ntopology = "webmail"')
    with pytest.raises(SiteFileError, match="prove the names by DNS"):
        acme(DIRECTORY, base)
    assert acme(f'{DIRECTORY}\nchallenge = "dns"\ndns_server = "192.0.2.1"', base).directory


def test_by_http_on_one_machine_or_behind_a_firewall() -> None:
    for topology in ("single", "separated"):
        assert acme(DIRECTORY, f'{BASE}topology = "{topology}"\n').challenge is Challenge.HTTP
