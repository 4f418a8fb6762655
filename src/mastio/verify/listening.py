"""Who listens on a machine, beside who should: one look, for verification (H1) and for integrity."""

from mastio.context import listeners
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage

Socket = tuple[str, str, int]
"""Transport, address, port."""


def listening(vantage: Vantage) -> tuple[dict[Socket, str], frozenset[Socket]]:
    """The programs that listen there, by socket; and the sockets that the flow matrix declares."""
    machine = vantage.site.machine(vantage.name)
    declared = {
        (str(it.transport), str(it.address), it.port) for it in listeners(vantage.matrix, machine)
    }
    answer = vantage.ask(host.listeners, [list(it) for it in sorted(declared)])
    found = {
        (str(kind), str(address), int(str(port))): str(program)
        for kind, address, port, program in answer
    }
    return found, frozenset(declared)
