"""Logs leave each machine at once, arrive under its true name, outlive outages, and hold no secret."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mastio import services
from mastio.context import PKI
from mastio.flows import expand
from tests.lab.arrivals import PROMISE, SENDERS, arrived, complete, held_up, kept, many, talk, write
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, remote, submit, token
from tests.lab.patience import eventually
from tests.lab.sabotage import Sabotage, sabotaged
from tests.lab.test_verify import having, verify

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def talking(lab: Lab) -> None:
    talk(lab)


def test_a_line_from_each_machine_is_on_watch_in_seconds(lab: Lab) -> None:
    word, machines = token(), (*SENDERS, "watch")
    for machine in machines:
        write(lab, machine, f"canary {word} {machine}", "-p", "auth.notice", "-t", "canary")
    found = arrived(lab, word, len(machines), PROMISE)
    assert {name: len(lines) for name, lines in found.items()} == dict.fromkeys(machines, 1)
    for name, (line,) in found.items():
        assert f" {name} " in line
        assert f"auth.notice canary: canary {word} {name}" in line


def test_logs_go_on_when_the_firewall_has_forgotten_who_was_talking(lab: Lab) -> None:
    """It forgets who was talking; nobody waits for a timeout."""
    word = token()
    assert lab.run("firewall", ["conntrack", "--flush"]).code == 0
    for _ in range(2):  # a sender notices when it has the next line to send
        for machine in SENDERS:
            write(lab, machine, f"canary {word} {machine}")
        time.sleep(1)
    assert set(arrived(lab, word, 2 * len(SENDERS), 30)) == set(SENDERS)


def test_a_door_is_met_by_the_way_of_the_service_alone(lab: Lab) -> None:
    matrix = expand(lab.site)
    (own,) = (
        it for it in matrix.into("watch") if (it.source, it.service) == ("webmail", services.SYSLOG)
    )
    cert, key = identity(lab, "webmail")
    for address in map(str, lab.site.machine("watch").addresses):
        for port, taken in ((services.SYSLOG.port, True), (matrix.door(own), False)):
            line = f"<13>1 2026-01-01T00:00:00Z webmail probe - - - {token()}"
            assert taken is remote(
                lab, "webmail", relp, address=address, port=port, cert=cert, key=key, line=line
            )


def test_who_claims_another_name_is_filed_under_the_own_one(lab: Lab) -> None:
    word = token()
    # As a program may write it to /dev/log, and as root may make rsyslog call itself.
    claim = f"<13>1 2026-01-01T00:00:00Z firewall liar - - - first {word}\n"
    remote(lab, "webmail", to_syslog, line=claim)
    lie = 's/localHostname="webmail"/localHostname="firewall"/'
    try:
        assert lab.run("webmail", ["sed", "-i", lie, "/etc/rsyslog.conf"]).code == 0
        assert lab.run("webmail", ["systemctl", "restart", "rsyslog"]).code == 0
        write(lab, "webmail", f"second {word}")
        found = arrived(lab, word, 2)
    finally:
        lab.mastio("apply", "--yes", "webmail")
    assert {name: len(lines) for name, lines in found.items()} == {"webmail": 2}


def test_a_watch_that_believes_what_machines_call_themselves_is_found(lab: Lab) -> None:
    file, again = "/etc/rsyslog.d/20-receive.conf", "systemctl restart rsyslog.service"
    believes = f"sed -i 's/^    set [$].machine = .*;/    set $.machine = $hostname;/' {file}"
    with sabotaged(lab, Sabotage("names believed", "watch", believes, "L3", (file,), again)):
        talk(lab)  # whose connection ended with the receiver begins another
        found = having(verify(lab, "--only", "L1,L3"), "failed")
    talk(lab)
    assert {*found} == {"L3"} and {it.partition(":")[0] for it in found["L3"]} == {*SENDERS}
    assert {*having(verify(lab, "--only", "L1,L3"), "passed")} == {"L1", "L3"}


def to_syslog(line: str) -> None:
    """Write one line to the local syslog socket, raw."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(line.encode(), "/dev/log")


def relp(address: str, port: int, cert: str, key: str, line: str, source: str = "") -> bool:
    """Speak RELP with a certificate, or none, from an address: whether the receiver takes the line."""
    import pathlib
    import socket
    import ssl
    import tempfile

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
            pathlib.Path(both.name).write_text(cert + key)
            context.load_cert_chain(both.name)
    opening = b"relp_version=0\nrelp_software=test\ncommands=syslog"
    data = line.encode()
    try:
        own = (source, 0) if source else None
        plain = socket.create_connection((address, port), timeout=5, source_address=own)
        plain.settimeout(15)
        with plain, context.wrap_socket(plain) as secure:
            secure.sendall(b"1 open %d %b\n" % (len(opening), opening))
            if b"200 OK" not in secure.recv(4096):
                return False
            secure.sendall(b"2 syslog %d %b\n" % (len(data), data))
            return b"200 OK" in secure.recv(4096)
    except OSError:
        return False


def test_only_a_certificate_of_the_site_may_write(lab: Lab) -> None:
    own = identity(lab, "webmail")
    public = (lab.run("webmail", ["cat", f"{PKI}/public.pem"]).stdout.decode(),
              lab.run("webmail", ["cat", f"{PKI}/public.key"]).stdout.decode())  # fmt: skip
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", f"/CN={lab.site.internal_name('webmail')}", "-addext",
            f"subjectAltName=DNS:{lab.site.internal_name('webmail')}", "-keyout", "-", "-out", "-"]  # fmt: skip
    forged = lab.run("webmail", argv).stdout.decode()
    assert "BEGIN CERTIFICATE" in forged
    for address in lab.site.machine("watch").addresses:
        word = token()

        def takes(cert: str, key: str, to: str = str(address), line: str = word) -> bool:
            text = f"<13>1 2026-01-01T00:00:00Z webmail probe - - - {line}"
            return bool(remote(lab, "webmail", relp, address=to, port=services.SYSLOG.port,
                               cert=cert, key=key, line=text))  # fmt: skip

        assert takes(*own), "the machine's own certificate must be taken"
        assert not takes("", ""), "no certificate"
        assert not takes(forged, ""), "a self-signed one with the right name"
        assert not takes(*public), "one of another authority"
        assert {it: len(lines) for it, lines in arrived(lab, word, 1).items()} == {"webmail": 1}


def identity(lab: Lab, machine: str) -> tuple[str, str]:
    """A machine's certificate and key."""
    pem, key = (
        lab.run(machine, ["cat", f"{PKI}/host.{it}"]).stdout.decode() for it in ("pem", "key")
    )
    return pem, key


def test_root_on_the_firewall_cannot_write_as_another_machine(lab: Lab) -> None:
    """It can wear any address, since all ways lead over it; it has no key but its own."""
    victim, thief = "webmail", "firewall"
    worn = [str(it) for it in lab.site.machine(victim).addresses]
    doors = [str(it) for it in lab.site.machine("watch").addresses]
    for address, door in zip(worn, doors, strict=True):
        put_on = f"nft delete chain inet mastio outward; ip address add {address} dev lo"
        try:
            assert lab.run(thief, ["sh", "-ec", put_on]).code == 0
            word, said = token(), {}
            for whose in (victim, thief):
                cert, key = identity(lab, whose)
                line = f"<13>1 2026-01-01T00:00:00Z {victim} probe - - - {word} by {whose}"
                said[whose] = remote(lab, thief, relp, address=door, port=services.SYSLOG.port, source=address,
                                     cert=cert, key=key, line=line)  # fmt: skip
        finally:
            off = f"ip address delete {address} dev lo; nft -f /etc/nftables.conf"
            assert lab.run(thief, ["sh", "-ec", off]).code == 0
        # With the stolen key it is taken: it was the key alone that was missing.
        assert said == {victim: True, thief: False}
        assert {it: len(lines) for it, lines in arrived(lab, word, 1).items()} == {victim: 1}


@contextmanager
def without_receiver(lab: Lab) -> Iterator[None]:
    stop = ["systemctl", "stop", "syslog.socket", "rsyslog.service"]
    assert lab.run("watch", stop).code == 0
    try:
        yield
    finally:
        start = ["systemctl", "start", "syslog.socket", "rsyslog.service"]
        assert lab.run("watch", start).code == 0


@pytest.mark.parametrize("restart", [False, True], ids=["sender runs on", "sender restarts"])
def test_what_was_written_while_watch_was_away_arrives(lab: Lab, restart: bool) -> None:
    word, count = token(), 30
    write(lab, "store", f"{word} before")
    assert arrived(lab, f"{word} before", 1)
    with without_receiver(lab):
        for number in range(count):
            write(lab, "store", f"{word} line {number:02}.")
            # What is written into a connection that has ended tells the sender so, a moment later: until it knows,
            # each line that it writes is in flight.
            time.sleep(0.5 if number < 2 else 0)
        if restart:
            assert lab.run("store", ["systemctl", "restart", "rsyslog"]).code == 0
        write(lab, "store", f"{word} line {count:02}.")
    assert arrived(lab, f"{word} line {count:02}.", 1), "nothing comes any more"

    def missing() -> set[str]:
        (lines,) = kept(lab, f"{word} line").values()
        return {f"{it:02}." for it in range(count + 1)} - {
            line.rpartition("line ")[2] for line in lines
        }

    # What is sent again comes behind what stood in the queue.
    eventually(lambda: not missing(), lambda: f"missing: {missing()}", patience=60)


def test_thousands_of_lines_wait_for_rsyslog_and_for_watch(lab: Lab) -> None:
    """The queues hold what is said of them: systemd's own bound is 512 lines, rsyslog's a thousand."""
    word, count = token(), 4000
    with without_receiver(lab), held_up(lab, "store"):
        remote(lab, "store", many, word=word, count=count)
    assert not complete(lab, word, count)


def test_a_connection_that_dies_without_a_word_is_given_up(lab: Lab) -> None:
    word, count = token(), 40
    write(lab, "store", f"{word} line 00000.")
    assert not complete(lab, word, 1)
    silence = "".join(
        f"nft insert rule inet mastio arrival {'ip' if it.version == 4 else 'ip6'} saddr {it} drop;"
        for it in lab.site.machine("store").addresses
    )
    assert lab.run("watch", ["sh", "-ec", silence]).code == 0
    try:
        remote(lab, "store", many, word=word, count=count)
        given_up = f"sed -n '/{word} line {count - 1:05}/,$p' /var/log/syslog | grep -c 'omrelp.*suspended'"
        eventually(
            lambda: int(lab.run("store", ["sh", "-c", given_up]).stdout or 0),
            "it waits for ever",
            90,
        )
    finally:
        assert lab.run("watch", ["nft", "-f", "/etc/nftables.conf"]).code == 0
    assert not complete(lab, word, count)


def test_who_empties_the_logs_of_a_machine_has_not_emptied_them_on_watch(lab: Lab) -> None:
    word = token()
    write(lab, "webmail", f"{word} an intruder came in")
    assert arrived(lab, word, 1)
    # rsyslog itself appends on: what it writes afterwards leaves the machine as before.
    files = "/var/log/syslog /var/log/auth.log /var/log/mail.log"
    # And it writes them a little later than it sends.
    there = f"until grep -qF '{word} an' /var/log/syslog; do sleep 0.1; done"
    empty = f"{there}; for it in {files}; do : >$it; done; journalctl -q --rotate --vacuum-size=1"
    assert lab.run("webmail", ["sh", "-c", empty]).code == 0
    assert lab.run("webmail", ["grep", "-rqF", f"{word} an", "/var/log/syslog"]).code == 1
    write(lab, "webmail", f"{word} and went on")
    found = arrived(lab, word, 2)
    assert {name: len(lines) for name, lines in found.items()} == {"webmail": 2}
    assert f"{word} an intruder came in" in lab.mastio(
        "logs", "--machine", "webmail", "--grep", word
    )


def test_no_password_is_in_any_log(lab: Lab) -> None:
    address, password = next(iter(lab.accounts.items()))
    word = token()
    code, _ = submit(lab, address, password, message(address, CAROL, word))
    assert code == 250
    assert submitted(lab, address), "the log-in itself is in the log"
    for secret in lab.accounts.values():
        # The pattern comes by stdin: a command line would be a log of its own.
        argv = ["grep", "-rlF", "-f", "-", "/var/log"]
        for machine in (*SENDERS, "watch"):
            assert lab.run(machine, argv, secret.encode()).stdout == b""


def submitted(lab: Lab, address: str) -> list[str]:
    return arrived(lab, f"sasl_username={address}", 1).get("store", [])
