"""Commands straight into the lab's machines: no network and no sshd is needed, as on a console.

`NspawnTransport` enters all namespaces of the machine's PID 1 (nsenter(1)). All that follows from a
command line is in `mastio.transport`.
"""

from collections.abc import Sequence

from mastio.lab.machine import Machine
from mastio.transport import Transport, unavailable


class NspawnTransport(Transport):
    """Reaches the machines of the lab `site`."""

    def __init__(self, site: str) -> None:
        self._site = site

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        """`nsenter … env -i … COMMAND`; raises MastioError when the machine does not run."""
        argv = Machine(self._site, machine).argv(command)
        if argv is None:
            raise unavailable(machine, "it does not run")
        return argv
