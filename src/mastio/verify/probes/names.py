"""DNS without a library: one question, one answer (RFC 1035). Many ask just one: it loads little."""

from __future__ import annotations

import os
import socket
import struct

_TYPES = {
    "A": 1, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52, "AXFR": 252, "CAA": 257,
}  # fmt: skip


def resolver() -> str:
    """The machine's own resolver (resolv.conf(5))."""
    with open("/etc/resolv.conf") as file:
        for line in file:
            if line.startswith("nameserver"):
                return line.split()[1]
    raise ValueError("/etc/resolv.conf names no resolver")


def look_up(name: str, kind: str, server: str = "", patience: float = 3) -> dict[str, object]:
    """`{"code": RCODE, "secure": AD, "answers": [text…]}`; code is -1 when nobody answers."""
    server = server or resolver()
    number = int.from_bytes(os.urandom(2))
    parts = [part.encode() for part in name.split(".") if part]  # none: the root
    question = b"".join(bytes([len(part)]) + part for part in parts)
    # RD and AD are set, and EDNS0 with DO: "tell me whether you validated" (RFC 6840, 5.7).
    packet = struct.pack("!HHHHHH", number, 0x0120, 1, 0, 0, 1) + question + b"\0"
    packet += (
        struct.pack("!HH", _TYPES[kind], 1) + b"\0" + struct.pack("!HHLH", 41, 4096, 0x8000, 0)
    )
    data = _exchange(server, packet, patience)
    if data is None:
        return {"code": -1, "secure": False, "answers": []}
    _, flags, asked, given, _, _ = struct.unpack_from("!HHHHHH", data)
    at = 12
    for _ in range(asked):
        at = _name(data, at)[1] + 4
    answers = []
    for _ in range(given):
        at = _name(data, at)[1]
        found, _, _, length = struct.unpack_from("!HHLH", data, at)
        at += 10
        if found == _TYPES.get(kind):
            answers.append(_text(data, at, length, kind))
        at += length
    return {"code": flags & 15, "secure": bool(flags & 0x20), "answers": sorted(answers)}


def look_up_all(
    questions: list[list[str]], server: str, patience: float
) -> list[dict[str, object]]:
    """`look_up` of several names and types at once."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(lambda it: look_up(it[0], it[1], server, patience), questions))


def _exchange(server: str, packet: bytes, patience: float) -> bytes | None:
    kind = socket.AF_INET6 if ":" in server else socket.AF_INET
    for _ in range(2):
        with socket.socket(kind, socket.SOCK_DGRAM) as channel:
            channel.settimeout(patience)
            channel.connect((server, 53))
            try:
                channel.send(packet)
                data = channel.recv(65535)
            except OSError:
                continue
            if data[:2] == packet[:2] and not data[2] & 2:
                return data
        if data[2] & 2:  # truncated: again over TCP
            with socket.create_connection((server, 53), timeout=patience) as stream:
                stream.sendall(struct.pack("!H", len(packet)) + packet)
                file = stream.makefile("rb")
                return file.read(struct.unpack("!H", file.read(2))[0])
    return None


def _name(data: bytes, at: int) -> tuple[str, int]:
    parts, end = [], 0
    while data[at]:
        if data[at] & 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", data, at)[0] & 0x3FFF
            continue
        parts.append(data[at + 1 : at + 1 + data[at]].decode(errors="replace"))
        at += data[at] + 1
    return ".".join(parts), end or at + 1


def _text(data: bytes, at: int, length: int, kind: str) -> str:
    if kind in ("A", "AAAA"):
        return socket.inet_ntop(
            socket.AF_INET if kind == "A" else socket.AF_INET6, data[at : at + length]
        )
    if kind == "MX":
        return _name(data, at + 2)[0].lower()
    if kind == "PTR":
        return _name(data, at)[0].lower()
    if kind == "TXT":
        end, parts = at + length, []
        while at < end:
            parts.append(data[at + 1 : at + 1 + data[at]].decode(errors="replace"))
            at += data[at] + 1
        return "".join(parts)
    if kind == "TLSA":  # usage, selector, matching type, hash (RFC 6698, 2.1)
        usage, selector, matching = data[at : at + 3]
        return f"{usage} {selector} {matching} {data[at + 3 : at + length].hex()}"
    if kind == "CAA":  # flags, tag, value (RFC 8659, 4.1)
        tag = data[at + 2 : at + 2 + data[at + 1]]
        value = data[at + 2 + data[at + 1] : at + length]
        return f"{data[at]} {tag.decode(errors='replace')} {value.decode(errors='replace')}"
    return data[at : at + length].hex()
