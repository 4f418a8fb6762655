"""Nothing that was promised is lost: a short run of bench/chaos, and what must hold while one machine is away.

Who is away, and what is shown elsewhere: the store (`test_mail`: mail waits at the gateway), a scanner
(`test_scanners_die`), watch (`test_logs`: lines wait).
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bench.chaos import Chaos, report
from bench.faults import plan

from mastio import services
from mastio.cli.common import App
from mastio.lab import internet, outside
from mastio.lab.provider import Lab as Provider
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, remote, the, token
from tests.lab.patience import PATIENCE, eventually

pytestmark = pytest.mark.lab

SEED = 7
MESSAGES, RATE = 250, 5.0
DAEMONS = (
    ("gateway", "postfix.service"), ("gateway", "rspamd.service"), ("store", "postfix.service"),
    ("store", "dovecot.service"), ("watch", "rsyslog.service"), ("firewall", "systemd-networkd.service"),
)  # fmt: skip


def test_nothing_is_lost_while_everything_goes_wrong(lab: Lab) -> None:
    with Chaos(App(str(lab.folder)), boxes=4) as chaos:
        zones = ["internet", "core"]
        faults = plan(SEED, MESSAGES / RATE, chaos.machines, DAEMONS, zones, longest=4)
        streams = chaos.streams(MESSAGES, RATE, SEED, submitted=5, patience=15)
        # What was deferred twice waits 60 and 120 seconds, and each time for the next run of the queue; and on a busy
        # box machines boot for longer than they were to be away.
        result, done, wrong = chaos.go(streams, faults, SEED, patience=1200)
    told = "\n".join(report(result, done, wrong))
    print(f"\n{told}")
    assert result.promised == MESSAGES, told
    assert not wrong, told
    assert result.good, told
    assert sum(count for tries, count in result.tries.items() if tries > 1), "no fault was felt"


def reachable(
    targets: list[Any], wanted: list[Any], sources: dict[str, str], seconds: float, patience: float
) -> list[Any]:
    """Which [address, port] pairs took a TCP connection at any time, all asked again and again.

    For `seconds` at least, and until some moments after those that are `wanted` have taken one, too, or patience ends.
    `sources` has the own address by family, `4` and `6`.
    """
    import asyncio
    import time

    opened = set()
    begin = time.monotonic()
    end = begin + patience

    async def ask(address: str, port: int) -> None:
        nonlocal end
        while time.monotonic() < end:
            try:
                own = (sources["6" if ":" in address else "4"], 0)
                way = asyncio.open_connection(address, port, local_addr=own)
                _, writer = await asyncio.wait_for(way, 0.5)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            opened.add((address, port))
            writer.close()
            if {(it, number) for it, number in wanted} <= opened:
                end = min(end, max(begin + seconds, time.monotonic() + 5))
            return

    async def everything() -> None:
        await asyncio.gather(*(ask(address, port) for address, port in (*targets, *wanted)))

    asyncio.run(everything())
    return sorted(map(list, opened))


def test_nothing_opens_while_the_firewall_boots(lab: Lab) -> None:
    ports = [it.port for it in (services.SSH, services.RELAY, services.DELIVERY, services.IMAPS)]
    inside = [
        str(address)
        for it in lab.site.machines
        if not it.has(Role.FIREWALL)
        for address in it.addresses
    ]
    closed = [[it, port] for it in (*map(str, lab.site.public), *inside) for port in ports]
    open_ = [[str(it), services.SMTP.port] for it in lab.site.public]
    # Not the administrator's address, from which ssh is open.
    sources = {str(it.version): str(it) for it in internet.stranger(lab.site)}
    firewall, provider = the(lab, Role.FIREWALL).name, Provider(lab.site.name)
    with ThreadPoolExecutor() as pool:
        provider.cut(firewall)
        asking = pool.submit(
            remote,
            lab,
            outside.MACHINE,
            reachable,
            targets=closed,
            wanted=open_,
            sources=sources,
            seconds=15,
            patience=PATIENCE,
        )
        provider.boot(firewall)
        opened = asking.result()
    assert opened == sorted(open_), "open while the firewall boots, or closed after it"


def test_senders_come_again_while_the_gateway_is_away(lab: Lab) -> None:
    word, user = token(), next(iter(lab.accounts.items()))
    gateway, provider = the(lab, Role.GATEWAY_IN).name, Provider(lab.site.name)
    provider.cut(gateway)
    try:
        mail.from_carol(lab, message(CAROL, user[0], word))
        # Exim has tried, and keeps it.
        eventually(lambda: word in _exim(lab, word), "her mail server does not keep the message")
    finally:
        provider.boot(gateway)
    assert lab.run(outside.MACHINE, ["exim4", "-qff"]).code == 0
    assert mail.inbox(lab, *user, word)


def _exim(lab: Lab, word: str) -> str:
    """The headers of what waits at carol's."""
    script = "for id in $(exim4 -bpr | awk 'NF>=4 {print $3}'); do exim4 -Mvh \"$id\"; done"
    return lab.run(outside.MACHINE, ["sh", "-c", script]).stdout.decode(errors="replace")


def test_what_fails_for_a_while_is_started_again_for_ever(lab: Lab) -> None:
    """Debian's own pause of 0.1 s would use up its five starts in a second (systemd.unit(5), StartLimitBurst=)."""
    wanted = "Id,Restart,RestartUSec,StartLimitIntervalUSec,StartLimitBurst"
    argv = [
        "systemctl",
        "show",
        "--all",
        f"--property={wanted}",
        "--type=service",
        "--state=running",
        "*",
    ]
    dead = []
    for machine in (it.name for it in lab.site.machines):
        for block in lab.run(machine, argv).stdout.decode().strip().split("\n\n"):
            unit = dict(line.partition("=")[::2] for line in block.splitlines())
            if unit["Id"].startswith(("systemd-", "user@", "getty", "console-getty")):
                continue
            pause, within = _seconds(unit["RestartUSec"]), _seconds(unit["StartLimitIntervalUSec"])
            if unit["Restart"] == "no" or pause * int(unit["StartLimitBurst"]) < within:
                dead.append(f"{machine}: {unit}")
    assert not dead, "\n".join(dead)


def _seconds(text: str) -> float:
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
    total = 0.0
    for part in text.split():
        digits = part.rstrip("abcdefghijklmnopqrstuvwxyz")
        total += float(digits) * units.get(part[len(digits) :], 0.0)
    return total


def test_mail_goes_on_when_the_store_is_back_however_long_it_was_away(lab: Lab) -> None:
    word, user = token(), next(iter(lab.accounts.items()))
    store, gateway = the(lab, Role.STORE).name, the(lab, Role.GATEWAY_IN).name
    assert lab.run(store, ["systemctl", "stop", "postfix.service"]).code == 0
    try:
        assert mail.deliver(lab, message(CAROL, user[0], word))[0] == 250

        def deferred() -> list[str]:
            return [
                it["queue_id"]
                for it in mail.queue(lab)
                if it["queue_name"] == "deferred" and user[0] in str(it["recipients"])
            ]

        ids = eventually(deferred, "it does not wait at the gateway")
        # As if it had waited for hours: its next try is half an hour away (the time is the file's).
        later = "+30 minutes"
        for it in ids:
            found = [
                "find",
                "/var/spool/postfix/deferred",
                "-name",
                it,
                "-exec",
                "touch",
                "-d",
                later,
                "{}",
                "+",
            ]
            assert lab.run(gateway, found).code == 0
    finally:
        assert lab.run(store, ["systemctl", "start", "postfix.service"]).code == 0
    assert lab.run(gateway, ["systemctl", "start", "mastio-onward.service"]).code == 0
    assert mail.inbox(lab, *user, word)
