"""What `init` writes, `parse` reads back."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mastio.site import parse
from mastio.site.write import Start, write

_LABEL = st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True)
_DOMAIN = st.builds("{}.{}.test".format, _LABEL, _LABEL)
_LINE = st.text(min_size=1, max_size=60).filter(lambda it: it.isprintable() and it == it.strip())
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3W1l8Y3mVbN0c0m2G6Vd1q0l0s8Xx7Yw0y8n6l0Q2b"

STARTS = st.builds(
    Start,
    name=_LABEL,
    organisation=_LINE,
    domains=st.lists(_DOMAIN, min_size=1, max_size=4, unique=True).map(tuple),
    public=st.sampled_from(
        [("203.0.113.1",), ("2001:db8::1",), ("203.0.113.1", "2001:db8::1")],
    ),
    admin=st.builds("{}@{}".format, _LABEL, st.just("elsewhere.example")),
    topology=st.sampled_from(["single", "separated", "split"]),
    reach=st.sampled_from(["lab", "ssh", "server"]),
    admin_networks=st.sampled_from([("198.51.100.0/28",), ("198.51.100.0/28", "2001:db8:1::/64")]),
    admin_keys=st.builds(lambda comment: (f"{_KEY} {comment}",), _LABEL),
)


def _sound(start: Start) -> Start:
    """On a server the site has a firewall, and the server a name."""
    if start.reach != "server":
        return start
    topology = "separated" if start.topology == "single" else start.topology
    return replace(start, topology=topology, server="box")


@given(STARTS.map(_sound))
def test_round_trip(start: Start) -> None:
    site = parse.parse(write(start), "site.toml")
    assert start == Start(
        name=site.name,
        organisation=site.organisation,
        domains=site.domains,
        public=tuple(map(str, site.public)),
        admin=site.admin_mail,
        topology=site.topology,
        reach=site.reach,
        admin_networks=tuple(map(str, site.admin_networks)),
        admin_keys=site.admin_keys,
        server=site.server,
    )
    assert write(start) == write(start)
