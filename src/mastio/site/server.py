"""The keys of what carries machines, and of what joins them: one physical server, tunnels between several."""

from mastio.site.key import Key, Kind

_LEAST, _MOST = 256, 4_194_304
SERVER: tuple[Key, ...] = (
    Key(
        "machines.*.memory",
        Kind.WHOLE,
        "The most memory that the machine may take on a server that carries it, in MiB.",
        "by its roles, 1024 to 4096",
        _LEAST,
        _MOST,
    ),
    Key(
        "server.ssh",
        Kind.TEXT,
        "The name under which ssh reaches the one physical server that carries all machines, as root (a `Host` of "
        "ssh_config); `mastio machines up` makes them there.",
        'none; required with `reach = "server"`',
    ),
)
NUMBER = 201
"""Of the networks of the tunnels between machines, among the site's."""
MESH: tuple[Key, ...] = (
    Key(
        "mesh.networks",
        Kind.TEXTS,
        "Where machines without a firewall meet each other, inside tunnels (WireGuard): a network for each address "
        "family that `public` has.",
        f"`10.77.{NUMBER}.0/24`, and the /64 number {NUMBER} of the site's unique local prefix",
    ),
)
