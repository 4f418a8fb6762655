"""The gateway's part: what its roles carry, what must never change, and that it is deterministic."""

import json
import re
from dataclasses import replace
from functools import cache
from ipaddress import ip_network

import pytest

from mastio import pki, services
from mastio.context import Context, Internet
from mastio.flows import expand
from mastio.roles import gateway
from mastio.roles.gateway import scanners
from mastio.roles.gateway.files import CLAMD, MILTER, VALKEY
from mastio.site.filter import Filter, Leaning, Listing, Topic
from mastio.site.model import Alarms, Outbound, Site
from mastio.state import HostState
from tests.sites import demo_site, split_site, v4_site

OFFLINE = Internet(root_hints=". NS a.\n", trust_anchor=". DS 1 13 2 00\n", offline=True)


@cache
def certificate(name: str) -> str:
    return pki.issue(*authority(), name)[1]


@cache
def authority() -> tuple[str, str]:
    return pki.authority("test")


@cache
def signing_keys() -> tuple[str, str]:
    return pki.rsa_key(), pki.ed25519_key()


def built(site: Site, name: str = "gateway", internet: Internet = OFFLINE) -> HostState:
    secrets = {f"host/{it.name}/cert": certificate(it.name) for it in site.machines}
    for domain in site.domains:
        secrets[f"dkim/{domain}/ring"] = "3 signing 2026-05-01\n4 next 2026-05-01\n"
        secrets |= {
            f"dkim/{domain}/k3r": signing_keys()[0],
            f"dkim/{domain}/k3e": signing_keys()[1],
        }
    return gateway.build(Context(site, expand(site), site.machine(name), internet, secrets))


def text(state: HostState, path: str) -> str:
    """A file's content without its comments."""
    content = next(file.content for file in state.files if file.path == path)
    return "\n".join(line for line in content.splitlines() if not line.startswith("#"))


def parameter(state: HostState, name: str) -> str:
    found = re.search(rf"^{name} = ?(.*)$", text(state, "/etc/postfix/main.cf"), re.MULTILINE)
    assert found, name
    return found[1]


def listeners(state: HostState) -> list[str]:
    """The ports on which master.cf(5) opens sockets."""
    return re.findall(r"^(\S+)\s+inet\s", text(state, "/etc/postfix/master.cf"), re.MULTILINE)


def test_building_twice_is_the_same() -> None:
    assert built(demo_site()) == built(demo_site())


@pytest.mark.parametrize(
    ("site", "name", "expected"),
    [
        (demo_site(), "gateway", [services.SMTP, services.RELAY]),
        (split_site(), "gateway-in", [services.SMTP]),
        (split_site(), "gateway-out", [services.RELAY]),
    ],
)
def test_listens_for_its_roles_only(
    site: Site, name: str, expected: list[services.Service]
) -> None:
    assert listeners(built(site, name)) == [str(service.port) for service in expected]


def test_listens_on_both_families() -> None:
    assert parameter(built(demo_site()), "inet_interfaces") == "10.77.1.10, fd6d:6173:7469:1::a"
    assert parameter(built(v4_site()), "inet_protocols") == "ipv4"


def test_is_no_open_relay() -> None:
    state = built(demo_site())
    assert parameter(state, "smtpd_relay_restrictions") == "reject_unauth_destination"
    assert parameter(state, "mynetworks") == ""
    assert "permit_mynetworks" not in text(state, "/etc/postfix/main.cf")


def test_relay_port_knows_the_store_by_its_certificate() -> None:
    state = built(demo_site())
    assert pki.fingerprint(certificate("store")) in parameter(state, "relay_clientcerts")
    assert pki.fingerprint(certificate("webmail")) not in parameter(state, "relay_clientcerts")
    relay = text(state, "/etc/postfix/master.cf").split("postfix/relay")[1].split("tlsproxy")[0]
    assert "smtpd_tls_req_ccert=yes" in relay
    assert relay.count("permit_tls_clientcerts, reject") == 2


@pytest.mark.parametrize(
    ("outbound", "messages", "recipients"),
    [
        (Outbound(), 1200, 3000),
        (Outbound(machine_messages_per_minute=3), 6, 15),
        (Outbound(messages_per_hour=100, recipients_per_hour=50), 1200, 1200),
    ],
)
def test_a_machine_may_hand_over_so_much_in_a_minute_and_nobody_more(
    outbound: Outbound, messages: int, recipients: int
) -> None:
    relay = text(built(replace(demo_site(), outbound=outbound)), "/etc/postfix/master.cf")
    relay = relay.split("postfix/relay")[1].split("tlsproxy")[0]
    assert f"smtpd_client_message_rate_limit={messages}\n" in relay
    assert f"smtpd_client_recipient_rate_limit={recipients}\n" in relay
    assert "exceptions" not in relay


def test_watch_may_send_alarms_to_whom_the_site_names_and_nothing_else() -> None:
    own = pki.fingerprint(certificate("watch"))
    assert own not in text(built(demo_site()), "/etc/postfix/main.cf")
    site = replace(demo_site(), alarms=Alarms(outside=("ops@far.test",)))
    state = built(site)
    assert f"{own} = from_watch" in parameter(state, "handed_over")
    assert parameter(state, "from_watch") == (
        "check_sender_access inline:{ { postmaster@fortress.test = alarm } }, reject"
    )
    assert parameter(state, "alarm") == (
        "check_recipient_access inline:{ { ops@far.test = OK } }, reject"
    )
    assert "smtpd_relay_restrictions=$handed_over" in text(state, "/etc/postfix/master.cf")
    signing = text(state, "/etc/rspamd/local.d/dkim_signing.conf")
    assert all(str(it) in signing for it in site.machine("watch").addresses)


def test_what_leaves_is_verified_as_the_receiver_wants_and_what_stays_is_not_asked_about() -> None:
    state = built(split_site(), "gateway-out")
    socket = "socketmap:unix:/run/mastio-tls-policy/policy.sock:policy"
    assert parameter(state, "smtp_tls_policy_maps") == socket
    assert "smtp_tls_policy_maps=\n" in text(state, "/etc/postfix/master.cf")
    drop_in = text(state, "/etc/systemd/system/postfix-mta-sts-resolver.service.d/mastio.conf")
    assert "https_proxy=http://watch.demo.internal:3129" in drop_in
    receiving = text(built(split_site(), "gateway-in"), "/etc/postfix/main.cf")
    assert "policy_maps" not in receiving


def test_delivers_to_the_store_verified() -> None:
    state = built(demo_site())
    assert parameter(state, "relay_transport") == "store:[store.demo.internal]:24"
    store = text(state, "/etc/postfix/master.cf").split("\nstore ")[1].split("showq")[0]
    assert "smtp_tls_security_level=secure" in store
    assert "smtp_tls_connection_reuse=yes" in store


def test_dkim_keys_stand_only_where_mail_leaves() -> None:
    site = split_site()
    sending = {file.path: file for file in built(site, "gateway-out").files}
    for selector in ("k3r", "k3e"):
        key = sending[f"/etc/rspamd/dkim/fortress.test.{selector}.key"]
        assert (key.owner, key.group, key.mode, key.secret) == ("root", "_rspamd", 0o640, True)
    assert not any("k4" in path for path in sending)
    receiving = built(site, "gateway-in")
    assert not any("dkim/" in file.path for file in receiving.files)
    assert "enabled = false" in text(receiving, "/etc/rspamd/local.d/dkim_signing.conf")
    assert not any(file.secret for file in receiving.files)


def test_nothing_passes_unseen() -> None:
    state = built(demo_site())
    assert parameter(state, "milter_default_action") == "tempfail"
    assert "CLAM_VIRUS_FAIL" in text(state, "/etc/rspamd/local.d/force_actions.conf")
    assert "soft_reject_on_timeout = true" in text(state, "/etc/rspamd/local.d/options.inc")
    # A proxy that scans by itself goes by the time-out of its upstream, whatever task_timeout is.
    limit = f"timeout = {scanners.SCAN_SECONDS}s;"
    assert f"\ntask_{limit}" in text(state, "/etc/rspamd/local.d/options.inc")
    upstream = text(state, "/etc/rspamd/local.d/worker-proxy.inc").partition("upstream ")[2]
    assert f"\n  {limit}" in upstream.partition("}")[0]
    drop_in = text(state, "/etc/systemd/system/rspamd.service.d/mastio.conf")
    assert "BindsTo=valkey-server.service" in drop_in
    assert f"until test -S {MILTER};" in drop_in


def test_scanners_are_on_unix_sockets() -> None:
    state = built(demo_site())
    assert MILTER in text(state, "/etc/rspamd/local.d/worker-proxy.inc")
    assert parameter(state, "smtpd_milters") == f"unix:{MILTER}"
    assert CLAMD in text(state, "/etc/clamav/clamd.conf")
    assert CLAMD in text(state, "/etc/rspamd/local.d/antivirus.conf")
    assert VALKEY in text(state, "/etc/rspamd/local.d/redis.conf")
    assert text(state, "/etc/valkey/valkey.conf").startswith("port 0\n")
    assert not re.search(
        r"127\.0\.0\.1|localhost|\*:", text(state, "/etc/rspamd/local.d/worker-proxy.inc")
    )


def test_what_postfix_takes_the_scanners_can_read() -> None:
    state = built(demo_site())
    limit = int(parameter(state, "message_size_limit"))
    found = re.search(r"max_message = (\d+)", text(state, "/etc/rspamd/local.d/options.inc"))
    stream = re.search(r"StreamMaxLength (\d+)M", text(state, "/etc/clamav/clamd.conf"))
    assert found and stream
    assert limit < int(found[1])
    assert limit < int(stream[1]) * 1024 * 1024


def test_offline_asks_nobody() -> None:
    offline, online = built(demo_site()), built(demo_site(), internet=Internet())
    paths = {file.path for file in online.files}
    assert "/etc/rspamd/local.d/rbl.conf" not in paths
    assert text(offline, "/etc/rspamd/local.d/rbl.conf") == "enabled = false;"
    masked = {unit.name for unit in offline.units if unit.masked}
    assert "clamav-freshclam.service" in masked
    fresh = text(online, "/etc/clamav/freshclam.conf")
    assert "HTTPProxyServer watch.demo.internal" in fresh
    assert [mirror in fresh for mirror in demo_site().mirrors] == [False, False, False, True]


def test_a_users_mail_must_carry_the_users_from() -> None:
    rule = "/etc/rspamd/lua.local.d/sender_is_author.lua"
    split = split_site()
    sending = text(built(split, "gateway-out"), rule)
    assert 'ipairs({ "10.77.3.10", "fd6d:6173:7469:3::a", })' in sending
    assert 'url = "/var/lib/mastio/recipients/domains"' in sending
    assert rule not in {file.path for file in built(split, "gateway-in").files}


def test_only_the_stores_mail_is_signed_and_all_relayed_mail_is_the_sites_own() -> None:
    state = built(split_site(), "gateway-out")
    signed = text(state, "/etc/rspamd/local.d/dkim_signing.conf")
    assert 'sign_networks = ["10.77.3.10", "fd6d:6173:7469:3::a"];' in signed
    assert "allow_hdrfrom_mismatch = false;" in signed
    # Of what has the null sender, what users' scripts write alone.
    assert 'add_condition("DKIM_SIGNED"' in text(
        state, "/etc/rspamd/lua.local.d/sender_is_author.lua"
    )
    assert signed.count("selector = ") == 2
    assert 'selector = "k3r"; path = "/etc/rspamd/dkim/fortress.test.k3r.key";' in signed
    assert 'selector = "k3e"; path = "/etc/rspamd/dkim/fortress.test.k3e.key";' in signed
    local = text(state, "/etc/rspamd/override.d/options.inc")
    assert '"10.77.1.10"' in local and '"10.77.3.10"' in local


def test_a_receiving_gateway_sends_its_bounces_through_the_sending_one() -> None:
    site = split_site()
    state = built(site, "gateway-in")
    assert parameter(state, "default_transport") == "out"
    assert parameter(state, "relayhost") == "[gateway-out.demo.internal]:587"
    assert parameter(state, "smtp_tls_security_level") == "secure"
    out = text(state, "/etc/postfix/master.cf").split("\nout ")[1].split("showq")[0]
    assert "smtp_tls_security_level=secure" in out
    fingerprint = pki.fingerprint(certificate("gateway-in"))
    assert fingerprint in parameter(built(site, "gateway-out"), "relay_clientcerts")
    assert "relayhost" not in text(built(demo_site()), "/etc/postfix/main.cf")
    assert "\nout " not in text(built(demo_site()), "/etc/postfix/master.cf")


def test_the_rules_are_data_from_the_site_file() -> None:
    listing = Listing(("a@x.test",), ("y.test",), (ip_network("192.0.2.0/24"),))
    leaning = Leaning("fortress.test", spam_junk_score=4.5, topics=((Topic.DRUGS, 0.0),))
    policy = demo_site().policy
    site = replace(
        demo_site(),
        filter=Filter(trusted_forwarders=("lists.test",), welcome=listing, domains=(leaning,)),
    )
    state = built(site)
    found = json.loads(text(state, "/etc/rspamd/mastio/rules.json"))
    assert found["relays"] == ["10.77.3.10", "fd6d:6173:7469:3::a"]
    assert found["trusted_forwarders"] == ["lists.test"]
    assert found["site"]["welcome"] == {
        "senders": ["a@x.test", "y.test"],
        "networks": ["192.0.2.0/24"],
    }
    own = found["domains"]["fortress.test"]
    assert own["topics"] == {"drugs": 0.0}
    assert (own["spam_junk_score"], own["spam_reject_score"]) == (4.5, policy.spam_reject_score)
    assert found["site"]["spam_junk_score"] == policy.spam_junk_score


def test_what_the_store_obeys_only_we_may_say() -> None:
    state = built(demo_site())
    assert "/^X-Mastio-/ IGNORE" in parameter(state, "header_checks")
    assert parameter(state, "nested_header_checks") == ""
    assert "/^X-Mastio-/ IGNORE" in text(state, "/etc/postfix/outbound_headers")


def test_malware_is_refused_before_any_policy_is_asked() -> None:
    state = built(demo_site())
    assert "HeuristicScanPrecedence false" in text(state, "/etc/clamav/clamd.conf")
    test, *unread = text(state, "/var/lib/clamav/mastio.ndb").splitlines()
    assert test.startswith("Eicar-") and unread
    signatures = text(state, "/var/lib/clamav/mastio.cdb").splitlines()
    assert signatures and all(it.startswith("Heuristics.") for it in (*signatures, *unread))
    assert 'expression = "CLAM_VIRUS"' in text(state, "/etc/rspamd/local.d/force_actions.conf")
