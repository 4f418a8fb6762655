"""Bans: which lines are offences and whose, how they add up and grow, and whom no ban meets."""

import json
import shlex
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import pytest

from mastio import pki
from mastio.context import Context, Internet
from mastio.flows import expand
from mastio.roles import bans
from mastio.roles.bans import counter as program
from mastio.roles.bans import guard, here
from mastio.roles.bans.counter import FORGIVEN, GRACE, Counter, Once, remember, remembered
from mastio.site.model import Clients, Site
from mastio.state import HostState
from tests import sites

CLIENT = "198.51.100.77"
FAILED = f"webmail roundcube[7]: Failed login for bob from {CLIENT} in session 0a1b (error: 0)"


def built(machine: str, site: Site | None = None) -> HostState:
    site = site or sites.demo_site()
    key, cert = pki.authority("test")
    known = {f"host/{it.name}/cert": pki.issue(key, cert, it.name)[1] for it in site.machines}
    return bans.build(Context(site, expand(site), site.machine(machine), Internet(), known))


def content(state: HostState, path: str) -> str:
    return next(it.content for it in state.files if it.path == path)


def counter(**changes: Any) -> Counter:
    config = json.loads(content(built("watch"), "/etc/mastio/bans-counter.json"))
    return Counter({**config, **changes}, {})


@pytest.mark.parametrize(
    "line",
    [
        FAILED,
        f"gateway postfix/postscreen[1]: PREGREET 8 after 0.01 from [{CLIENT}]:4711: EHLO x\\r\\n",
        f"gateway postfix/postscreen[1]: COMMAND PIPELINING from [{CLIENT}]:1 after EHLO: QUIT\\r\\n",
        f"gateway postfix/postscreen[1]: BARE NEWLINE from [{CLIENT}]:1 after DATA",
        f"gateway postfix/smtpd[1]: too many errors after RCPT from unknown[{CLIENT}]:4711",
        f"gateway postfix/smtpd[1]: too many errors after RCPT from unknown[{CLIENT}]",
        f"gateway postfix/smtpd[1]: disconnect from x.test[{CLIENT}]:4711 ehlo=1 auth=0/3 commands=1/4",
        f"gateway postfix/smtpd[1]: NOQUEUE: reject: RCPT from x.test[{CLIENT}]:4711: 550 5.1.1 <a@b>: "
        "Recipient address rejected: User unknown; from=<c@d> to=<a@b> proto=ESMTP helo=<x>",
        f"watch sshd-session[9]: Connection closed by authenticating user root {CLIENT} port 22 "
        "[preauth]",
    ],
)
def test_offences_are_seen_where_they_may_be_said(line: str) -> None:
    judged = counter().judge(line)
    assert judged is not None
    assert judged[0] == CLIENT
    _, _, rest = line.partition(" ")
    assert counter().judge(f"store {rest}") is None, "another machine's word does not count"
    assert any(word in rest for word in (it.word for it in bans.OFFENCES)), "rsyslog hands it on"


@pytest.mark.parametrize(
    "line",
    [
        f"webmail roundcube[7]: Successful login for bob from {CLIENT} in session 0a1b",
        f"gateway postfix/smtpd[1]: disconnect from x.test[{CLIENT}]:4711 ehlo=1 mail=1 commands=2",
        f"gateway postfix/cleanup[1]: A1: milter-reject: END-OF-MESSAGE from x[{CLIENT}]: 5.7.1 Spam",
        f"gateway postfix/smtpd[1]: NOQUEUE: reject: RCPT from x[{CLIENT}]:4711: 450 4.2.0 <a@b>: Greylisted",
    ],
)
def test_what_honest_clients_cause_is_none(line: str) -> None:
    assert counter().judge(line) is None


def test_a_line_that_is_sent_again_is_no_second_offence(monkeypatch: pytest.MonkeyPatch) -> None:
    once = Once()
    first, second = (f"2026-12-01T10:00:00.00000{it}+00:00 {FAILED}" for it in (1, 2))
    assert [once.new(it) for it in (first, second, first, second)] == [True, True, False, False]
    monkeypatch.setattr(program, "LINES", 2)
    assert once.new(f"{first}!") and len(once._known) == 2
    assert once.new(first), "the oldest is forgotten"


def test_a_client_cannot_name_another() -> None:
    forged = "Failed login for x from 192.0.2.1 in session a (error: 0) from"
    judged = counter().judge(f"webmail roundcube: {forged} {CLIENT} in session b (error: 0)")
    assert judged is not None
    assert judged[0] == CLIENT


def test_failures_within_the_time_lead_to_bans_that_double_and_are_forgiven() -> None:
    it = counter(failures=3, within_seconds=100, first_seconds=60, longest_seconds=200)
    assert [it.see(FAILED, now) for now in (0.0, 60.0, 120.0)] == [None] * 3, "too slow"
    found = []
    now = 1000.0
    for _ in range(4):
        for _ in range(3):
            ban = it.see(FAILED, now)
        assert ban is not None
        found.append(ban.seconds)
        assert it.see(FAILED, now + GRACE / 2) is None, "lines under way are part of it"
        now += ban.seconds + 1
    assert found == [60, 120, 200, 200]
    assert [it.see(FAILED, now + FORGIVEN + 300) for _ in range(2)] == [None, None]
    ban = it.see(FAILED, now + FORGIVEN + 300)
    assert ban is not None
    assert ban.seconds == 60


def test_ipv6_is_counted_by_64_and_refused_recipients_weigh_little() -> None:
    it = counter(failures=2)
    six = FAILED.replace(CLIENT, "2001:db8:9::%d")
    assert it.see(six % 1, 0) is None
    assert it.see(six % 2, 0) is not None
    refused = (
        f"gateway postfix/smtpd[1]: NOQUEUE: reject: RCPT from x[{CLIENT}]: 550 5.1.1 <a@b>: no"
    )
    assert [it.see(refused, 0) for _ in range(9)] == [None] * 9
    assert it.see(refused, 0) is not None


def test_the_site_and_its_administrators_are_not_counted() -> None:
    it = counter(failures=1)
    for own in ("10.77.2.10", "203.0.113.1", "198.51.100.3", "fd6d:6173:7469:1::a"):
        assert it.see(FAILED.replace(CLIENT, own), 0) is None
    assert it.see(FAILED, 0) is not None


def test_the_guard_bans_a_64_unless_it_would_meet_its_own() -> None:
    exempt = [ip_network("10.77.0.0/16"), ip_network("2001:db8:113::1")]
    assert str(guard.client("198.51.100.7", exempt)) == "198.51.100.7/32"
    assert str(guard.client("::ffff:198.51.100.7", exempt)) == "198.51.100.7/32"
    assert str(guard.client("2001:db8:1:2::3", exempt)) == "2001:db8:1:2::/64"
    assert str(guard.client("2001:db8:113::66", exempt)) == "2001:db8:113::66/128"
    for own in ("10.77.1.10", "2001:db8:113::1", "::ffff:10.77.1.1"):
        with pytest.raises(guard.RefusedError):
            guard.client(own, exempt)


def test_bans_are_extended_never_shortened_and_end() -> None:
    net = guard.client("198.51.100.7", [])
    first = guard.added({}, net, 60, "x", 100)
    assert guard.added(first, net, 10, "y", 101) == first
    longer = guard.added(first, net, 600, "y", 101)
    assert longer[str(net)] == {"until": 701, "since": 100, "reason": "y"}
    assert guard.rules(longer, 201) == [
        "add element inet mastio banned4 { 198.51.100.7/32 timeout 500s }"
    ]
    assert guard.alive(longer, 701) == {}


def test_who_is_spared_is_so_for_a_time_and_may_be_so_no_longer() -> None:
    first = guard.spared({}, "198.51.100.7", 60, 100)
    assert first == {"198.51.100.7/32": 160}
    assert guard.spared(first, "2001:db8::7", 60, 159) == {**first, "2001:db8::7/128": 219}
    assert guard.spared(first, "2001:db8::7", 60, 160) == {"2001:db8::7/128": 220}
    assert guard.spared(first, "198.51.100.7", 0, 101) == {}


def test_only_the_perimeter_guards_and_only_watch_counts() -> None:
    assert content(built("firewall"), bans.GUARD).startswith("#!/usr/bin/python3")
    keys = content(built("firewall"), "/etc/ssh/authorized_keys.d/bans")
    assert keys.startswith('restrict,from="10.77.4.10,fd6d:6173:7469:4::a",command="')
    assert "mastio-ban forced" in keys
    for machine in ("gateway", "store", "webmail"):
        assert built(machine) == HostState()
    config = json.loads(content(built("watch"), "/etc/mastio/bans-counter.json"))
    assert [it[-1] for it in config["guards"]] == ["root@firewall.demo.internal"]


TUNNEL = (IPv4Network("10.77.200.0/24"), IPv6Network("fd6d:6173:7469:c8::/64"))
GUESS = "store dovecot[7]: auth-worker({},{})<958><sXlU3Vxhe>: request [1]: sql: Password mismatch"


@pytest.mark.parametrize("damaged", [b"", b'{"192.0.2.1/32": [1', b"\xff"])
def test_a_damaged_history_is_said_and_ends_no_bans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: bytes
) -> None:
    path, history = tmp_path / "history.json", {"192.0.2.1/32": [1, 5.0]}
    assert remembered(path) == {}, "nobody has been banned yet"
    remember(path, history)
    assert remembered(path) == history
    assert not capsys.readouterr().out
    path.write_bytes(damaged)
    assert remembered(path) == {}
    assert "former bans are forgotten" in capsys.readouterr().out
    remember(path, history)
    assert remembered(path) == history and [*tmp_path.iterdir()] == [path]


def tunnel_counter(**changes: Any) -> Counter:
    site = replace(sites.demo_site(), clients=Clients.VPN, vpn_networks=TUNNEL)
    config = json.loads(content(built("watch", site), "/etc/mastio/bans-counter.json"))
    return Counter({**config, **changes}, {})


def test_who_guesses_in_the_tunnel_is_banned_alone() -> None:
    device, other, webmail = "fd6d:6173:7469:c8::2", "fd6d:6173:7469:c8::3", "10.77.2.10"
    line = GUESS.format("alice@fortress.test,10.0.0.1)<1>", device)
    assert tunnel_counter().judge(line) == (device, "log-ins of mail programs", 1.0)
    smtp = line.replace("<sXlU3Vxhe>", "")
    assert tunnel_counter().judge(smtp) is not None, "Postfix asks without a session"
    assert counter().judge(line) is None, "where there is no tunnel, nobody says this of a stranger"
    counting = tunnel_counter(failures=3)
    assert [counting.see(GUESS.format("a@b", device), 0) for _ in range(2)] == [None, None]
    assert counting.see(GUESS.format("a@b", other), 0) is None, (
        "neighbours do not pay for each other"
    )
    assert counting.see(GUESS.format("a@b", webmail), 0) is None
    banned = counting.see(GUESS.format("a@b", device), 0)
    assert banned is not None
    site = replace(sites.demo_site(), clients=Clients.VPN, vpn_networks=TUNNEL)
    exempt = json.loads(content(built("firewall", site), "/etc/mastio/bans.json"))["exempt"]
    assert guard.client(banned.address, [ip_network(it) for it in exempt]) == ip_network(device)


@pytest.mark.parametrize(
    ("line", "code"), [('["add", "192.0.2.1", "60", "a reason"]', 3), ("[]", 3)], ids=["an order", "no words"]
)  # fmt: skip
def test_an_order_on_the_own_machine_is_what_ssh_would_have_brought(line: str, code: int) -> None:
    guard = ("sh", "-c", 'printf %s "$SSH_ORIGINAL_COMMAND"; exit 3')
    said = json.loads(here.answer(line, guard))
    assert said == {"code": code, "out": shlex.join(json.loads(line)), "err": ""}


@pytest.mark.parametrize("line", ['{"add": 1}', '["add", 1]', "add", ""])
def test_what_is_no_list_of_words_orders_nothing(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        here.answer(line, ("false",))


def test_only_a_watch_that_is_a_guard_orders_without_ssh() -> None:
    for site, watch, alone in (
        (sites.single_site(), "mail", True),
        (sites.demo_site(), "watch", False),
    ):
        state = built(watch, site)
        guards = json.loads(content(state, "/etc/mastio/bans-counter.json"))["guards"]
        assert (guards == [["/usr/local/lib/mastio/mastio-ban-here"]]) is alone
        assert any(it.name == "mastio-ban-here.socket" for it in state.units) is alone
