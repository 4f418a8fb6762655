"""The keys of a site whose machines are all carried by one physical server."""

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
