"""`mastio lab up`: from a site to its machines on this box, with mail inside."""

from collections.abc import Mapping
from pathlib import Path

from mastio import services
from mastio.dns.zone import addresses
from mastio.lab import forward, house, paths, provider, ssh
from mastio.lab.model import machines
from mastio.lab.provider import Lab, Progress
from mastio.lab.transport import NspawnTransport
from mastio.site.model import Role, Site
from mastio.state import HostState


def up(
    site: Site,
    states: Mapping[str, HostState],
    progress: Progress,
    port: int,
) -> dict[str, str]:
    """Boots the machines, configures them, starts them and opens the way to the webmail.

    `states` has the site's machines and `outside`. Returns the demonstration's accounts with their
    passwords. Raises MastioError with what lacks or went wrong; running it again goes on from there.
    """
    lab = Lab(site.name)
    taken = any(it.port == port for it in forward.forwards(site.name))
    provider.require(None if taken else port)
    lab.up(machines(site, states), progress)
    ssh.write(site)
    transport = NspawnTransport(site.name)
    with progress.phase("configure"):
        house.configure(transport, states, progress.note)
    lab.settle(progress)
    with progress.phase("accounts"):
        people = house.people(site, transport, accounts_path(site.name))
    forward.forward(site.name, port, addresses(site, Role.WEBMAIL)[0], services.HTTPS)
    return people


def accounts_path(site: str) -> Path:
    """A JSON object of the demonstration's addresses and passwords, for root's eyes only."""
    return paths.state(site) / "accounts.json"
