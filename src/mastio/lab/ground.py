"""The ground that a site stands on in the lab: its administrator, its internet, and `outside`.

On real machines all this is given. Here the lab makes it, keeps its own secrets in a vault of its own
(the site's vault would be the wrong room: `outside` is somebody else), and tells the site just what
`mastio.context.Internet` says.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network

from mastio.build import build
from mastio.lab import internet as segment
from mastio.lab import outside, paths, ssh
from mastio.site.model import Site
from mastio.state import HostState
from mastio.vault import Vault
from mastio.verify.kit import kit


def with_admin(site: Site) -> Site:
    """The site as its administrator in the lab reaches it: by a key of the lab's, from `.200`."""
    return replace(
        site,
        admin_networks=tuple(ip_network(address) for address in segment.admin(site)),
        admin_keys=(*site.admin_keys, ssh.admin_key(site.name)),
        ssh_config=site.ssh_config or str(ssh.config_path(site.name)),
    )


def _secrets(site: Site, vault: Mapping[str, str], keep: bool) -> dict[str, str]:
    """The site's secrets and those of `outside`, which are made when they are missing, and kept if they are to be."""
    own = Vault.open(paths.state(site.name))
    both = {**vault, **own}
    for name, value in outside.ensure(both).items():
        own.put(name, value)
    if keep:
        own.save()
    return {**vault, **own}


def states(site: Site, vault: Mapping[str, str], *, keep: bool = True) -> dict[str, HostState]:
    """The desired state of every machine of the site in the lab's internet, and of `outside`.

    Unless `keep`, the vault is one that only might be: what `outside` would get by it is remembered by nobody.
    """
    known = _secrets(site, vault, keep)
    # Nobody wants a scan to begin by itself in the middle of a trial.
    states = build(site, vault, outside.internet(site, known), kit(awake=False))
    return {**states, outside.MACHINE: outside.build(site, known)}
