"""A port scanner that a broken-in machine would use: raw packets, all ports, both families.

Frames are written to the network interface itself (packet(7), AF_PACKET), below the machine's own
firewall: whoever has root on a machine takes its output rules away first, so the scan is not held back by
them, and nothing is changed on the machine. Answers are read from the interface too.

`scan` returns for each target which TCP ports answered SYN with SYN|ACK (open) or RST (closed), and which
UDP ports answered (open) or were reported unreachable (closed). Silence is what a firewall that drops
makes. A lost packet looks like silence too: the usual ports are asked twice.

`behind` asks the same from inside a tunnel that ends on this machine, as one more device there.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import random
import select
import socket
import struct
import subprocess
import time
from typing import Any

_TYPES = {4: 0x0800, 6: 0x86DD}
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_BURST = 64
_BUFFER = 1 << 22
_PATIENCE = 0.8
"""How long to wait for late answers, in seconds."""


def scan(
    targets: list[str],
    tcp: list[list[int]],
    again: list[list[int]],
    udp: dict[str, str],
    rate: int,
    avoid: list[str],
) -> dict[str, Any]:
    """What each of `targets` answers.

    `tcp` are ranges of ports, ends included, and `again` those that are asked a second time; `udp` maps
    ports to payloads in hex; `rate` is packets a second for all together. Addresses in the networks
    `avoid` are not used where there are others: a stranger is not to look from where administrators come.
    """
    ways = [_way(target, avoid, {int(port) for port in udp}) for target in targets]
    ears = [_ear(version) for version in sorted({way.version for way in ways})]
    mouth = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    return _scanned(ways, mouth, ears, tcp, again, udp, rate)


def behind(
    interface: str,
    targets: list[str],
    tcp: list[list[int]],
    again: list[list[int]],
    udp: dict[str, str],
    rate: int,
) -> dict[str, Any]:
    """The same as a device beyond the tunnel `interface` of this machine would see it.

    Its packets come out of an interface made for this, from an address of the tunnel's network that nobody has, and
    this machine takes them for forwarded ones: it routes and filters them, as do those at which they arrive. With this
    process the interface goes away, and with the interface its routes, however the process ends.
    """
    sources = _unused(interface)
    asked = {int(port) for port in udp}
    ways = [
        _Way(it, sources[it.version], (), asked)
        for it in map(ipaddress.ip_address, targets)
        if it.version in sources
    ]
    with _Tunnel([*sources.values()]) as tunnel:
        return _scanned(ways, tunnel, [tunnel], tcp, again, udp, rate)


def _scanned(
    ways: list[_Way], mouth: Any, ears: list[Any], tcp: list[list[int]], again: list[list[int]],
    udp: dict[str, str], rate: int,
) -> dict[str, Any]:  # fmt: skip
    known = {way.target: way for way in ways}
    began, sent = time.monotonic(), 0
    for last in (False, True):
        ports = _listed(again if last else tcp)
        for way in ways:
            way.turn()
        for start in range(0, len(ports), _BURST):
            for way in ways:
                where = way.where
                for port in ports[start : start + _BURST]:
                    _send(mouth, way.syn(port), where)
                sent += _BURST
                _hear(ears, known, 0)
            ahead = sent / rate - (time.monotonic() - began)
            if ahead > 0:
                _hear(ears, known, ahead)
        for number, payload in udp.items():
            for way in ways:
                _send(mouth, way.datagram(int(number), bytes.fromhex(payload)), way.where)
            _hear(ears, known, 0.001)
        _hear(ears, known, _PATIENCE if last else _PATIENCE / 4)
    return {
        str(way.target): {
            "source": str(way.source),
            "open": sorted(way.open),
            "closed": sorted(way.closed - way.open),
        }
        for way in ways
    }


def _listed(spans: list[list[int]]) -> list[int]:
    """The ports of ranges, each once, in a random order: a pattern is what others look for."""
    ports = list({port for first, last in spans for port in range(first, last + 1)})
    random.shuffle(ports)
    return ports


def _ear(version: int) -> socket.socket:
    """Hears what is received: what this machine sends does not reach a socket of one packet type."""
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_TYPES[version]))
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    return ear


def _send(mouth: Any, packet: bytes | bytearray, where: tuple[Any, ...]) -> None:
    for _ in range(100):
        try:
            mouth.sendto(packet, where)
            return
        except OSError as error:
            if error.errno not in (105, 11):  # ENOBUFS, EAGAIN: the interface is busy
                raise
            time.sleep(0.002)


class _Tunnel:
    """An interface (tun(4)) whose far end is this process: it is written to and read from like a socket."""

    _SET, _KIND = 0x400454CA, 0x1001
    """TUNSETIFF; IFF_TUN | IFF_NO_PI: whole packets and nothing before them."""

    def __init__(self, own: list[Any]) -> None:
        self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        try:
            said = fcntl.ioctl(self._file, self._SET, struct.pack("16sH22x", b"look%d", self._KIND))
            device = said[:16].rstrip(b"\0").decode()
            _ip(["link", "set", "dev", device, "up"])
            for address in own:
                _ip([f"-{address.version}", "route", "add", str(address), "dev", device])
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> _Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def fileno(self) -> int:
        """What select waits for."""
        return self._file

    def sendto(self, packet: bytes | bytearray, _: object) -> None:
        """What comes from the device."""
        os.write(self._file, packet)

    def recv(self, most: int) -> bytes:
        """What goes to it."""
        return os.read(self._file, most)


def _unused(interface: str) -> dict[int, Any]:
    """An address of each family in the network of the tunnel `interface` that no device has: the last ones."""
    (found,) = _ip(["-j", "addr", "show", "dev", interface])
    own = [
        ipaddress.ip_interface(f"{it['local']}/{it['prefixlen']}")
        for it in found["addr_info"]
        if it["scope"] == "global"
    ]
    argv = ["wg", "show", interface, "allowed-ips"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(argv)}: {done.stderr.strip()}")
    words = [word for line in done.stdout.splitlines() for word in line.split()[1:]]
    taken = [ipaddress.ip_network(word) for word in words if word != "(none)"]
    sources: dict[int, Any] = {it.version: _last(it, taken) for it in own}
    if not sources:
        raise ValueError(f"{interface} has no address")
    return sources


def _last(own: Any, taken: list[Any]) -> Any:
    network = own.network
    for number in range(2, min(network.num_addresses, 1000)):
        address = network[-number]
        if address != own.ip and not any(address in it for it in taken):
            return address
    raise ValueError(f"every address of {network} is some device's: no other is left to look from")


def _way(target: str, avoid: list[str], asked: set[int]) -> _Way:
    """The way that this machine itself takes."""
    address = ipaddress.ip_address(target)
    route = _ip(["-j", f"-{address.version}", "route", "get", target])[0]
    if route.get("type", "unicast") not in ("unicast",) or "dev" not in route:
        raise ValueError(f"there is no route to {target}")
    device = route["dev"]
    source = _source(device, route["prefsrc"], avoid)
    hop = route.get("gateway") or route.get("via", {}).get("host") or target
    where = (device, _TYPES[address.version], 0, 0, _hardware(hop, device, address.version))
    return _Way(address, source, where, asked)


class _Way:
    """How packets get to one target: source address, interface, and the next hop's hardware address."""

    def __init__(self, target: Any, source: Any, where: tuple[Any, ...], asked: set[int]) -> None:
        self.target, self.source, self.where = target, source, where
        self.version = target.version
        self.open: set[tuple[str, int]] = set()
        self.closed: set[tuple[str, int]] = set()
        self.asked = asked
        self.turn()

    def turn(self) -> None:
        """A new source port: a firewall between may remember the former one."""
        self.port = random.randrange(33000, 60000)
        segment = struct.pack(
            "!HHLLBBHHH", self.port, 0, random.getrandbits(32), 0, 0x60, 2, 64240, 0, 0
        )
        segment += struct.pack("!BBH", 2, 4, 1400)
        self._syn = bytearray(self._header(_TCP, len(segment)) + segment)
        self._at = len(self._syn) - len(segment)
        self._sum = _sum(self._pseudo(_TCP, len(segment)) + segment)

    def syn(self, port: int) -> bytearray:
        """A connection request to `port`; only port and checksum differ from one to the next."""
        total = self._sum + port
        total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", self._syn, self._at + 2, port)
        struct.pack_into(
            "!H", self._syn, self._at + 16, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        )
        return self._syn

    def datagram(self, port: int, payload: bytes) -> bytes:
        """A UDP datagram to `port`."""
        head = struct.pack("!HHHH", self.port, port, 8 + len(payload), 0)
        check = ~_sum(self._pseudo(_UDP, len(head + payload)) + head + payload) & 0xFFFF
        head = head[:6] + struct.pack("!H", check or 0xFFFF)
        return self._header(_UDP, len(head + payload)) + head + payload

    def _pseudo(self, protocol: int, length: int) -> bytes:
        ends: bytes = self.source.packed + self.target.packed
        return ends + struct.pack(
            "!LL" if self.version == 6 else "!HH",
            *((length, protocol) if self.version == 6 else (protocol, length)),
        )

    def _header(self, protocol: int, length: int) -> bytes:
        ends: bytes = self.source.packed + self.target.packed
        if self.version == 6:
            return struct.pack("!LHBB", 0x60000000, length, protocol, 64) + ends
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, protocol, 0) + ends
        return head[:10] + struct.pack("!H", ~_sum(head) & 0xFFFF) + head[12:]


def _hear(ears: list[Any], known: dict[Any, _Way], seconds: float) -> None:
    """Takes in what has come, and what comes within `seconds`."""
    end = time.monotonic() + seconds
    while ready := select.select(ears, [], [], max(0.0, end - time.monotonic()))[0]:
        for ear in ready:
            _take(ear.recv(512), known)


def _take(packet: bytes, known: dict[Any, _Way]) -> None:
    version = packet[0] >> 4
    if version == 4:
        sender, protocol = packet[12:16], packet[9]
        rest = packet[(packet[0] & 15) * 4 :]
    else:
        sender, protocol, rest = packet[8:24], packet[6], packet[40:]
    if protocol in (_TCP, _UDP) and len(rest) >= 8:
        way = known.get(ipaddress.ip_address(sender))
        theirs, mine = struct.unpack_from("!HH", rest)
        if way is None or mine != way.port:
            return
        if protocol == _UDP:
            # From another port it is no answer: the target may be looking at us at the same time.
            if theirs in way.asked:
                way.open.add(("udp", theirs))
        elif rest[13] & 0x12 == 0x12:
            way.open.add(("tcp", theirs))
        elif rest[13] & 0x04:
            way.closed.add(("tcp", theirs))
    elif (protocol, rest[:2]) in ((_ICMP, b"\x03\x03"), (_ICMP6, b"\x01\x04")):
        # "Port unreachable" quotes the packet that it is about.
        quoted = rest[8:]
        if version == 4:
            target, kind, quoted = quoted[16:20], quoted[9], quoted[(quoted[0] & 15) * 4 :]
        else:
            target, kind, quoted = quoted[24:40], quoted[6], quoted[40:]
        way = known.get(ipaddress.ip_address(target))
        if way and len(quoted) >= 4:
            mine, theirs = struct.unpack_from("!HH", quoted)
            if mine == way.port:
                way.closed.add(("udp" if kind == _UDP else "tcp", theirs))


def _sum(data: bytes) -> int:
    """The internet checksum before its complement (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _ip(argv: list[str]) -> Any:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"ip {' '.join(argv)}: {done.stderr.strip()}")
    return json.loads(done.stdout or "[]")


def _hardware(hop: str, device: str, version: int) -> bytes:
    """The hardware address of a neighbour. None in a tunnel: it has two ends."""
    if _ip(["-j", "link", "show", "dev", device])[0].get("link_type") == "none":
        return b""
    # The kernel looks for it itself (ip-neighbour(8), "use"): the machine's own rules may let no packet go there.
    use = ["ip", f"-{version}", "neigh", "replace", hop, "dev", device, "use"]
    for _ in range(40):
        for entry in _ip(["-j", f"-{version}", "neigh", "show", "to", hop, "dev", device]):
            if entry.get("lladdr") and "FAILED" not in entry.get("state", []):
                return bytes.fromhex(entry["lladdr"].replace(":", ""))
        subprocess.run(use, capture_output=True, check=False)
        time.sleep(0.1)
    raise ValueError(f"nobody on {device} answers for {hop}")


def _source(device: str, usual: str, avoid: list[str]) -> Any:
    """The usual address, or another one of the interface when that is to be avoided."""
    own = [usual] + [
        it["local"]
        for it in _ip(["-j", "addr", "show", "dev", device])[0]["addr_info"]
        if it["scope"] == "global"
    ]
    networks = [ipaddress.ip_network(it) for it in avoid]
    addresses = [ipaddress.ip_address(it) for it in own]
    family = [it for it in addresses if it.version == addresses[0].version]
    return next((it for it in family if not any(it in net for net in networks)), addresses[0])


def towards(addresses: list[str]) -> list[str]:
    """The addresses with which this machine goes to each of `addresses`, "" where no way leads."""
    found = []
    for address in addresses:
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((address, 9))
                found.append(str(probe.getsockname()[0]))
            except OSError:
                found.append("")
    return found
