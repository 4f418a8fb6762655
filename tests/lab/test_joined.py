"""Three machines without a firewall, their roles placed by hand: what they say to each other goes inside tunnels alone.

It is a lab of its own beside the session's, taken down at the end. The wire is listened to where it leaves a machine;
the tunnel is broken as a provider or an intruder would.
"""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mastio import services
from mastio.flows import MESH_INTERFACE
from mastio.lab import network
from mastio.lab.internet import SEGMENT
from mastio.roles.mesh import CONFIG, UNIT
from mastio.transport import SshTransport
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, token
from tests.lab.own import own_lab_of
from tests.lab.patience import at_last, eventually
from tests.lab.sabotage import Sabotage, on, sabotaged
from tests.lab.test_certificates import BY_DNS, come_and_are_renewed
from tests.lab.test_verify import NOT_HERE, having, verify

pytestmark = pytest.mark.lab

# No perimeter to prove or to listen on.
UNWALLED = {"N5", "I4"}
MAIL, WEB, GATE = "mail", "webmail", "gateway"
MACHINES = f"""
[machines.{GATE}]
roles = ["gateway-in", "gateway-out"]

[machines.{MAIL}]
roles = ["store", "watch"]

[machines.{WEB}]
roles = ["webmail"]
"""
"""They get the public addresses in this order, the gateway that which all of the lab's internet calls first."""
MORE = ("203.0.113.2", "2001:db8:113::2", "203.0.113.3", "2001:db8:113::3")
TUNNEL, BESIDE = (socket.IPPROTO_UDP, services.MESH.port), (socket.IPPROTO_TCP, services.SSH.port)
"""What may pass between them: the tunnel, and watch's ssh."""

LISTEN = """
import json, select, socket, struct, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((sys.argv[1], 0))
wire.settimeout(0.2)
end, seen = time.monotonic() + float(sys.argv[2]), set()
print("listening", flush=True)
while time.monotonic() < end or not select.select([sys.stdin], [], [], 0)[0]:
    try:
        frame = wire.recv(65535)
    except TimeoutError:
        continue
    kind, packet = struct.unpack_from("!H", frame, 12)[0], frame[14:]
    if kind == 0x0800:
        protocol, ends = packet[9], (socket.inet_ntop(2, packet[12:16]), socket.inet_ntop(2, packet[16:20]))
        rest = packet[(packet[0] & 15) * 4:]
    elif kind == 0x86dd:
        protocol, ends = packet[6], (socket.inet_ntop(10, packet[8:24]), socket.inet_ntop(10, packet[24:40]))
        rest = packet[40:]
    else:
        continue
    ports = struct.unpack_from("!HH", rest) if protocol in (6, 17) else (0, 0)
    seen.add((*ends, protocol, *ports))
print(json.dumps(sorted(seen)))
"""
"""What passes an interface for some seconds, and until stdin ends: source, target, protocol, ports."""


@pytest.fixture(scope="module")
def lab(own_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("joined")
    with own_lab_of("separated", folder, *MORE, machines=MACHINES) as joined:
        yield joined


class Wire:
    """What passes between a machine and the site's others while something is done."""

    def __init__(self, lab: Lab, machine: str, seconds: float) -> None:
        where = ["nsenter", f"--net=/run/netns/{network.switch(lab.site.name)}"]
        argv = [sys.executable, "-c", LISTEN, network.port(machine, SEGMENT), str(seconds)]
        pipe = subprocess.PIPE
        self._ear = subprocess.Popen([*where, *argv], stdin=pipe, stdout=pipe, text=True)
        assert self._ear.stdout
        assert self._ear.stdout.readline() == "listening\n"
        self._own = {str(it) for one in lab.site.machines for it in (*one.addresses, *one.inner)}

    def between(self) -> set[tuple[int, int]]:
        """Protocol and the lower port of all that was said between the site's machines."""
        said, _ = self._ear.communicate(timeout=60)
        return {
            (protocol, min(one, other))
            for source, target, protocol, one, other in json.loads(said)
            if source in self._own and target in self._own and protocol in (6, 17)
        }


def passes(lab: Lab) -> None:
    """Mail comes in, is read at the webmail's, and goes out."""
    alice, coming, leaving = next(iter(lab.accounts.items())), token(), token()
    mail.from_carol(lab, message(CAROL, alice[0], coming))
    assert mail.submit(lab, *alice, message(alice[0], CAROL, leaving))[0] == 250
    assert mail.inbox(lab, *alice, coming)
    assert mail.at_carols(lab, leaving)


@pytest.fixture(scope="module")
def report(lab: Lab) -> dict[str, Any]:
    # They may have asked for the time before anybody could tell them, and would ask again in a minute.
    for machine in (WEB, GATE):
        on(lab, machine, "chronyc burst 4/8 >/dev/null; chronyc waitsync 100 0 0 1 >/dev/null")
    return verify(lab)


def test_mail_passes_and_the_wires_between_them_carry_the_tunnels_alone(lab: Lab) -> None:
    wires = [Wire(lab, it, 12) for it in (WEB, GATE)]
    passes(lab)
    # What has no TLS of its own: time, and what packages are asked for by name.
    on(lab, WEB, "chronyc burst 1/2 >/dev/null; apt-get update >/dev/null 2>&1 || true")
    for wire in wires:
        said = wire.between()
        assert TUNNEL in said and said <= {TUNNEL, BESIDE}


def test_nothing_of_the_store_is_at_the_public_address(lab: Lab) -> None:
    """Not even for the other machines, below its own firewall: the port is not bound there."""
    store = lab.site.machine(MAIL)
    ports = (
        services.IMAPS,
        services.SUBMISSIONS,
        services.DELIVERY,
        services.RELAY,
        services.SYSLOG,
    )
    listening = on(lab, MAIL, "ss -Hltn | awk '{print $4}'").split()
    for service in ports:
        there = {it for it in listening if it.endswith(f":{service.port}")}
        assert not {it for it in there if any(str(own) in it for own in store.addresses)}, there
    connect = f"timeout 2 bash -c '</dev/tcp/{store.addresses[0]}/{services.IMAPS.port}'"
    for machine in ("outside", WEB, GATE):
        assert lab.run(machine, ["sh", "-c", connect]).code
    inner = f"timeout 30 bash -c '</dev/tcp/{store.inner[0]}/{services.IMAPS.port}'"
    assert lab.run(WEB, ["sh", "-c", inner]).code == 0


def test_it_is_green(lab: Lab, report: dict[str, Any]) -> None:
    assert not having(report, "failed") and not having(report, "could not check")
    left = having(report, "not run")
    assert UNWALLED <= {*left} <= (NOT_HERE - {"N9"}) | UNWALLED
    assert report["code"] == 0
    assert "Nothing to do" in lab.mastio("plan")


def test_while_the_tunnel_is_down_nothing_goes_in_clear_and_mail_waits(lab: Lab) -> None:
    """Its packets would find another way, by the machine's default route."""
    alice, word = next(iter(lab.accounts.items())), token()
    peer = lab.site.machine(MAIL).inner[0]
    on(lab, GATE, f"systemctl stop {UNIT}")
    try:
        wire = Wire(lab, GATE, 5)
        assert mail.deliver(lab, message(CAROL, alice[0], word))[0] == 250, (
            "mail is taken meanwhile"
        )
        for port in (services.DELIVERY.port, services.PROXY.port):
            tried = f"timeout 2 bash -c '</dev/tcp/{peer}/{port}'"
            assert lab.run(GATE, ["sh", "-c", tried]).code
        assert wire.between() <= {TUNNEL, BESIDE}
        waiting = at_last(lambda: {it["queue_name"] for it in mail.queue(lab)}, {"deferred"}.__eq__)
        assert waiting == {"deferred"}, "it waits"
        # What stands beside it still leads in, and finds what is wrong.
        ssh = SshTransport(lab.site)
        assert ssh.argv(GATE, ["true"])[-2] == str(lab.site.machine(GATE).addresses[0])
        found = having(verify(lab, "--only", "N9"), "failed")["N9"]
        assert any(f"{GATE}: what goes to" in it for it in found), found
        done = mastio(lab.folder, "apply", "--yes", GATE)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        on(lab, GATE, f"systemctl start {UNIT}")
    assert mail.inbox(lab, *alice, word, patience=280)


def test_a_dead_tunnel_and_a_way_around_it_are_found(lab: Lab) -> None:
    webs, store = lab.site.machine(WEB), lab.site.machine(MAIL)
    broken = (
        Sabotage("a provider that lets no UDP through", WEB,
                 "nft add table inet sabotage; nft 'add chain inet sabotage in { type filter hook prerouting "
                 f"priority -400; }}'; nft add rule inet sabotage in udp dport {services.MESH.port} drop; "
                 # Keys that were agreed on before hold for three minutes.
                 f"systemctl restart {UNIT}", "N2 N9", undo="nft delete table inet sabotage"),
        Sabotage("a way around it", MAIL,
                 f"ip route replace {webs.inner[0]}/32 via {webs.addresses[0]}", "N9",
                 undo=f"ip route replace {webs.inner[0]}/32 dev {MESH_INTERFACE}"),
        Sabotage("a stranger's tunnel", MAIL,
                 f"wg set {MESH_INTERFACE} peer $(wg genkey | wg pubkey) allowed-ips 10.99.0.1/32", "N9",
                 undo=f"wg-quick strip {MESH_INTERFACE} | wg syncconf {MESH_INTERFACE} /dev/stdin"),
        Sabotage("the store opened at its public address", MAIL,
                 "nft insert rule inet mastio input tcp dport 993 accept; systemd-run --quiet --unit=sabotage python3 "
                 f"-m http.server --bind {store.addresses[0]} 993; for i in $(seq 300); do "
                 f"ss -Hltn src {store.addresses[0]}:993 | grep -q . && break; sleep 0.2; done", "N1 N2 N7 H1",
                 undo="systemctl stop sabotage.service; nft -f /etc/nftables.conf"),
    )  # fmt: skip
    with sabotaged(lab, *broken):
        found = having(verify(lab, "--only", "N1,N2,N7,N9,H1"), "failed")
    assert {*found} == {"N1", "N2", "N7", "N9", "H1"}
    said = "\n".join(found["N9"])
    for words in (
        "webmail: the tunnel to mail is dead",
        f"mail: what goes to {webs.inner[0]} goes by internet, not into the tunnel",
        "mail: somebody has a tunnel (for 10.99.0.1/32) that no flow declares",
    ):
        assert words in said
    assert any("993/tcp" in it for it in found["N1"])


def test_a_new_key_reaches_both_ends_and_none_is_told(lab: Lab) -> None:
    """`apply` goes beside the tunnel, so both ends may change at once."""
    before = on(lab, MAIL, f"wg show {MESH_INTERFACE} peers")
    lab.mastio("secrets", "rotate", f"mesh/{WEB}/key")
    shown = mastio(lab.folder, "plan").stdout
    assert (
        shown.count("reload") == 2
        and CONFIG in shown
        and not re.search(r"[A-Za-z0-9+/]{43}=", shown)
    )
    lab.mastio("apply", "--yes")
    assert on(lab, MAIL, f"wg show {MESH_INTERFACE} peers") != before
    assert on(lab, MAIL, f"stat -c %a:%U {CONFIG}") == "600:root\n"
    eventually(
        lambda: not having(verify(lab, "--only", "N9"), "failed"), "the tunnel stays down", rest=0
    )
    passes(lab)


def test_they_find_each_other_again_after_a_reboot(lab: Lab) -> None:
    lab.reboot(WEB)
    passes(lab)
    assert {*having(verify(lab, "--only", "N2,N9,H1"), "passed")} == {"N2", "N9", "H1"}


def test_certificates_come_by_dns(lab: Lab) -> None:
    """The last one: from here on the site asks an authority."""
    come_and_are_renewed(lab, *BY_DNS)
