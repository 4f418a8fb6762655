"""Says a line to a log receiver, as this machine's rsyslog does (RELP over TLS, with the machine's own certificate)."""

import socket
import ssl


def hand_in(host: str, port: int, pki: str, line: str) -> bool:
    """Whether the receiver took `line` (RFC 5424), whoever that says it is of. `pki`: where the machine's keys are."""
    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    context.load_cert_chain(f"{pki}/host.pem", f"{pki}/host.key")
    opening, data = b"relp_version=0\nrelp_software=mastio\ncommands=syslog", line.encode()
    with (
        socket.create_connection((host, port), timeout=15) as plain,
        context.wrap_socket(plain, server_hostname=host) as talk,
    ):
        for number, (word, said) in enumerate(((b"open", opening), (b"syslog", data)), 1):
            talk.sendall(b"%d %b %d %b\n" % (number, word, len(said), said))
            if b"200 OK" not in talk.recv(4096):
                return False
        talk.sendall(b"3 close 0\n")
        talk.recv(4096)
        return True
