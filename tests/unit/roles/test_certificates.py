"""What each machine gets of public certificates, with and without an authority on the internet."""

import json
from dataclasses import replace

import pytest

from mastio import secrets
from mastio.build import build
from mastio.context import Internet, public_chain
from mastio.roles import certificates
from mastio.site.model import Acme, Challenge, Site
from mastio.state import HostState
from mastio.vault import Vault
from tests import sites

ACME = Acme("https://acme.test/dir")
HTTP = replace(sites.demo_site(), acme=ACME)
DNS = replace(HTTP, acme=replace(ACME, challenge=Challenge.DNS, dns_server="ns.test"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("vault"), {})


def built(vault: Vault, site: Site) -> dict[str, HostState]:
    secrets.ensure(vault, site)
    return build(site, vault, Internet())


def text(state: HostState, path: str) -> str:
    return next(it.content for it in state.files if it.path == path)


def has(state: HostState, path: str) -> bool:
    return any(it.path == path for it in state.files)


def test_without_an_authority_there_is_nothing_of_it(folder: Vault) -> None:
    for state in built(folder, sites.demo_site()).values():
        assert not [it.path for it in state.files if "certificate" in it.path]
        assert "dehydrated" not in state.packages
    assert public_chain(sites.demo_site()) == "/etc/mastio/pki/public.pem"


def test_servers_read_what_watch_renews_and_apply_leaves_it(folder: Vault) -> None:
    states = built(folder, HTTP)
    live = public_chain(HTTP)
    assert f"ssl_certificate {live};" in text(states["webmail"], "/etc/nginx/nginx.conf")
    assert f", {live}\n" in text(states["gateway"], "/etc/postfix/main.cf")
    for machine in ("gateway", "webmail"):
        (file,) = [it for it in states[machine].files if it.path == live]
        assert file.beside == "/etc/mastio/pki/public.key"


def test_watchs_key_leads_to_one_program_where_certificates_are_shown(folder: Vault) -> None:
    states = built(folder, HTTP)
    for machine, state in states.items():
        place = "/etc/ssh/authorized_keys.d/certificates"
        assert has(state, place) is (machine in ("gateway", "webmail"))
        if has(state, place):
            (line,) = text(state, place).splitlines()
            assert line.startswith("restrict,from=") and f'command="{certificates.PROGRAM}"' in line
    assert [*json.loads(text(states["watch"], certificates.SETTINGS))["ssh"]] == [
        "gateway",
        "webmail",
    ]


def test_no_private_key_of_a_server_is_on_watch(folder: Vault) -> None:
    state = built(folder, DNS)["watch"]
    keys = {
        folder[f"public/{it}/{end}"] for it in certificates.names(DNS) for end in ("key", "next")
    }
    assert not [it.path for it in state.files if any(key in it.content for key in keys)]
    secret = [it for it in state.files if folder[certificates.TSIG] in it.content]
    assert [(it.path, it.mode, it.secret) for it in secret] == [
        ("/etc/mastio/certificates-tsig.key", 0o600, True)
    ]


def test_the_webmail_answers_only_when_names_are_proven_by_http(folder: Vault) -> None:
    for site, answers in ((HTTP, True), (DNS, False), (sites.demo_site(), False)):
        config = text(built(folder, site)["webmail"], "/etc/nginx/nginx.conf")
        assert ("acme-challenge" in config) is answers
        client = 'CHALLENGETYPE="http-01"' if answers else 'CHALLENGETYPE="dns-01"'
        if site.acme.directory:
            assert client in text(
                built(folder, site)["watch"], "/etc/mastio/certificates-client.conf"
            )


def test_all_gateways_that_receive_show_the_same_certificate(folder: Vault) -> None:
    site = replace(sites.split_site(), acme=ACME)
    own = json.loads(text(built(folder, site)["watch"], certificates.SETTINGS))
    assert own["hosts"][site.mx_host]["machines"] == ["gateway-in"]
    assert not has(built(folder, site)["gateway-out"], "/etc/mastio/certificate.json")
