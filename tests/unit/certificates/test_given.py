"""Certificates of the administrator's own, the next key's turn, and what the vault asks an authority with."""

from dataclasses import replace

import pytest

from mastio import certificates, pki, secrets
from mastio.certificates import Outcome
from mastio.dns import zone
from mastio.errors import MastioError
from mastio.roles.certificates import TSIG, given, request
from mastio.site.model import Acme, Challenge, Site
from mastio.vault import Vault
from tests.sites import demo_site

SITE = demo_site()
ASKING = replace(SITE, acme=Acme("https://acme.test/dir"))
MX, WEB = SITE.mx_host, SITE.webmail_host
NAMES = (WEB, f"mta-sts.{SITE.domains[0]}")
CA = pki.authority("a public authority")


@pytest.fixture
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    made = Vault(tmp_path_factory.mktemp("vault"), {})
    secrets.ensure(made, SITE)
    return made


def published(vault: Vault, site: Site = SITE) -> set[str]:
    return {it.data.split()[-1] for it in zone.records(site, vault) if it.type == "TLSA"}


def signed(vault: Vault, secret: str, *names: str) -> str:
    """What an authority makes of a request."""
    return pki.issue(*CA, *names, key_pem=vault[secret])[1]


def test_a_certificate_for_the_vaults_key_is_taken_and_tlsa_stays_true(vault: Vault) -> None:
    before = published(vault)
    chain = signed(vault, f"public/{MX}/key", MX) + CA[1]
    assert certificates.give(vault, SITE, MX, chain) is Outcome.SHOWN
    assert vault[f"public/{MX}/cert"] == chain
    assert published(vault) == before
    secrets.ensure(vault, SITE)
    assert vault[f"public/{MX}/cert"] == chain, "nobody signs another over it"


def test_one_for_the_next_key_lets_it_take_its_turn(vault: Vault) -> None:
    before, digest = published(vault), pki.key_digest(vault[secrets.following(MX)])
    chain = signed(vault, secrets.following(MX), MX)
    assert certificates.give(vault, SITE, MX, chain) is Outcome.SHOWN
    assert pki.key_digest(vault[f"public/{MX}/key"]) == digest
    assert digest in before & published(vault), "it was announced, and still is"
    assert len(published(vault)) == 2, "a new one is announced"


def test_a_strange_key_of_the_mx_is_announced_before_it_is_used(vault: Vault) -> None:
    key, chain = pki.issue(*CA, MX)
    former = vault[f"public/{MX}/cert"]
    assert certificates.give(vault, SITE, MX, chain, key) is Outcome.ANNOUNCED
    assert vault[f"public/{MX}/cert"] == former
    assert pki.key_digest(key) in published(vault)
    assert certificates.give(vault, SITE, MX, chain, key) is Outcome.SHOWN
    assert vault[f"public/{MX}/key"] == key
    assert pki.key_digest(key) in published(vault)


def test_the_webmail_takes_a_key_at_once(vault: Vault) -> None:
    key, chain = pki.issue(*CA, *NAMES)
    assert certificates.give(vault, SITE, WEB, chain, key) is Outcome.SHOWN
    assert vault[f"public/{WEB}/key"] == key


def test_a_wildcard_will_do(vault: Vault) -> None:
    key, chain = pki.issue(*CA, f"*.{SITE.domains[0]}")
    assert certificates.give(vault, SITE, WEB, chain, key) is Outcome.SHOWN


def test_forgetting_it_lets_an_authority_sign_again(vault: Vault) -> None:
    certificates.give(vault, SITE, MX, signed(vault, f"public/{MX}/key", MX))
    certificates.forget(vault, SITE, MX)
    assert given(MX) not in vault
    assert pki.issued_by(vault[f"public/{MX}/cert"], vault["public-ca/cert"])
    with pytest.raises(MastioError, match="nobody has given"):
        certificates.forget(vault, SITE, MX)


def test_what_does_not_serve_is_refused_and_changes_nothing(vault: Vault) -> None:
    key, chain = pki.issue(*CA, MX)
    other = pki.server_key()
    rows = (
        (MX, "nonsense", "", "no certificate"),
        (MX, chain, "", "for no key of"),
        (MX, chain, other, "not that of the certificate"),
        (MX, chain, "nonsense", "cannot be read"),
        (WEB, chain, key, "is not for"),
        (MX, pki.issue(*CA, MX, days=0, key_pem=key)[1], key, "has expired"),
        ("store.test", chain, key, "no public certificate"),
    )
    before = dict(vault)
    for host, text, its_key, words in rows:
        with pytest.raises(MastioError, match=words):
            certificates.give(vault, SITE, host, text, its_key)
    assert dict(vault) == before


# --- when an authority is asked


def test_requests_are_for_the_keys_and_their_names(vault: Vault) -> None:
    secrets.ensure(vault, ASKING)
    for host, names in ((MX, (MX,)), (WEB, NAMES)):
        for following in (False, True):
            text = vault[request(host, following=following)]
            key = secrets.following(host) if following else f"public/{host}/key"
            assert pki.key_digest(text) == pki.key_digest(vault[key])
            assert pki.requested(text) == set(names)
    assert secrets.ensure(vault, ASKING) == (), "and stay as they are"
    assert TSIG not in vault


def test_requests_go_when_nobody_is_asked_any_more(vault: Vault) -> None:
    secrets.ensure(vault, ASKING)
    secrets.ensure(vault, SITE)
    assert not [name for name in vault if name.endswith("request")]


def test_a_given_certificate_is_not_asked_for(vault: Vault) -> None:
    certificates.give(vault, ASKING, MX, signed(vault, f"public/{MX}/key", MX))
    assert request(MX) not in vault
    assert request(WEB) in vault


def test_an_old_interim_certificate_does_not_change_the_key(vault: Vault) -> None:
    """An authority's certificate is for it, and so is the TLSA record: nobody may have published the next one."""
    for site in (ASKING, SITE):
        key, name = vault[f"public/{MX}/key"], f"public/{MX}/cert"
        ca = vault["public-ca/key"], vault["public-ca/cert"]
        vault.put(name, pki.issue(*ca, MX, days=5, key_pem=key)[1])
        before = published(vault, site)
        assert f"public/{MX}" in secrets.ensure(vault, site)
        assert vault[f"public/{MX}/key"] == key
        assert published(vault, site) == before


def test_rotation_lets_the_announced_key_sign(vault: Vault) -> None:
    secrets.ensure(vault, ASKING)
    following = vault[secrets.following(MX)]
    secrets.rotate(vault, ASKING, [f"public/{MX}"])
    assert vault[f"public/{MX}/key"] == following != vault[secrets.following(MX)]
    assert pki.key_digest(vault[request(MX)]) == pki.key_digest(following)


def test_only_watch_gets_requests_and_nobody_a_key_too_many(vault: Vault) -> None:
    site = replace(
        ASKING, acme=replace(ASKING.acme, challenge=Challenge.DNS, dns_server="192.0.2.1")
    )
    secrets.ensure(vault, site)
    for machine in site.machines:
        known = secrets.for_machine(vault, site, machine)
        watch = machine.name == "watch"
        assert (request(MX) in known) is watch
        assert (TSIG in known) is watch
        assert ("certificates/watch/key" in known) is watch
        assert (f"public/{MX}/key" in known) is (machine.name == "gateway")
        assert secrets.following(MX) not in known
