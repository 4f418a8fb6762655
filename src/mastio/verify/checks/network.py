"""N: what can be reached from where, and what strangers learn from it.

The scans of N1, N2 and N5 write to the network interface, below the vantage's own firewall: each
machine is taken as if it were already broken into (docs/decisions/0021).
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address

from mastio import firewall, services
from mastio.flows import INTERNET, MESH_INTERFACE, VPN
from mastio.roles.vpn import INTERFACE as TUNNEL
from mastio.services import Transport
from mastio.site.model import Address
from mastio.transport import OUTSIDE
from mastio.verify import reach
from mastio.verify.doors import doors
from mastio.verify.model import Cell, Check, Family, Place, Severity
from mastio.verify.probes import names, rules, scan, smtp, tunnels
from mastio.verify.vantage import Vantage, not_run, unknown

_USUAL_TCP = (
    "1 7 9 13 19-23 25-26 37 42 43 49 53 69-70 79-82 88 102 106 109-111 113 119 123 135 137-139 143 161 162 "
    "179 389 427 443-445 464-465 500 502 512-515 520 530-531 540 543-544 546-548 554 563 587 591-593 623 "
    "631 636 646 657 660 666 691 749 783 808 843 853 860 873 902-903 953 989-995 1023-1030 1080 1099 1110 "
    "1194 1433-1434 1521 1701 1720 1723 1755 1883 1900 1935 2000-2001 2049 2082-2083 2086-2087 2095-2096 "
    "2121 2181 2222 2375-2376 2379-2380 2525 2717 3000 3128 3260 3268 3306 3310 3333 3389 3690 3986 4000 "
    "4190 4369 4443-4445 4500 4505-4506 4786 4899 5000-5001 5009 5051 5060-5061 5101 5190 5201 5222 5269 "
    "5353 5355 5357 5432 5601 5631 5666 5672 5800 5900-5901 5938 5984-5986 6000-6001 6379-6380 6443 6514 "
    "6646 6667 7000-7001 7070 7199 8000 8008-8010 8025 8031 8080-8081 8086 8088 8125 8139 8161 8443 8500 "
    "8834 8883 8888-8889 8983 9000-9001 9042 9090-9093 9100-9102 9200 9300 9418 9443 9600 9999-10001 10024-10026 "
    "10050-10051 10250 11211 11332-11335 12345 15672 17500 19132 20000 24007 25565 27017-27019 32768 32400 "
    "44818 47808 49152-49157 50000 50051 61616 64738"
)
"""Where services usually listen: the fast set's ports. The full set tries all of them."""
_USUAL_UDP = (
    "7 9 17 19 49 53 67 68 69 80 88 111 120 123 135 136 137 138 139 158 161 162 177 427 443 445 497 500 514 515 "
    "518 520 593 623 626 631 853 996 997 998 999 1022 1023 1025 1026 1027 1028 1029 1030 1194 1433 1434 1645 1646 "
    "1701 1718 1719 1812 1813 1900 2000 2048 2049 2222 2223 3283 3389 3456 3703 4444 4500 5000 5060 5353 5355 5632 "
    "6081 6514 8472 9200 10000 11211 17185 20031 30718 31337 32768 32769 33434 47808 49152 49153 49154 49156 49181 "
    "49182 49185 49186 49188 49190 49191 49192 49193 49194 49200 49201 51820 51821 65024"
)
"""The hundred UDP ports where nmap finds most, and tunnels."""
_UDP_PAYLOADS = {
    services.NTP.port: "e3" + "00" * 47,  # a client's request, version 4 (RFC 5905)
    services.DNS.port: "000001000001000000000000" + "0000020001",  # the root's NS
}
_EVERY_PORT = (1, 65535)
_INSIDE_RATE, _OUTSIDE_RATE = 60_000, 12_000
"""Packets a second: a site's own switches carry more; the internet's ways are not ours."""


def ranges(words: str) -> tuple[tuple[int, int], ...]:
    """Port ranges from text: `1 7 19-23`."""
    pairs = (word.partition("-") for word in words.split())
    return tuple((int(first), int(last or first)) for first, _, last in pairs)


def _scan(
    vantage: Vantage, targets: tuple[reach.Target, ...], tunnel: str = ""
) -> Iterator[tuple[reach.Target, dict[str, object], int]]:
    declared = sorted({it.port for it in services.ALL if Transport.TCP in it.transports})
    usual = [*ranges(_USUAL_TCP), *((port, port) for port in declared)]
    tcp = [_EVERY_PORT] if vantage.ground.full else usual
    udp = {int(word): "" for word in _USUAL_UDP.split()} | _UDP_PAYLOADS
    tried = len({port for first, last in tcp for port in range(first, last + 1)}) + len(udp)
    ports = (
        [str(it.address) for it in targets], [list(it) for it in tcp], [list(it) for it in usual],
        {str(port): payload for port, payload in udp.items()},
    )  # fmt: skip
    rate = _OUTSIDE_RATE if vantage.is_outside else _INSIDE_RATE
    if tunnel:
        answers = vantage.ask(scan.behind, tunnel, *ports, rate=rate)
    else:
        avoid = [str(it) for it in vantage.site.admin_networks] if vantage.is_outside else []
        answers = vantage.ask(scan.scan, *ports, rate=rate, avoid=avoid)
    for target in targets:
        yield target, answers[str(target.address)], tried


def reachability(vantage: Vantage) -> Iterator[str | Cell]:
    """Every port of every target answers if and only if the flow matrix says so."""
    targets = reach.targets(vantage.matrix, vantage.name)
    if not targets:
        raise not_run("there is no other machine of the site: who is on this one is where all is")
    for target, answer, tried in _scan(vantage, targets):
        cell = reach.cell(vantage.matrix, vantage.name, target, answer, tried)
        yield cell
        yield from reach.faults(cell)


def _outside_addresses(vantage: Vantage) -> list[Address]:
    """The addresses of the machine outside, as the site would call it."""
    public = [str(it.address) for it in doors(vantage.matrix, OUTSIDE)]
    if not vantage.ground.outside:
        raise not_run(
            "no machine outside is named in the site file (verify.outside): nobody to call"
        )
    found = vantage.at(OUTSIDE).ask(scan.towards, sorted(set(public)))
    return [ip_address(it) for it in dict.fromkeys(found) if it]


def egress(vantage: Vantage) -> Iterator[str | Cell]:
    """What leaves the site, tried on the machine outside: the declared services, nothing else."""
    if vantage.matrix.firewall is None:
        raise not_run(
            "no perimeter stands between it and the internet: its own firewall holds its programs back (N7), and "
            "nothing holds back who has root there"
        )
    allowed = tuple(
        (str(kind), flow.service.port)
        for flow in vantage.matrix.out_of(vantage.name)
        if flow.target == INTERNET
        for kind in flow.service.transports
    )
    targets = tuple(reach.Target(OUTSIDE, it) for it in _outside_addresses(vantage))
    for target, answer, tried in _scan(vantage, targets):
        # A host without a firewall says "closed" to what reaches it: that counts as having left.
        cell = reach.cell(vantage.matrix, vantage.name, target, answer, tried, allowed)
        yield cell
        left = sorted({*cell.answered, *cell.closed} - {*allowed})
        if left:
            yield f"{vantage.name} reaches the internet on {reach.listed(left)}: no flow allows that"


def devices(vantage: Vantage) -> Iterator[str | Cell]:
    """What a device in the people's tunnel reaches: the store's doors, no other machine, not the internet."""
    if not vantage.site.vpn_networks:
        raise not_run("people's devices have no tunnel: `clients` is not vpn")
    beyond: tuple[reach.Target, ...] = ()
    if vantage.ground.outside:
        beyond = tuple(reach.Target(OUTSIDE, it) for it in _outside_addresses(vantage))
    for target, answer, tried in _scan(
        vantage, (*reach.targets(vantage.matrix, VPN), *beyond), TUNNEL
    ):
        cell = reach.cell(vantage.matrix, VPN, target, answer, tried)
        yield cell
        yield from reach.faults(cell)


def system(vantage: Vantage) -> Iterator[str]:
    """nmap does not tell which operating system answers."""
    for address in sorted({it.address for it in doors(vantage.matrix, OUTSIDE)}, key=str):
        said = vantage.output(
            "nmap", f"-{address.version}" if address.version == 6 else "-n", "-Pn", "-O", "--osscan-guess",
            "--max-os-tries", "1", "-p", f"{services.SMTP.port},{services.HTTP.port},{services.HTTPS.port},1",
            str(address),
        )  # fmt: skip
        for line in said.splitlines():
            sure = _surest(line)
            if sure is not None and sure[0] >= 85:
                yield f"nmap -O takes {address} for {sure[1]} ({sure[0]} %)"
            elif line.startswith("OS details:"):
                yield f"nmap -O knows {address}: {line.removeprefix('OS details:').strip()}"


_GUESS = re.compile(r"(?P<name>.+?) \((?P<percent>\d+)%\)")


def _surest(line: str) -> tuple[int, str] | None:
    head, found, rest = line.partition("Aggressive OS guesses:")
    if head or not found:
        return None
    # A name may have brackets of its own: "IPFire 2.27 (Linux 5.15 - 6.1) (92%), Linux 4.15 (91%)".
    if guess := _GUESS.match(rest.strip()):
        return int(guess["percent"]), guess["name"]
    raise unknown(f"nmap -O says {rest.strip()}")


def products(vantage: Vantage) -> Iterator[str]:
    """nmap -sV names neither product nor version of a published service."""
    for address in vantage.site.public:
        ports = sorted({it.port for it in doors(vantage.matrix, OUTSIDE) if it.address == address})
        if not ports:
            continue
        family = ["-6"] if address.version == 6 else []
        said = vantage.output(
            "nmap", *family, "-n", "-Pn", "-sV", "-p", ",".join(map(str, ports)),
            "-oG", "-", str(address),
        )  # fmt: skip
        for entry in said.partition("Ports: ")[2].partition("\t")[0].split(", "):
            fields = entry.split("/")
            # "name?" is a guess from the port number alone; the last field is what the probes recognised
            known = fields[6].strip() if len(fields) > 6 else ""
            if known and known != _TOLD.get(fields[0]):
                yield f"nmap -sV knows port {fields[0]} of {address}: {known}"


_TOLD = {str(services.IMAPS.port): "Dovecot imapd"}
"""What nmap says of a sound proxy: its errors are compiled in and name it. No version, no system may stand beside."""


def banners(vantage: Vantage) -> Iterator[str]:
    """Greeting, EHLO, HELP and errors of the MX name no product."""
    for door in doors(vantage.matrix, vantage.name, services.SMTP):
        lines = ["EHLO probe.test", "HELP", "NOSUCH", "QUIT"]
        said = vantage.ask(smtp.dialogue, str(door.address), door.port, lines)
        for word in _PRODUCTS:
            if any(word in line.lower() for line in said):
                yield f"{door.words} says {word!r}: {next(it for it in said if word in it.lower())}"


_PRODUCTS = ("postfix", "exim", "sendmail", "debian", "dovecot", "rspamd", "postscreen", "linux")


def own_rules(vantage: Vantage) -> Iterator[str]:
    """The rules that are loaded are those of the flow matrix: each layer stands without the others."""
    name = vantage.name
    wanted = firewall.ruleset(vantage.matrix, vantage.site.machine(name))
    if wrong := vantage.ask(rules.differences, wanted):
        yield f"{name}: the firewall's rules are not those of the flow matrix ({'; '.join(wrong)})"


def joined(vantage: Vantage) -> Iterator[str]:
    """What a machine says to others goes into its tunnels to them, and they stand."""
    name, peers = vantage.name, vantage.matrix.mesh(vantage.name)
    if not peers:
        raise not_run("there are no tunnels: a firewall joins the machines, or there is only one")
    inner = [str(address) for peer in peers for address in peer.inner]
    found = vantage.ask(tunnels.tunnels, MESH_INTERFACE, inner, _OLDEST_KEYS)
    for address, way in found["ways"].items():
        if way != MESH_INTERFACE:
            yield f"{name}: what goes to {address} goes by {way or 'no way'}, not into the tunnel"
    known = {frozenset(one["allowed"]): one for one in found["peers"].values()}
    for peer in peers:
        one = known.pop(frozenset(f"{it}/{it.max_prefixlen}" for it in peer.inner), None)
        if one is None:
            yield f"{name}: there is no tunnel to {peer.name}, or it lets in more or less than what is {peer.name}'s"
        elif one["age"] is None or one["age"] > _OLDEST_KEYS:
            yield f"{name}: the tunnel to {peer.name} is dead: no answer from {one['endpoint'] or 'nowhere'}"
        elif _host(one["endpoint"]) not in peer.addresses:
            yield f"{name}: the tunnel to {peer.name} leads to {one['endpoint']}, which is not its address"
    for allowed in known:
        words = ", ".join(sorted(allowed)) or "nothing"
        yield f"{name}: somebody has a tunnel (for {words}) that no flow declares"


_OLDEST_KEYS = 200
"""Seconds: who still talks agrees on new keys after two minutes, and after three the old ones are refused."""


def _host(endpoint: str) -> Address | None:
    """The address of what wg(8) calls an endpoint."""
    host = endpoint.rpartition(":")[0].strip("[]")
    return ip_address(host) if host else None


def no_names(vantage: Vantage) -> Iterator[str]:
    """The site answers nobody's DNS questions, and gives no zone away."""
    questions = [["example.com", "A"], [vantage.site.domains[0], "SOA"]]
    for address in vantage.site.public:
        said = vantage.ask(names.look_up_all, questions, str(address), 1.5)
        for (name, kind), answer in zip(questions, said, strict=True):
            if answer["code"] in (0, 3):
                yield f"{address} answers DNS: {name} {kind} → {answer['answers'] or 'no such name'}"


CHECKS = (
    Check(
        "N1", Family.NETWORK, "From the internet, only what is published answers", (Place.OUTSIDE,),
        Severity.CRITICAL,
        "SYN to every TCP port (fast: some 300 usual ones) and datagrams to the 100 usual UDP ports of each "
        "public address, IPv4 and IPv6",
        "the ports of the flow matrix answer, no other does, and none says that it is closed",
        "docs/decisions/0021; nmap(1), port states",
        "Compare `mastio flows` with what answers. `mastio plan` shows a firewall that was changed by hand, "
        "`mastio apply` brings it back; a declared port that is silent means that its service is down.",
        reachability, seconds=420,
    ),
    Check(
        "N2", Family.NETWORK, "From each machine, as if broken into, only its flows answer",
        (Place.EVERY_MACHINE,), Severity.CRITICAL,
        "as N1, from each machine to each other, to the firewall's addresses and to the public ones, with "
        "raw packets below the machine's own firewall",
        "the ports of the flow matrix answer, no other does, and none says that it is closed",
        "docs/decisions/0021; lateral movement, MITRE ATT&CK TA0008",
        "Compare `mastio flows` with what answers; `mastio plan` shows which firewall was changed by hand, "
        "`mastio apply` brings it back. A declared port that is silent: look at that service's unit.",
        reachability, seconds=420,
    ),
    Check(
        "N3", Family.NETWORK, "The operating system cannot be told", (Place.OUTSIDE,), Severity.LOW,
        "nmap -O on each public address", "no guess of 85 % or more", "nmap(1), OS detection",
        "The firewall's rules `arrival` and `disguise` do this: see `mastio plan firewall`.",
        system, full=True, seconds=150,
    ),
    Check(
        "N4", Family.NETWORK, "Products and versions cannot be told", (Place.OUTSIDE,), Severity.LOW,
        "nmap -sV on each published port",
        "no product is recognised, but of IMAP (`clients = \"internet\"`) Dovecot by its errors, without a version",
        "nmap(1), version detection",
        "See which service talks: smtpd_banner and smtpd_forbidden_commands of Postfix, the Server header "
        "and error pages of nginx, login_greeting of the proxy's Dovecot.",
        products, full=True, seconds=400,
    ),
    Check(
        "N5", Family.NETWORK, "Only declared services leave the site", (Place.BEHIND,),
        Severity.HIGH, "as N2, from each machine to the machine outside",
        "what arrives there is what the flow matrix lets out; tcp/25 from the sending gateway alone",
        "RFC 5068, 3.1 (port 25 from MTAs alone); exfiltration, MITRE ATT&CK TA0010",
        "`mastio plan firewall` shows a forward rule that was changed by hand, `mastio apply` brings it back.",
        egress, seconds=300,
    ),
    Check(
        "N6", Family.NETWORK, "No DNS for strangers", (Place.OUTSIDE,), Severity.MEDIUM,
        "a recursive question and one for the own zone to each public address", "no answer",
        "RFC 5358 (open resolvers)",
        "The resolver listens on loopback only; see which rule lets port 53 in (`mastio plan firewall`).",
        no_names,
    ),
    Check(
        "N7", Family.NETWORK, "Each machine's own firewall is the declared one", (Place.EVERY_MACHINE,),
        Severity.HIGH, "the loaded nftables rules against those made from the flow matrix",
        "the same: each layer stands even where another one hides that it fell", "docs/decisions/0004; nft(8)",
        "`mastio plan` shows the difference, `mastio apply` loads the declared rules.", own_rules,
    ),
    Check(
        "N8", Family.NETWORK, "The MX does not introduce itself", (Place.OUTSIDE,), Severity.LOW,
        "greeting, EHLO, HELP and an unknown command", "no product's name in any reply",
        "RFC 5321, 4.3.1 (a greeting needs the host's name only)",
        "Set smtpd_banner back to `$myhostname ESMTP` (`mastio plan gateway` shows the change).",
        banners,
    ),
    Check(
        "N9", Family.NETWORK, "Machines without a firewall talk inside their tunnels", (Place.EVERY_MACHINE,),
        Severity.CRITICAL, "the ways to the other machines' inner addresses, and the tunnels as wg(8) shows them",
        "each way leads into the tunnel; to each machine that the flow matrix joins there is one, for its inner "
        "addresses alone, that has agreed on keys within minutes; there is no other",
        "docs/decisions/0055; wg(8), WireGuard's protocol (whitepaper, 6.1)",
        "`mastio plan` shows what was changed by hand, `mastio apply` brings it back, by ssh, which goes beside the "
        "tunnels. For a dead tunnel ask whether the provider "
        "lets UDP through between the two addresses.",
        joined,
    ),
    Check(
        "N10", Family.NETWORK, "A device in the people's tunnel meets the store's doors and nothing else",
        (Place.PERIMETER,), Severity.CRITICAL,
        "as N2, from an address in the tunnel's network that no device has, through the firewall machine to every "
        "machine, to its own addresses, the public ones and the machine outside",
        "IMAP and submission of the store answer, no other port anywhere does, and none says that it is closed",
        "docs/decisions/0050 and 0057; lateral movement, MITRE ATT&CK TA0008",
        "Compare `mastio flows` with what answers; `mastio plan` shows which firewall was changed by hand, `mastio "
        "apply` brings it back. A door that is silent: `systemctl status` of Dovecot and Postfix on the store.",
        devices, seconds=420,
    ),
)  # fmt: skip
