"""A new site file: the answers of `mastio init` as commented TOML, which `parse` reads back.

>>> print(write(Start("demo", "Fortress Ltd", ("fortress.test",), ("203.0.113.1",), ...)))
# The site file of Fortress Ltd …
"""

import json
from dataclasses import dataclass

from mastio.site.keys import SCHEMA
from mastio.site.model import Reach, Topology


@dataclass(frozen=True, slots=True)
class Start:
    """What a new site must say; all as written, unjudged."""

    name: str
    organisation: str
    domains: tuple[str, ...]
    public: tuple[str, ...]
    admin: str
    topology: str = Topology.SEPARATED
    reach: str = Reach.SSH
    admin_networks: tuple[str, ...] = ()
    admin_keys: tuple[str, ...] = ()
    server: str = ""


def write(start: Start) -> str:
    """The text of a site file that says what `start` says."""
    admins = (
        f"""
# From where administrators reach the watch machine by ssh, and with which keys.
[admins]
networks = {_texts(start.admin_networks)}
keys = {_texts(start.admin_keys)}
"""
        if start.admin_networks or start.admin_keys
        else ""
    )
    server = (
        f"""
# The one physical server that carries all machines, as ssh knows it; root logs in there.
[server]
ssh = {_text(start.server)}
"""
        if start.server
        else ""
    )
    return f"""\
# The site file: `mastio check` tells all that is wrong with it, `mastio plan` what would change.
schema = {SCHEMA}
name = {_text(start.name)}
organisation = {_text(start.organisation)}

# Mail domains, the main one first. MX records point at mx.MAIN, the webmail is https://mail.MAIN.
domains = {_texts(start.domains)}

# Who gets alarms, and the mail to postmaster, abuse and hostmaster.
admin = {_text(start.admin)}

# The site's addresses on the internet. With IPv4 only, leave IPv6 out here and it is out everywhere.
public = {_texts(start.public)}

# single | webmail | separated | split: how roles are spread over machines.
topology = {_text(start.topology)}

# ssh | server | lab: real machines, all on one physical server, or machines on this box for trying out.
reach = {_text(start.reach)}
{admins}{server}
# All else has a default; docs/reference/site-file.md lists every key. For example:
#
# [policy]
# message_size = 50     # MiB
# quota = 5120          # MiB for each mailbox
#
# [zones.core]
# networks = ["10.20.3.0/24"]
#
# [machines.store]
# ssh = "store.example.org"
"""


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, and TOML forbids a bare DEL too."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(values: tuple[str, ...]) -> str:
    if len(values) == 1 and len(values[0]) < 80:
        return f"[{_text(values[0])}]"
    return "[" + "".join(f"\n    {_text(value)}," for value in values) + ("\n]" if values else "]")
