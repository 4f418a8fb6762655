"""Intrusion detection: silent while all is as declared, and it tells of what is not; mail goes on without it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mastio import services
from mastio.context import ALARMS, LOGS, PKI
from mastio.lab import internet, outside
from mastio.roles import ids
from mastio.roles.inspection import SETTINGS
from mastio.roles.logbook import STATE
from mastio.services import Service, Transport
from mastio.site.model import Role
from tests.lab.arrivals import arrived, talk
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import (
    CAROL,
    at_carols,
    deliver,
    from_carol,
    inbox,
    message,
    remote,
    submit,
    the,
    token,
)
from tests.lab.patience import at_last, eventually
from tests.lab.sabotage import on
from tests.lab.test_verify import having, verify
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

FIREWALL = "firewall"
_ALERT = re.compile(r" suricata\[\d+\]: (\{.*\})$")
_LONG = "x y " * 100 + "\r\n"
_WEB = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_SSH = "SSH-2.0-somebody\r\n"
_PATIENCE = 200
"""Seconds until Suricata has begun, or has told of what it heard; it gives way to all else on a busy box."""


@pytest.fixture(scope="module", autouse=True)
def talking(lab: Lab) -> None:
    talk(lab)


def caught_up(lab: Lab) -> None:
    """Until all that the firewall has logged is on watch."""
    word = token()
    on(lab, FIREWALL, f"logger -- {word}")
    assert arrived(lab, word, 1)


def size(lab: Lab) -> int:
    """How long the firewall's log on watch is."""
    caught_up(lab)
    return int(on(lab, the(lab, Role.WATCH).name, f"cat {LOGS}/{FIREWALL}/*.log | wc -c"))


def alerts(lab: Lab, since: int) -> list[tuple[str, int]]:
    """What Suricata has told from there on, and with which priority; all that was logged until now is on watch."""
    caught_up(lab)
    text = on(lab, the(lab, Role.WATCH).name, f"cat {LOGS}/{FIREWALL}/*.log | tail -c +{since + 1}")
    found = (json.loads(it[1]) for it in map(_ALERT.search, text.splitlines()) if it)
    return [
        (f"{it['alert']['signature'].removeprefix('mastio: ')} [{it['app_proto']}]", it["alert"]["severity"])
        if "app_proto" in it else (it["alert"]["signature"].removeprefix("mastio: "), it["alert"]["severity"])
        for it in found
    ]  # fmt: skip


def settled(lab: Lab) -> None:
    """Until Suricata listens."""
    on(
        lab,
        FIREWALL,
        "for i in $(seq 1000); do [ $(wc -l < /proc/net/packet) -gt 4 ] && exit 0; sleep 0.2; done; exit 1",
    )


def say(talks: list[list[Any]]) -> None:
    """Say something at each address and port, and hear what comes."""
    import contextlib
    import socket
    import time

    for address, port, words, datagrams in talks:
        if datagrams:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as one:
                for _ in range(2):
                    one.sendto(words.encode(), (address, port))
                    time.sleep(0.2)
            continue
        with (
            contextlib.suppress(OSError),
            socket.create_connection((address, port), timeout=3) as one,
        ):
            one.settimeout(1.5)
            time.sleep(0.1)  # a server that greets has done so
            one.sendall(words.encode())
            with contextlib.suppress(OSError):
                one.recv(500)
                time.sleep(0.2)
                one.sendall(b"\r\n")
                one.recv(500)


def called(settings: str) -> None:
    """Call every machine as watch does by itself."""
    import json
    import subprocess

    with open(settings) as file:  # noqa: PTH123
        for *ssh, host in json.load(file)["ssh"].values():
            subprocess.run([*ssh, "--", host, "true"], check=True, timeout=60)


def encrypted_filters(host: str, port: int, pki: str) -> None:
    """A ManageSieve dialogue as Roundcube's: STARTTLS, then the end."""
    import socket
    import ssl

    with socket.create_connection((host, port), timeout=30) as plain:
        plain.recv(2000)
        plain.sendall(b"STARTTLS\r\n")
        plain.recv(200)
        context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
        with context.wrap_socket(plain, server_hostname=host) as client:
            client.recv(2000)
            client.sendall(b"LOGOUT\r\n")
            client.recv(200)


def begun_tls(address: str, port: int) -> None:
    """Ask for TLS as a mail server does, and then speak none."""
    import contextlib
    import socket
    import time

    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=30) as one:
        one.recv(300)
        for words in (b"EHLO probe.test\r\n", b"STARTTLS\r\n", b"this is no TLS at all\r\n" * 3):
            one.sendall(words)
            one.recv(2000)
        time.sleep(0.3)


def test_ordinary_traffic_is_not_worth_a_word(lab: Lab) -> None:
    settled(lab)
    since = size(lab)
    alice, password = next(iter(lab.accounts.items()))
    word, public = token(), lab.site.public
    store, watch, webmail = (the(lab, it).name for it in (Role.STORE, Role.WATCH, Role.WEBMAIL))
    from_carol(lab, message(CAROL, alice, f"by her own server, with TLS {word}"))
    # More than the kernel sends in one piece.
    assert (
        deliver(lab, message(CAROL, alice, f"by hand, in the clear {word}"), 200_000, 6)[0] == 250
    )
    assert submit(lab, alice, password, message(alice, CAROL, f"an answer {word}"))[0] == 250
    bracketed = [f"[{it}]" if it.version == 6 else str(it) for it in public]
    on(
        lab,
        outside.MACHINE,
        "; ".join(
            f"curl -sSkm 9 -o /dev/null {way}://{it}/"
            for it in bracketed
            for way in ("http", "https")
        ),
    )
    remote(lab, watch, called, settings=SETTINGS)
    for machine in (FIREWALL, store, webmail):
        on(lab, machine, "systemctl restart chrony.service rsyslog.service")
    remote(
        lab,
        webmail,
        encrypted_filters,
        host=lab.site.internal_name(store),
        port=services.SIEVE.port,
        pki=PKI,
    )
    on(lab, store, "apt-get update -qq -o Acquire::Retries=0 || true")
    assert len(inbox(lab, alice, password, word, count=2)) == 2 and at_carols(
        lab, f"an answer {word}"
    )
    # As watch looks each hour, from every machine.
    on(lab, watch, "systemctl start mastio-verify@fast.service || true")
    assert alerts(lab, since) == []


WRONG: tuple[tuple[str, str, Service, str, str, int], ...] = (
    (outside.MACHINE, "gateway", services.SMTP, _WEB, "internet > gateway smtp: not smtp [http]", 3),
    (outside.MACHINE, "gateway", services.SMTP, _LONG, "internet > gateway smtp: not smtp [failed]", 3),
    (outside.MACHINE, "webmail", services.HTTPS, "hello\r\n", "internet > webmail https: not tls", 3),
    (outside.MACHINE, "webmail", services.HTTPS, _SSH, "internet > webmail https: not tls", 3),
    (outside.MACHINE, "webmail", services.HTTP, _SSH, "internet > webmail http: not http [", 3),
    ("gateway", "watch", services.SYSLOG, "<13>a line\n", "gateway > watch syslog: not tls", 1),
    ("store", "watch", services.PROXY, _SSH, "store > watch proxy: not http [ssh]", 1),
    ("webmail", "store", services.IMAPS, "a LOGIN x y\r\n", "webmail > store imaps: not tls", 1),
    ("webmail", "store", services.SIEVE, _WEB, "webmail > store sieve: a protocol of others", 1),
    ("webmail", "store", services.SIEVE, "open sesame\r\n", "webmail > store sieve: a protocol of others", 1),
    ("gateway", outside.MACHINE, services.DNS, "no question at all", "gateway > internet dns: not dns", 1),
    ("store", "watch", services.NTP, "what time is it", "store > watch ntp: not ntp", 1),
    ("watch", "store", services.SSH, _WEB, "watch > store ssh: not ssh", 1),
    ("gateway", outside.MACHINE, services.SMTP, _SSH, "gateway > internet smtp: not smtp [ssh]", 1),
    ("watch", FIREWALL, services.SSH, _WEB, "watch > firewall ssh: not ssh", 1),
)  # fmt: skip
"""Who says what where, the alert, and its priority."""


@pytest.fixture(scope="module")
def told(lab: Lab) -> Iterator[list[tuple[str, int]]]:
    """The alerts when all of it has been said."""
    settled(lab)
    since = size(lab)
    for client in dict.fromkeys(it[0] for it in WRONG):
        talks = []
        for source, target, service, words, _, _ in WRONG:
            if source == client:
                if source == outside.MACHINE:
                    addresses = lab.site.public
                elif target == outside.MACHINE:
                    addresses = internet.mta(lab.site)
                else:
                    addresses = lab.site.machine(target).addresses
                where = str(addresses[len(talks) % 2]), service.port
                talks.append([*where, words, Transport.UDP in service.transports])
        remote(lab, client, say, talks=talks)
    remote(
        lab, outside.MACHINE, begun_tls, address=str(lab.site.public[0]), port=services.SMTP.port
    )
    yield at_last(lambda: alerts(lab, since), lambda it: len(it) > len(WRONG), _PATIENCE, 1)
    # No other test pays for it: what was told is forgotten, and is not told again.
    watch = the(lab, Role.WATCH).name
    on(lab, watch, "systemctl start mastio-logbook@life.service || true")
    again = f'sed -i \'s/"last": {{[^}}]*}}/"last": {{}}/\' {STATE}/intrusion.json'
    on(lab, watch, f"rm -f {ALARMS}/* {STATE}/life*.json; {again}")


@pytest.mark.parametrize("wrong", WRONG, ids=lambda it: f"{it[0]}-{it[1]}-{it[2].name}")
def test_what_is_not_as_declared_is_told(
    told: list[tuple[str, int]], wrong: tuple[str, str, Service, str, str, int]
) -> None:
    *_, words, priority = wrong
    assert [it for it in told if it[0].startswith(words) and it[1] == priority], told


def test_tls_that_does_not_come_is_told(told: list[tuple[str, int]]) -> None:
    words = "internet > gateway smtp: not smtp, nor tls after the change to it"
    assert any(it[0].startswith(words) for it in told), told


def test_a_conversation_is_told_of_once(told: list[tuple[str, int]]) -> None:
    assert len(told) == len(WRONG) + 1, told


def test_it_is_in_the_logs_the_digest_and_what_our_machines_did_is_an_alarm(
    lab: Lab, told: list[tuple[str, int]]
) -> None:
    assert told
    assert "gateway > watch syslog: not tls" in lab.mastio(
        "logs", "--machine", FIREWALL, "--grep", "suricata"
    )
    digest = json.loads(mastio(lab.folder, "digest", "--json", "--since", "3h").stdout)
    counts, tops = digest["summary"]["counts"], digest["summary"]["tops"]
    assert counts["intrusion.inside"] >= 7 and counts["intrusion.others"] >= 5
    assert tops["intrusion between"]["names"]["internet > webmail"] >= 3
    assert any("machines of ours spoke" in it["words"] for it in digest["needs"])
    on(lab, the(lab, Role.WATCH).name, "systemctl start mastio-logbook@life.service")
    book = json.loads(mastio(lab.folder, "alarms", "--json").stdout)["open"]
    found = {it for it in book if it.startswith("intrusion ")}
    assert "intrusion gateway > watch syslog: not tls" in found
    assert not [it for it in found if it.startswith("intrusion internet")]
    alice, password = next(iter(lab.accounts.items()))
    assert inbox(lab, alice, password, "intrusion detection: webmail > store imaps: not tls")


def test_mail_goes_on_when_it_dies_and_it_comes_back(lab: Lab) -> None:
    alice = next(iter(lab.accounts))
    on(lab, FIREWALL, f"kill -9 $(cat {ids.RUN}/suricata.pid)")
    assert deliver(lab, message(CAROL, alice, f"nobody listens {token()}"))[0] == 250
    active = ["systemctl", "is-active", "--quiet", ids.UNIT]
    eventually(lambda: lab.run(FIREWALL, active).code == 0, "it does not come back", _PATIENCE)
    settled(lab)


def test_it_can_be_switched_off(lab: Lab) -> None:
    with tuned(lab, "[ids]\nenabled = false\n"):
        assert lab.run(FIREWALL, ["systemctl", "is-enabled", "--quiet", ids.UNIT]).code
        assert lab.run(FIREWALL, ["systemctl", "is-active", "--quiet", ids.UNIT]).code
        assert on(lab, FIREWALL, f"ls {ids.RULES} 2>&1 || true").endswith(
            "No such file or directory\n"
        )
        found = verify(lab, "--only", "I4")
        assert set(having(found, "not run")) == {"I4"} and not having(found, "failed")
    settled(lab)
    assert set(having(verify(lab, "--only", "I4"), "passed")) == {"I4"}


def fetching(source: str) -> str:
    """The command that fetches rules from there, as its unit does."""
    argv = f"python3 -I {ids.UPDATE} /etc/mastio/ids-rules.json {source}"
    return (
        f"systemd-run --quiet --collect --pipe --wait -p User={ids.USER} -p PrivateTmp=yes -p ProtectSystem=strict "
        f"-p ReadWritePaths={ids.FETCHED} {argv} 2>&1"
    )


def test_rules_come_through_watchs_proxy_and_from_where_the_site_file_says_alone(lab: Lab) -> None:
    words, place = token(), "/var/lib/rules-test"
    rule = f'alert tcp any any -> any any (msg:"others {words}"; content:"{words}"; sid:2700001; rev:1;)'
    source = f"http://{outside.MX}/emerging.tar.gz"
    serve = (
        f"mkdir -p {place}/in; printf '%s\\n' '{rule}' >{place}/in/emerging-smtp.rules; "
        f"tar -czf {place}/emerging.tar.gz -C {place}/in .; systemctl stop nginx.service; "
        f"systemd-run --quiet --collect --unit=rules-test python3 -m http.server {services.HTTP.port} -b :: -d {place}"
    )
    on(lab, outside.MACHINE, serve)
    try:
        refused = on(lab, FIREWALL, f"{fetching(source)} || true")
        assert "could not be fetched" in refused, refused
        with tuned(lab, f'[ids]\nrules = "https://{outside.MX}/emerging.tar.gz"\n'):
            said = on(lab, FIREWALL, fetching(source))
            assert "1 rules, new" in said, said
            assert on(lab, FIREWALL, f"cat {ids.FETCHED}/fetched.rules").strip() == rule
        heard = on(lab, outside.MACHINE, "journalctl -u rules-test -o cat --no-pager")
    finally:
        on(lab, FIREWALL, f"rm -f {ids.FETCHED}/fetched.rules; systemctl reload {ids.UNIT} || true")
        end = f"systemctl stop rules-test; systemctl start nginx.service; rm -rf {place}"
        on(lab, outside.MACHINE, end)
    assert "GET /emerging.tar.gz" in heard


def test_rules_that_are_broken_are_not_taken(lab: Lab, tmp_path: Path) -> None:
    """An archive as others publish it, from a file: the lab has no way to the internet."""
    place, state = "/var/lib/suricata/archive", ids.FETCHED
    fetch = fetching(f"file://{place}.tar.gz")

    def archive(rule: str) -> str:
        return (
            f"mkdir -p {place}; printf '%s\\n' '{rule}' > {place}/emerging-smtp.rules; "
            f"printf '%s\\n' '{rule.replace('7', '8')}' > {place}/emerging-games.rules; "
            f"tar -czf {place}.tar.gz -C {place} ."
        )

    words = token()
    good = f'alert tcp any any -> any any (msg:"others {words}"; content:"{words}"; sid:2700000; rev:1;)'
    try:
        assert "1 rules, new" in on(lab, FIREWALL, f"{archive(good)}; {fetch}")
        end = time.monotonic() + _PATIENCE
        since = size(lab)
        gateway = next(str(it) for it in lab.site.public if it.version == 4)
        found: list[tuple[str, int]] = []
        while not any(words in it for it, _ in found) and time.monotonic() < end:
            talk = [[gateway, services.SMTP.port, f"NOOP {words}\r\n", False]]
            remote(lab, outside.MACHINE, say, talks=talk)
            found = alerts(lab, since)
        assert any(words in it for it, _ in found), found
        broken = good.replace("content:", "nosuchkeyword:")
        said = on(lab, FIREWALL, f"{archive(broken)}; {fetch} || true")
        assert "stay as they are" in said and "nosuchkeyword" in said
        assert on(lab, FIREWALL, f"cat {state}/fetched.rules").strip() == good
    finally:
        on(lab, FIREWALL, f"rm -rf {place}* {state}/fetched.rules; systemctl reload {ids.UNIT}")
