"""Mozilla's description of a provider, by which Thunderbird and others set an account up from its address.

Programs fetch https://autoconfig.DOMAIN/mail/config-v1.1.xml before anybody has logged in
(https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat). It says no more than the SRV records do
(RFC 6186), to programs that do not ask for those. It is there when `clients = "internet"`.
"""

from xml.sax.saxutils import escape

from mastio import services
from mastio.site.model import Clients, Site

PATH = "/mail/config-v1.1.xml"
_SERVERS = (
    ("incomingServer", "imap", services.IMAPS),
    ("outgoingServer", "smtp", services.SUBMISSIONS),
)


def host(domain: str) -> str:
    """Where programs of people in `domain` ask."""
    return f"autoconfig.{domain}"


def hosts(site: Site) -> tuple[str, ...]:
    """All names under which it is served; none where programs on the internet are not let in."""
    return tuple(map(host, site.domains)) if site.clients is Clients.INTERNET else ()


def document(site: Site) -> str:
    """The file, the same for all domains since they share the servers."""
    name = escape(site.organisation)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<clientConfig version="1.1">',
        f'  <emailProvider id="{site.domains[0]}">',
        *(f"    <domain>{it}</domain>" for it in site.domains),
        f"    <displayName>{name}</displayName>",
        f"    <displayShortName>{name}</displayShortName>",
    ]
    for element, kind, service in _SERVERS:
        lines += [
            f'    <{element} type="{kind}">',
            f"      <hostname>{site.imap_host}</hostname>",
            f"      <port>{service.port}</port>",
            # TLS from the first octet; the password is plain inside it.
            "      <socketType>SSL</socketType>",
            "      <authentication>password-cleartext</authentication>",
            "      <username>%EMAILADDRESS%</username>",
            f"    </{element}>",
        ]
    return "\n".join([*lines, "  </emailProvider>", "</clientConfig>", ""])
