"""Repeated offences end in a ban that grows, at the firewall, for the right client and for nobody else.

The stranger is `.66` of the lab's internet. It shares its /64 with the site, so that it is banned alone there;
a /64 is banned whole in a network that only one test routes.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mastio import services
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import remote, the
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

FAILURES, FIRST = 4, 15


@pytest.fixture(scope="module", autouse=True)
def quick(lab: Lab) -> Iterator[None]:
    settings = f"[bans]\nfailures = {FAILURES}\nfirst_seconds = {FIRST}\nlongest_seconds = 600\n"
    with tuned(lab, settings):
        forgive(lab)
        yield
    forgive(lab)


def forgive(lab: Lab) -> None:
    """Nobody is banned and nobody has been."""
    for it in bans(lab):
        lab.mastio("ban", "lift", it["client"])
    watch = the(lab, Role.WATCH).name
    lab.run(watch, ["rm", "-f", "/var/lib/mastio/offences/history.json"])
    lab.run(watch, ["systemctl", "restart", "mastio-offences.service"])


def bans(lab: Lab) -> list[dict[str, Any]]:
    return list(json.loads(lab.mastio("ban", "list", "--json")))


def of(parts: tuple[Any, ...], version: int) -> str:
    return str(next(it for it in parts if it.version == version))


def opens(lab: Lab, source: str, port: int) -> bool:
    """Whether the site's public address takes a connection from `source`."""
    target = of(lab.site.public, 6 if ":" in source else 4)
    return bool(remote(lab, outside.MACHINE, connects, target=target, port=port, source=source))


def connects(target: str, port: int, source: str) -> bool:
    import socket

    try:
        socket.create_connection((target, port), timeout=2, source_address=(source, 0)).close()
    except OSError:
        return False
    return True


def failed_log_ins(target: str, port: int, name: str, source: str, count: int) -> int:
    """Fail to log in to the webmail as a browser does; how often it answered."""
    import http.client
    import re
    import ssl
    import urllib.parse

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    answers = 0
    for _ in range(count):
        client = http.client.HTTPSConnection(
            target, port, timeout=20, source_address=(source, 0), context=context
        )
        try:
            client.request("GET", "/", headers={"Host": name})
            page = client.getresponse()
            text = page.read().decode()
            cookies = "; ".join(
                it.partition(";")[0] for it in page.headers.get_all("Set-Cookie") or []
            )
            found = re.search(r'name="_token" value="([^"]+)"', text)
            form = {
                "_token": found[1] if found else "", "_task": "login", "_action": "login",
                # what a client writes may look like another's address
                "_user": "x from 203.0.113.100 in session a (error: 0)", "_pass": "wrong",
            }  # fmt: skip
            client.request(
                "POST", "/?_task=login", urllib.parse.urlencode(form),
                {
                    "Host": name, "Cookie": cookies, "X-Forwarded-For": "203.0.113.100",
                    "Content-Type": "application/x-www-form-urlencoded",
                },
            )  # fmt: skip
            client.getresponse().read()
            answers += 1
        except OSError:
            break
        finally:
            client.close()
    return answers


def early_talk(target: str, port: int, source: str, count: int) -> None:
    """Speak before the server does, so many times; or until nobody answers any more."""
    import contextlib
    import socket
    import time

    talked = 0
    for _ in range(10 * count):
        try:
            with socket.create_connection((target, port), 3, (source, 0)) as client:
                client.sendall(b"EHLO bot\r\n")
                talked += 1
                with contextlib.suppress(OSError):
                    client.recv(100)
        except TimeoutError:
            return
        except OSError:  # a server that has just been started may not listen yet
            time.sleep(0.2)
        if talked == count:
            return


def forget_who_waited(lab: Lab) -> None:
    """Whom postscreen has found patient it does not test again for a day."""
    script = (
        "systemctl stop postfix; rm -f /var/lib/postfix/postscreen_cache*; systemctl start postfix"
    )
    for machine in lab.site.carrying(Role.GATEWAY_IN):
        assert lab.run(machine.name, ["sh", "-c", script]).code == 0


def wait_for(lab: Lab, client: str, *, banned: bool, patience: float = 30) -> dict[str, Any] | None:
    """The ban of a client as soon as there is one, or None as soon as there is none."""
    end = time.monotonic() + patience
    while True:
        found = next((it for it in bans(lab) if it["client"].startswith(client)), None)
        if (found is not None) == banned or time.monotonic() > end:
            return found
        time.sleep(0.5)


@pytest.mark.parametrize("version", [4, 6])
def test_failed_log_ins_end_in_a_ban_that_ends_and_grows(lab: Lab, version: int) -> None:
    stranger = of(internet.stranger(lab.site), version)
    neighbour = of(internet.mta(lab.site), version)
    for seconds in (FIRST, 2 * FIRST):
        assert opens(lab, stranger, services.HTTPS.port)
        remote(
            lab, outside.MACHINE, failed_log_ins, target=of(lab.site.public, version),
            port=services.HTTPS.port, name=lab.site.webmail_host, source=stranger, count=FAILURES,
        )  # fmt: skip
        ban = wait_for(lab, stranger, banned=True)
        assert ban is not None
        assert ban["reason"] == "webmail log-ins"
        assert seconds - 3 <= ban["until"] - ban["since"] <= seconds
        for port in (services.HTTPS.port, services.SMTP.port):
            assert not opens(lab, stranger, port)
            assert opens(lab, neighbour, port)
        assert wait_for(lab, stranger, banned=False, patience=seconds + 5) is None
    assert opens(lab, stranger, services.HTTPS.port)
    assert [it for it in bans(lab) if it["client"].startswith(neighbour)] == []


def test_who_talks_before_its_turn_is_banned(lab: Lab) -> None:
    stranger = of(internet.stranger(lab.site), 4)
    forgive(lab)
    forget_who_waited(lab)
    remote(
        lab, outside.MACHINE, early_talk, target=of(lab.site.public, 4),
        port=services.SMTP.port, source=stranger, count=FAILURES,
    )  # fmt: skip
    ban = wait_for(lab, stranger, banned=True)
    assert ban is not None
    assert ban["reason"] == "talks before its turn"
    lab.mastio("ban", "lift", stranger)
    assert opens(lab, stranger, services.SMTP.port)


def test_neither_the_site_nor_its_administrators_are_ever_banned(lab: Lab) -> None:
    forgive(lab)
    forget_who_waited(lab)
    for machine in lab.site.machines:
        for address in machine.addresses:
            assert mastio(lab.folder, "ban", "add", str(address)).returncode == 65
    for address in (*lab.site.public, *internet.admin(lab.site)):
        refused = mastio(lab.folder, "ban", "add", str(address), "--json")
        assert refused.returncode == 65
        assert "never to be banned" in refused.stderr
    admin = of(internet.admin(lab.site), 4)
    arguments = {"target": of(lab.site.public, 4), "port": services.SMTP.port}
    # The administrator's offences are seen, by the same program that then bans a stranger.
    for source in (admin, of(internet.stranger(lab.site), 4)):
        remote(lab, outside.MACHINE, early_talk, source=source, count=FAILURES + 2, **arguments)
    assert wait_for(lab, of(internet.stranger(lab.site), 4), banned=True)
    assert [it["client"] for it in bans(lab) if it["client"].startswith(admin)] == []
    assert opens(lab, admin, services.HTTPS.port)
    forgive(lab)


def test_a_ban_outlives_a_new_ruleset_and_a_reboot(lab: Lab) -> None:
    stranger, firewall = of(internet.stranger(lab.site), 4), the(lab, Role.FIREWALL).name
    lab.mastio("ban", "add", stranger, "--for", "10m", "--reason", "a test")
    # Somebody meddles with the rules; apply loads them anew, and sees no drift in a ban.
    lab.run(firewall, ["nft", "add", "rule", "inet", "mastio", "input", "accept"])
    assert "firewall" in lab.mastio("apply", "--yes")
    assert not opens(lab, stranger, services.HTTPS.port)
    assert mastio(lab.folder, "plan", firewall).returncode == 0
    lab.reboot(firewall)
    end = time.monotonic() + 30
    while not opens(lab, of(internet.mta(lab.site), 4), services.HTTPS.port):
        assert time.monotonic() < end, "the firewall is not back"
    assert not opens(lab, stranger, services.HTTPS.port)
    lab.mastio("ban", "lift", stranger)
    assert opens(lab, stranger, services.HTTPS.port)
    assert mastio(lab.folder, "ban", "lift", stranger).returncode == 65


def test_an_ipv6_client_is_a_whole_64(lab: Lab) -> None:
    firewall = the(lab, Role.FIREWALL).name
    lab.mastio("ban", "add", "2001:db8:ffff:1::1", "--for", "1m")
    assert [it["client"] for it in bans(lab)] == ["2001:db8:ffff:1::/64"]
    element = ["nft", "get", "element", "inet", "mastio", "banned6"]
    assert lab.run(firewall, [*element, "{ 2001:db8:ffff:1:2:3:4:5 }"]).code == 0
    assert lab.run(firewall, [*element, "{ 2001:db8:ffff:2::1 }"]).code != 0
    lab.mastio("ban", "lift", "2001:db8:ffff:1::77")
    assert bans(lab) == []
