"""What a role is told when it builds its part of a machine: the `Context`.

A role never types a port or an address. It asks `ctx.listen(IMAPS)` where to listen, `ctx.peers(RELAY)`
whom to call, `ctx.callers(DELIVERY)` who may call; each refuses what the policy table does not declare.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import jinja2

from mastio import services
from mastio.errors import MastioError
from mastio.flows import ADMIN, INTERNET, VPN, Flow, FlowMatrix
from mastio.services import Service
from mastio.site.model import Address, Machine, Site
from mastio.state import Listener

PKI = "/etc/mastio/pki"
"""Where a machine keeps its certificates: ca.pem, host.pem, host.key, public.pem, public.key."""
CERTIFICATE = "/var/lib/mastio/certificate"
"""Where a machine keeps the public certificate that watch brings, which is renewed between two applies."""
CHALLENGES = f"{CERTIFICATE}/challenges"
"""Where the webmail has what an authority looks for (RFC 8555, 8.3)."""
AUTHORITIES = ("ca/cert", "ca-next/cert", "ca-former/cert")
"""Whom a machine believes inside the site; the last two are there while one authority follows another."""
ARCHIVE = "/usr/local/lib/mastio/mastio.tar.gz.b64"
"""On watch: this very program (`Kit.package`)."""
ON_WATCH = "/usr/local/lib/mastio/mastio-on-watch"
"""On watch: runs the part `mastio.watch.PART` of it."""
ALARMS = "/var/lib/mastio/alarms"
"""On watch: what is wrong and not yet well again, and what waits to be told."""
LOGS = "/var/log/remote"
"""Where watch has the machines' logs: `LOGS/<machine>/<YYYY-MM-DD>.log`, past days packed (`.log.gz`)."""


@dataclass(frozen=True, slots=True)
class Internet:
    """What the site must know of the internet it stands in; the default is the real one."""

    root_hints: str = ""
    """A root hints file (zone format); empty: the resolver's own."""
    trust_anchor: str = ""
    """DNSSEC root anchors, DS or DNSKEY records in zone format; empty: IANA's."""
    authorities: str = ""
    """PEM certificates trusted beside Debian's, when checking servers on the internet."""
    offline: bool = False
    """No block lists, mirrors or signature servers can be reached: do not ask them."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What lets watch verify the site on its own; the default is nothing."""

    package: str = ""
    """This very program: a tar archive (gzip) in base64."""
    programs: tuple[str, ...] = ()
    """SHA-256 of each program that watch may have run on a machine."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Each command line that watch may have run on a machine."""
    boot: tuple[str, ...] = ()
    """The command line that takes a program."""
    awake: bool = True
    """Whether it begins by itself; in the lab somebody asks for it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a flow: a machine, its internal name (in /etc/hosts) and its addresses."""

    machine: str
    name: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Context:
    """One machine of a site, as its roles see it."""

    site: Site
    matrix: FlowMatrix
    machine: Machine
    internet: Internet
    _secrets: Mapping[str, str] = field(repr=False)
    kit: Kit = field(default=Kit(), repr=False)

    @property
    def fqdn(self) -> str:
        """The machine's internal name."""
        return self.site.internal_name(self.machine.name)

    def listen(self, service: Service) -> tuple[Address, ...]:
        """The addresses on which this machine offers `service`, or an error if no flow says so."""
        flows = [flow for flow in self._into() if flow.service == service]
        if not flows:
            raise MastioError(
                f"{self.machine.name} may not listen for {service.name}: no policy row ends there"
            )
        return tuple(dict.fromkeys(it for flow in flows for it in self.matrix.met(flow)))

    def peers(self, service: Service) -> tuple[Peer, ...]:
        """The machines that this one may call on `service`, or an error if no flow says so.

        The machine itself is among them when two of its roles have that to do with each other.
        """
        name = self.machine.name
        flows = (*self.matrix.out_of(name), *self.matrix.inside(name))
        found = [flow for flow in flows if flow.service == service]
        if not found:
            raise MastioError(
                f"{self.machine.name} may not call {service.name}: no policy row starts there"
            )
        return tuple(self._peer(it.target, it) for it in found if it.target != INTERNET)

    def callers(self, service: Service) -> tuple[Peer, ...]:
        """The machines of the site that may call this one on `service` (the internet is not a peer)."""
        self.listen(service)
        return tuple(
            self._peer(flow.source, flow)
            for flow in self._into()
            if flow.service == service and flow.source not in (INTERNET, ADMIN, VPN)
        )

    def _into(self) -> tuple[Flow, ...]:
        name = self.machine.name
        return (*self.matrix.into(name), *self.matrix.inside(name))

    def door(self, service: Service, caller: Peer) -> int:
        """The port where a caller arrives: the service's, or one of its own (`services.DOORS`)."""
        into = self.matrix.into(self.machine.name)
        return next(
            self.matrix.door(it)
            for it in into
            if it.service == service and it.source == caller.machine
        )

    def peoples(self, service: Service) -> tuple[tuple[Address, int], ...]:
        """Where people's own programs arrive for `service`; nothing when none may."""
        return tuple(
            (address, self.matrix.door(flow))
            for flow in self.matrix.into(self.machine.name)
            if flow.service == service and flow.source == VPN
            for address in self.machine.addresses
        )

    def _peer(self, name: str, flow: Flow) -> Peer:
        machine = self.site.machine(name)
        addresses = machine.inside if self.matrix.tunnelled(flow) else machine.addresses
        return Peer(name, self.site.internal_name(name), addresses)

    def secret(self, name: str) -> str:
        """The generated secret `name`; KeyError names it when the vault lacks it."""
        return self._secrets[name]

    def secrets(self, prefix: str) -> dict[str, str]:
        """The secrets below `prefix`."""
        return {name: text for name, text in self._secrets.items() if name.startswith(prefix)}

    def authorities(self) -> str:
        """The certificates (PEM) of all authorities that are believed inside the site."""
        return "".join(self._secrets[name] for name in AUTHORITIES if name in self._secrets)

    def render(self, package: str, template: str, **values: Any) -> str:
        """The template `template` beside the role module `package`, with `ctx`, `site`, `services`.

        An undefined name in the template is an error. `# comment` lines say why, for the reader on
        the machine too.
        """
        return _environment(package).get_template(template).render(
            ctx=self, site=self.site, policy=self.site.policy, machine=self.machine,
            fqdn=self.fqdn, pki=PKI, services=services, public_chain=public_chain(self.site), **values,
        )  # fmt: skip


@cache
def _environment(module_file: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(module_file).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 — configuration files, not HTML
    )


def public_chain(site: Site) -> str:
    """The file from which the machines' servers take the certificate that the internet sees."""
    return f"{CERTIFICATE if site.acme.directory else PKI}/public.pem"


def bracketed(address: Address) -> str:
    """An address as URLs and Postfix write it: IPv6 in brackets."""
    return f"[{address}]" if address.version == 6 else str(address)


def listeners(matrix: FlowMatrix, machine: Machine) -> tuple[Listener, ...]:
    """The sockets that the matrix makes a machine listen on."""
    return tuple(
        sorted(
            doors(matrix, machine),
            key=lambda it: (it.port, it.transport, it.address.version, it.address.packed),
        )
    )


def doors(matrix: FlowMatrix, machine: Machine) -> dict[Listener, Service]:
    """The same, and what each is for."""
    everywhere = (IPv4Address("0.0.0.0"), IPv6Address("::"))  # noqa: S104 — what the kernel binds
    return {
        Listener(address, matrix.door(flow), transport): flow.service
        for flow in (*matrix.into(machine.name), *matrix.inside(machine.name))
        for transport in flow.service.transports
        for address in (everywhere if flow.service in services.EVERYWHERE else matrix.met(flow))
    }
