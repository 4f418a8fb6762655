"""The network, against expectations written down by hand: what is open, and that nothing else is.

Nothing here asks the flow matrix, from which the firewalls are made: a mistake in it must show. Each
scan that finds nothing stands beside one with the same scanner that finds something.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from mastio.lab import internet, outside
from mastio.site.model import Address
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import remote
from tests.lab.scan import (
    PATIENCE,
    View,
    ask_name,
    ask_time,
    hold,
    listening,
    nmap,
    scan,
)

pytestmark = pytest.mark.lab

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
MACHINES = ("firewall", "gateway", "store", "webmail", "watch")
PUBLIC = {25, 80, 443}
INSIDE = {
    ("firewall", "watch"): {3128, 6514},
    ("gateway", "watch"): {3128, 3129, 6514},
    ("gateway", "store"): {24},
    ("store", "watch"): {3128, 6514},
    ("store", "gateway"): {587, 11334},
    ("webmail", "watch"): {3128, 6514},
    ("webmail", "store"): {106, 465, 993, 4190},
    ("watch", "firewall"): {22},
    ("watch", "gateway"): {22},
    ("watch", "store"): {22, 24},
    ("watch", "webmail"): {22},
}
"""Who reaches which TCP ports of whom. A pair that is not here: none."""
TO_INTERNET = {"gateway": {25, 53}, "watch": {53, 80, 443}}
CLIENT_CONNECTIONS = 256
# Every port of the site, the neighbours of each in trade, and what attackers look for first.
PORTS = (
    11, 21, 22, 23, 24, 25, 53, 79, 80, 81, 88, 106, 110, 111, 123, 135, 139, 143, 161, 179, 389, 443,
    445, 465, 514, 587, 636, 783, 873, 953, 993, 995, 2049, 2525, 3128, 3129, 3306, 3310, 4190, 5432, 6379,
    6514, 8000, 8080, 8443, 9000, 9100, 10025, 11332, 11333, 11334, 12345, 24242,
)  # fmt: skip


def of(addresses: Iterable[Address], version: int) -> Address:
    return next(it for it in addresses if it.version == version)


def faces(lab: Lab) -> tuple[Address, ...]:
    """Every address of the firewall but the one by which watch administers it."""
    routers = {router for zone in lab.site.zones for router in zone.routers}
    return tuple(routers - {*lab.site.machine("firewall").addresses}) + lab.site.public


def reached(lab: Lab, source: str) -> dict[str, dict[Address, set[int]]]:
    """Machine → its addresses → the ports that `source` reaches; `faces` are the firewall's others."""
    targets = {name: lab.site.machine(name).addresses for name in MACHINES if name != source}
    if source != "firewall":
        targets["faces"] = faces(lab)
    opened = scan(
        lab, source, [(it, port) for group in targets.values() for it in group for port in PORTS]
    )
    return {
        name: {it: {port for port in PORTS if (str(it), port) in opened} for it in group}
        for name, group in targets.items()
    }


def expected(found: dict[str, dict[Address, set[int]]], source: str) -> object:
    return {
        target: dict.fromkeys(group, INSIDE.get((source, target), set()))
        for target, group in found.items()
    }


# --- from the internet


def from_outside(lab: Lab, who: tuple[Address, ...], *options: str) -> tuple[View, View]:
    """What nmap finds at the public IPv4 and IPv6 address, looked at together."""
    with ThreadPoolExecutor() as pool:
        four, six = pool.map(
            lambda version: nmap(lab, of(lab.site.public, version), of(who, version), *options),
            (4, 6),
        )
    return four, six


def test_a_stranger_finds_three_ports_and_silence(lab: Lab) -> None:
    begin, every = time.monotonic(), ("-p-", "--min-rate=6000", "--max-retries=3")
    for view in from_outside(lab, internet.stranger(lab.site), "-sS", *every):
        assert view.in_state("open") == PUBLIC
        assert view.others == {"filtered": 65535 - len(PUBLIC)}
    assert time.monotonic() - begin < 240


def test_an_administrator_finds_ssh_as_well(lab: Lab) -> None:
    low = ("-p1-1100", "--min-rate=1000", "--max-retries=3")
    for view in from_outside(lab, internet.admin(lab.site), "-sS", *low):
        assert view.in_state("open") == PUBLIC | {22}
        assert view.others == {"filtered": 1100 - 4}


def test_no_datagram_is_answered(lab: Lab) -> None:
    common = ("--top-ports=100", "--min-rate=200", "--max-retries=1")
    for view in from_outside(lab, internet.stranger(lab.site), "-sU", *common):
        assert view.others == {"open|filtered": 100}
    # The same scan does see a service that answers.
    for server in internet.nameserver(lab.site):
        assert nmap(lab, server, None, "-sU", "-p53").in_state("open") == {53}


@contextmanager
def a_way_around_nat(lab: Lab) -> Iterator[None]:
    """Somebody on the same wire sends packets for the inside to the firewall."""
    routes = [
        ["ip", f"-{network.version}", "route", "replace", str(network), "via",
         str(of(lab.site.public, network.version))]
        for zone in lab.site.zones for network in zone.networks
    ]  # fmt: skip
    for route in routes:
        assert lab.run(outside.MACHINE, route).code == 0
    try:
        yield
    finally:
        for route in routes:
            lab.run(outside.MACHINE, [*route[:3], "del", *route[4:]])


def test_nobody_outside_reaches_an_inside_address(lab: Lab) -> None:
    inside = [it for name in MACHINES for it in lab.site.machine(name).addresses]
    with a_way_around_nat(lab):
        opened = scan(
            lab, outside.MACHINE, [(it, port) for it in (*inside, *faces(lab)) for port in PORTS],
            internet.stranger(lab.site),
        )  # fmt: skip
    assert opened == {(str(it), port) for it in lab.site.public for port in PUBLIC}


def test_neither_system_nor_product_has_a_name(lab: Lab) -> None:
    """`--version-all` finds no more, but takes six minutes where services are silent on purpose."""
    curious = ("-sV", "-O", "--osscan-guess", "-p25,80,443")
    for view in from_outside(lab, internet.stranger(lab.site), "-sS", *curious):
        assert view.in_state("open") == PUBLIC
        assert [it for it in view.systems if it[1] >= 85] == []
        for number, port in view.ports.items():
            for word in ("product", "version", "extrainfo", "ostype", "hostname", "devicetype"):
                assert word not in port.service, f"port {number}: {port.service}"
    # The same scan does name what has a name.
    sshd = nmap(lab, internet.mta(lab.site)[0], None, "-sV", "-p22").ports[22]
    assert sshd.service["product"] == "OpenSSH"


SOURCE_PORT = 40000


def inject(target: str, port: int, source: str, source_port: int, interface: str) -> None:
    """Send one SYN with a source address of the caller's choice (RFC 791, RFC 8200, RFC 9293)."""
    import socket
    import struct

    version = 6 if ":" in target else 4
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    packed = [socket.inet_pton(family, it) for it in (source, target)]
    head = struct.pack(">HHIIBBHHH", source_port, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
    pseudo = packed[0] + packed[1] + struct.pack(">II", len(head), 6) + head
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head = head[:16] + struct.pack(">H", ~total & 0xFFFF) + head[18:]
    if version == 4:
        words = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(head), 7, 0, 64, 6, 0)
        packet = words + packed[0] + packed[1] + head
    else:
        packet = struct.pack(">IHBB", 6 << 28, len(head), 6, 64) + packed[0] + packed[1] + head
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        raw.sendto(packet, (target, 0))


@FAMILIES
def test_a_borrowed_inside_address_is_dropped_and_told_to_watch(lab: Lab, version: int) -> None:
    target = of(lab.site.public, version)
    borrowed = of(lab.site.machine("gateway").addresses, version)
    honest = of(internet.stranger(lab.site), version)
    port = 40000 + time.time_ns() % 20000
    for source in (borrowed, honest):
        remote(lab, outside.MACHINE, inject, target=str(target), port=port, source=str(source),
               source_port=SOURCE_PORT, interface="internet")  # fmt: skip
    lines = dropped(lab, port, 2)
    assert sender(lines, "spoofed") == borrowed
    assert sender(lines, "input") == honest


def sender(lines: list[str], chain: str) -> Address:
    """Whose packet it was that `chain` dropped; there must be one."""
    (line,) = [line for line in lines if f"mastio {chain}:" in line]
    return ip_address(line.partition("SRC=")[2].split()[0])


def dropped(lab: Lab, port: int, count: int) -> list[str]:
    """The lines that watch keeps of the firewall about packets of `inject` to `port`."""
    # Of a port alone a scan may have asked, too.
    argv = ["grep", "-rhE", f"SPT={SOURCE_PORT} DPT={port}( |$)", "/var/log/remote/firewall"]
    end = time.monotonic() + 120
    while len(lines := lab.run("watch", argv).stdout.decode().splitlines()) < count:
        assert time.monotonic() < end, f"watch heard of {lines}"
        time.sleep(0.1)
    return lines


@FAMILIES
def test_one_client_cannot_take_all_connections(lab: Lab, version: int) -> None:
    target, source = of(lab.site.public, version), of(internet.stranger(lab.site), version)
    standing, served = remote(
        lab, outside.MACHINE, hold, address=str(target), port=443, source=str(source),
        count=CLIENT_CONNECTIONS + 60, patience=3,
    )  # fmt: skip
    assert CLIENT_CONNECTIONS - 20 <= standing <= CLIENT_CONNECTIONS
    if version == 4:  # In IPv6 the other client lives in the same /64, which is one customer.
        assert served, "another client was locked out, too"


# --- from machine to machine


@pytest.mark.parametrize("source", MACHINES)
def test_a_machine_reaches_its_own_business_only(lab: Lab, source: str) -> None:
    found = reached(lab, source)
    assert found == expected(found, source)


@pytest.mark.parametrize("source", ["gateway", "store", "webmail"])
def test_a_machine_without_its_own_firewall_reaches_no_more(lab: Lab, source: str) -> None:
    """Who breaks into a machine is root there: the perimeter and the other machines must hold."""
    assert lab.run(source, ["nft", "flush", "ruleset"]).code == 0
    try:
        found, away = reached(lab, source), far_out(lab, source)
    finally:
        assert lab.run(source, ["nft", "-f", "/etc/nftables.conf"]).code == 0
    assert found == expected(found, source)
    assert away == TO_INTERNET.get(source, set())


def test_only_watch_tells_the_time(lab: Lab) -> None:
    everyone = [str(it) for name in MACHINES for it in lab.site.machine(name).addresses]
    watch = {str(it) for it in lab.site.machine("watch").addresses}

    def answered(source: str) -> set[str]:
        own = {str(it) for it in lab.site.machine(source).addresses}
        servers = [it for it in everyone if it not in own]
        return set(remote(lab, source, ask_time, servers=servers, patience=PATIENCE))

    for source in MACHINES:
        assert answered(source) == (set() if source == "watch" else watch), source


# --- from machines to the internet


def far_out(lab: Lab, source: str) -> set[int]:
    """The ports on the internet that `source` reaches, in both families alike."""
    targets = {
        (of(group, version), port)
        for version in (4, 6)
        for group, ports in (
            (internet.mta(lab.site), set(PORTS) - {53}),
            (internet.nameserver(lab.site), {53}),
        )
        for port in ports
    }
    with listening(lab, outside.MACHINE, *PORTS):
        time.sleep(0.5)
        opened = scan(lab, source, targets)
    ports = {
        version: {port for address, port in opened if (":" in address) == (version == 6)}
        for version in (4, 6)
    }
    assert ports[4] == ports[6]
    return ports[4]


@pytest.mark.parametrize("source", MACHINES)
def test_a_machine_reaches_of_the_internet_what_it_needs(lab: Lab, source: str) -> None:
    assert far_out(lab, source) == TO_INTERNET.get(source, set())


def test_the_listeners_outside_can_be_reached_at_all(lab: Lab) -> None:
    target = of(internet.mta(lab.site), 4)
    with listening(lab, outside.MACHINE, *PORTS):
        time.sleep(0.5)
        opened = scan(lab, outside.MACHINE, [(target, port) for port in PORTS if port != 53])
    assert {port for _, port in opened} == set(PORTS) - {53}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_only_gateway_and_watch_ask_name_servers(lab: Lab, tcp: bool) -> None:
    servers = [str(it) for it in internet.nameserver(lab.site)]
    asking = {"servers": servers, "question": outside.DOMAIN, "tcp": tcp}
    for source in MACHINES:
        wanted = servers if source in ("gateway", "watch") else []
        # A datagram is sent once; who gets all answers waits no longer.
        patience = 20 if wanted else PATIENCE
        assert remote(lab, source, ask_name, **asking, patience=patience) == wanted, source


# --- what the scanner is worth


def test_a_hole_made_by_hand_is_found_and_closed(lab: Lab) -> None:
    port, holes = 8025, {"webmail": "output", "firewall": "forward", "store": "input"}
    targets = [(it, port) for it in lab.site.machine("store").addresses]
    lab.mastio("apply", "--yes")
    with listening(lab, "store", port):
        for machine, chain in holes.items():
            rule = ["inet", "mastio", chain, "tcp", "dport", str(port), "accept"]
            assert lab.run(machine, ["nft", "insert", "rule", *rule]).code == 0
        assert scan(lab, "webmail", targets) == {(str(it), port) for it, port in targets}

        planned = mastio(lab.folder, "plan")
        assert planned.returncode == 2
        for machine in holes:
            assert f"{machine} · 1 change\n" in planned.stdout
        assert planned.stdout.count("/etc/nftables.conf") == len(holes)

        lab.mastio("apply", "--yes")
        assert scan(lab, "webmail", targets) == set()
    assert mastio(lab.folder, "plan").returncode == 0


def test_rules_stay_while_a_machine_goes_down(lab: Lab) -> None:
    """Early in a shutdown nftables.service stops; nothing may be open then."""
    for machine in MACHINES:
        stop = "systemctl stop nftables.service; nft list chain inet mastio input; systemctl start nftables.service"
        shown = lab.run(machine, ["sh", "-c", stop])
        assert shown.code == 0 and b"policy drop" in shown.stdout, machine
