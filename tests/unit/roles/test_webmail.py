"""The webmail's part: what it listens on, whom it calls, what it must never let through."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest

from mastio import pki, services
from mastio.context import Context, Internet
from mastio.errors import MastioError
from mastio.flows import expand
from mastio.roles import webmail
from mastio.site.model import Role, Site
from mastio.state import HostState
from tests.sites import all_sites, demo_site, single_site, v4_site

DES_KEY = "an-example-of-32-characters-0123"


@cache
def certificate(host: str) -> str:
    return pki.issue(*pki.authority("test"), host)[1]


def context(site: Site, role: Role = Role.WEBMAIL) -> Context:
    secrets = {
        "webmail/des-key": DES_KEY,
        f"public/{site.web_certificate}/cert": certificate(site.web_certificate),
    }
    (machine,) = site.carrying(role)
    return Context(site, expand(site), machine, Internet(), secrets)


def build(site: Site) -> HostState:
    return webmail.build(context(site))


def content(state: HostState, path: str) -> str:
    return next(file.content for file in state.files if file.path == path)


NGINX = "/etc/nginx/nginx.conf"
ROUNDCUBE = "/etc/roundcube/config.inc.php"
POOL = "/etc/php/8.4/fpm/pool.d/webmail.conf"


@pytest.mark.parametrize("site", all_sites(), ids=lambda site: site.topology)
def test_builds_on_every_topology_and_twice_the_same(site: Site) -> None:
    assert build(site) == build(site)


def test_listens_on_both_families() -> None:
    listen = dict.fromkeys(re.findall(r"listen (\S+)", content(build(demo_site()), NGINX)))
    assert list(listen) == [
        "10.77.2.10:80", "[fd6d:6173:7469:2::a]:80",
        "10.77.2.10:443", "[fd6d:6173:7469:2::a]:443",
    ]  # fmt: skip


def test_without_ipv6_nothing_speaks_it() -> None:
    listen = dict.fromkeys(re.findall(r"listen (\S+)", content(build(v4_site()), NGINX)))
    assert list(listen) == ["10.77.2.10:80", "10.77.2.10:443"]


def test_a_machine_that_may_not_offer_it_is_refused() -> None:
    with pytest.raises(MastioError, match="may not"):
        webmail.build(context(demo_site(), Role.STORE))


def test_talks_to_the_store_only_and_checks_its_name() -> None:
    config = content(build(demo_site()), ROUNDCUBE)
    assert set(re.findall(r"(?:ssl|tls)://([^:']+):(\d+)", config)) == {
        ("store.demo.internal", str(service.port))
        for service in (services.IMAPS, services.SUBMISSIONS, services.SIEVE)
    }
    assert config.count("_conn_options'] = $tls;") == 3
    assert "'verify_peer' => true" in config
    assert "'peer_name' => 'store.demo.internal'" in config


def test_on_one_machine_the_store_is_the_machine_itself() -> None:
    assert "ssl://mail.demo.internal:993" in content(build(single_site()), ROUNDCUBE)


def test_the_tunnel_proves_both_ends() -> None:
    state = build(demo_site())
    tunnel = content(state, "/etc/stunnel/password.conf")
    assert re.findall(r"^connect = (\S+)", tunnel, re.MULTILINE) == [
        f"{address}:{services.PASSWORD.port}" for address in demo_site().machine("store").addresses
    ]
    assert "verifyChain = yes" in tunnel
    assert "checkHost = store.demo.internal" in tunnel
    unit = content(state, "/etc/systemd/system/mastio-password-tunnel.service")
    assert "LoadCredential=host.key:/etc/mastio/pki/host.key" in unit
    assert "IPAddressAllow=10.77.3.10 fd6d:6173:7469:3::a" in unit


def test_the_session_key_stays_secret() -> None:
    state = build(demo_site())
    holders = [file for file in state.files if DES_KEY in file.content]
    assert [(file.path, file.mode, file.secret) for file in holders] == [(ROUNDCUBE, 0o640, True)]
    assert holders[0].group == webmail.USER
    assert DES_KEY not in repr(state)


def test_the_policy_of_content_names_no_other_origin() -> None:
    nginx = content(build(demo_site()), NGINX)
    (policy,) = re.findall(r'Content-Security-Policy "([^"]*)"', nginx)
    sources = {word for part in policy.split(";") for word in part.split()[1:]}
    assert sources <= {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert "'unsafe-eval'" in policy.partition("script-src")[2].partition(";")[0]
    assert policy.count("'unsafe-eval'") == 1


def test_transport_security_lasts_at_least_a_year() -> None:
    (age,) = re.findall(
        r"Strict-Transport-Security: max-age=(\d+)", content(build(demo_site()), NGINX)
    )
    assert int(age) >= 31_536_000


def test_redirects_never_follow_the_request_s_host() -> None:
    nginx = content(build(demo_site()), NGINX)
    assert "$host" not in nginx
    assert "$http_host" not in nginx


def test_the_size_of_a_message_is_one_fact() -> None:
    site = demo_site()
    state = build(replace(site, policy=replace(site.policy, message_size=20)))
    assert "client_max_body_size 21m;" in content(state, NGINX)
    assert "[upload_max_filesize] = 20M" in content(state, POOL)
    assert "['max_message_size'] = '20M';" in content(state, ROUNDCUBE)


def test_a_name_is_text_and_never_code() -> None:
    state = build(replace(demo_site(), organisation="O'Brien \\ <Söhne> & Co"))
    assert r"['product_name'] = 'O\'Brien \\ <Söhne> & Co';" in content(state, ROUNDCUBE)
    page = content(state, "/var/www/mastio/error.html")
    assert "<Söhne>" not in page
    assert "&lt;Söhne&gt; &amp; Co" in page


def test_security_txt_expires_within_a_year_and_before_the_certificate() -> None:
    text = content(build(demo_site()), "/var/www/mastio/security.txt")
    (expires,) = re.findall(r"^Expires: (\S+)$", text, re.MULTILINE)
    left = (datetime.fromisoformat(expires) - datetime.now(UTC)).days
    assert 250 < left < min(365, pki.days_left(certificate("mail.fortress.test")))
    assert "Contact: mailto:postmaster@fortress.test\n" in text


def test_every_file_that_a_daemon_reads_restarts_it() -> None:
    state = build(demo_site())
    watched = tuple(prefix for unit in state.units for prefix in unit.reads)
    served = ("/var/www/", "/etc/systemd/system/roundcube-")  # read anew at each use
    unread = [file.path for file in state.files if not file.path.startswith((*watched, *served))]
    assert unread == []


def test_every_daemon_is_fenced_in() -> None:
    units = [file for file in build(demo_site()).files if "/systemd/" in file.path]
    assert len(units) == 6
    for file in units:
        for wall in (
            "ProtectSystem=strict",
            "SystemCallFilter=",
            "RestrictAddressFamilies=AF_UNIX",
        ):
            assert wall in file.content, (file.path, wall)
        assert (
            re.search(r"^NoNewPrivileges=yes$", file.content, re.MULTILINE)
            or "roundcube-" in file.path
        )


def test_the_mta_sts_policy_is_served_under_each_domains_own_name() -> None:
    site = replace(demo_site(), domains=("fortress.test", "castle.test"))
    state = build(site)
    assert "server_name mta-sts.fortress.test mta-sts.castle.test;" in content(state, NGINX)
    policy = content(state, "/var/www/mastio/mta-sts.txt")
    assert policy.splitlines()[:3] == ["version: STSv1", "mode: enforce", "mx: mx.fortress.test"]
