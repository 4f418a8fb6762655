"""Repeated offences end in a ban that grows, at the firewall, for the right client and for nobody else.

The stranger is `.66` of the lab's internet. It shares its /64 with the site, so that it is banned alone there;
a /64 is banned whole in a network that only one test has.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mastio import services
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import remote, the
from tests.lab.patience import at_last, eventually
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

FAILURES, FIRST = 4, 30


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
        mastio(lab.folder, "ban", "lift", it["client"])  # it may just have ended
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


def open_at_once(lab: Lab, *tries: tuple[str, int]) -> list[bool]:
    """The same of each source and port, all at once: a first ban is short."""
    with ThreadPoolExecutor(len(tries)) as pool:
        return [*pool.map(lambda it: opens(lab, *it), tries)]


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


def wait_for(
    lab: Lab, client: str, *, banned: bool, patience: float = 100
) -> dict[str, Any] | None:
    """The ban of a client as soon as there is one, or None as soon as there is none."""
    return at_last(
        lambda: next((it for it in bans(lab) if it["client"].startswith(client)), None),
        lambda it: (it is not None) == banned,
        patience,
    )


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
        ports = (services.HTTPS.port, services.SMTP.port)
        tries = [(it, port) for it in (stranger, neighbour) for port in ports]
        assert open_at_once(lab, *tries) == [False] * 2 + [True] * 2
        assert wait_for(lab, stranger, banned=False, patience=seconds + 60) is None
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
    neighbour, port = of(internet.mta(lab.site), 4), services.HTTPS.port
    eventually(lambda: opens(lab, neighbour, port), "the firewall is not back", 120, 0)
    assert not opens(lab, stranger, services.HTTPS.port)
    lab.mastio("ban", "lift", stranger)
    assert opens(lab, stranger, services.HTTPS.port)
    assert mastio(lab.folder, "ban", "lift", stranger).returncode == 65


@pytest.fixture
def ssh_open(lab: Lab) -> Iterator[str]:
    """The stranger may knock at watch's sshd, which is closed to all but administrators; its address."""
    stranger, public = of(internet.stranger(lab.site), 4), of(lab.site.public, 4)
    watch, firewall = the(lab, Role.WATCH), the(lab, Role.FIREWALL).name
    door = f"tcp dport {services.SSH.port}"
    inside = of(watch.addresses, 4)
    rules = (
        (firewall, "inward", f"ip saddr {stranger} ip daddr {public} {door} dnat ip to {inside}"),
        (firewall, "forward", f"ip saddr {stranger} ip daddr {inside} {door} accept"),
        (watch.name, "input", f"ip saddr {stranger} ip daddr {inside} {door} accept"),
    )
    try:
        for machine, chain, rule in rules:
            insert = ["nft", "insert", "rule", "inet", "mastio", chain, *rule.split()]
            assert lab.run(machine, insert).code == 0
        yield stranger
    finally:
        lab.mastio("apply", "--yes", firewall, watch.name)


def ssh_fails(lab: Lab, source: str) -> None:
    """OpenSSH itself, without a key."""
    argv = [
        "ssh", "-F", "none", "-b", source, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=30",
        f"root@{of(lab.site.public, 4)}",
    ]  # fmt: skip
    done = lab.run(outside.MACHINE, argv)
    assert done.code == 255 and b"Permission denied" in done.stderr, done.stderr


def test_failed_log_ins_by_ssh_end_in_a_ban(lab: Lab, ssh_open: str) -> None:
    forgive(lab)
    admin = of(internet.admin(lab.site), 4)
    for source in (admin, ssh_open):
        for _ in range(FAILURES):
            ssh_fails(lab, source)
    ban = wait_for(lab, ssh_open, banned=True)
    assert ban is not None
    assert ban["reason"] == "ssh"
    # Who failed as often, and before, is an administrator.
    tries = [(ssh_open, services.SSH.port), (ssh_open, services.HTTPS.port)]
    assert open_at_once(lab, *tries, (admin, services.SSH.port)) == [False, False, True]
    assert [it["client"] for it in bans(lab) if it["client"].startswith(admin)] == []
    lab.mastio("ban", "lift", ssh_open)
    assert opens(lab, ssh_open, services.SSH.port)


@pytest.fixture
def far(lab: Lab) -> Iterator[tuple[str, str, str]]:
    """Two addresses of one /64 and one of the next, all of `outside`, by way of which the site's default route goes."""
    found = ("2001:db8:ffff:1::1", "2001:db8:ffff:1:2:3:4:5", "2001:db8:ffff:2::1")
    change = ["ip", "-6", "address"]
    for it in found:
        argv = [*change, "add", f"{it}/128", "dev", internet.SEGMENT, "nodad", "preferred_lft", "0"]
        assert lab.run(outside.MACHINE, argv).code == 0
    yield found
    for it in found:
        lab.run(outside.MACHINE, [*change, "delete", f"{it}/128", "dev", internet.SEGMENT])


def test_an_ipv6_client_is_a_whole_64(lab: Lab, far: tuple[str, str, str]) -> None:
    forgive(lab)
    for it in far:
        assert opens(lab, it, services.HTTPS.port)
    remote(
        lab, outside.MACHINE, failed_log_ins, target=of(lab.site.public, 6),
        port=services.HTTPS.port, name=lab.site.webmail_host, source=far[0], count=FAILURES,
    )  # fmt: skip
    ban = wait_for(lab, "2001:db8:ffff:1:", banned=True)
    assert ban is not None
    assert ban["client"] == "2001:db8:ffff:1::/64"
    tries = [(it, port) for it in far for port in (services.HTTPS.port, services.SMTP.port)]
    assert open_at_once(lab, *tries) == [False] * 4 + [True] * 2
    lab.mastio("ban", "lift", "2001:db8:ffff:1::77")
    # Bans of others may come late: of a log-in or a line of a test before.
    assert ban["client"] not in {it["client"] for it in bans(lab)}
    assert [opens(lab, it, services.HTTPS.port) for it in far] == [True] * 3
