"""Postfix: postscreen and smtpd towards the internet, the relay port for the store, the queue.

The maps of domains and recipients are accounts' data, pushed by `mastio`; here they are only made, empty,
when missing: with no recipient known, all mail is refused, none lost.
"""

from collections.abc import Iterable

from mastio import pki, services
from mastio.context import PKI, Context, bracketed, public_chain
from mastio.instances import BESIDE, of_store
from mastio.roles.gateway.files import POLICY, RECIPIENTS, drop_in, drop_in_folder, etc
from mastio.site.model import Address, Outbound, Role
from mastio.state import Check, Command, Directory, HostState, Unit

CONFIG = "/etc/postfix/"
UNIT = "postfix.service"
MAPS = ("domains", "recipients")
RELAYED = 2
"""So many times what the webmail may submit in a minute one machine may hand over to be sent: as much again for mail
programs, redirects, answers and bounces."""


def build(ctx: Context) -> HostState:
    """Postfix as its roles on this machine want it."""
    sends = ctx.machine.has(Role.GATEWAY_OUT)
    callers = ctx.callers(services.RELAY) if sends else ()
    values = {
        "receives": ctx.machine.has(Role.GATEWAY_IN),
        "sends": sends,
        "store": ctx.peers(services.DELIVERY)[0],
        "onward": _onward(ctx) if not sends else (),
        "recipients": RECIPIENTS,
        "tls_policy": POLICY,
        "families": _families(ctx),
        "relay_doors": _relay_doors(ctx) if sends else (),
        "inward": _inward(ctx),
        "beside": BESIDE if of_store(ctx.machine) == BESIDE else None,
        "own_names": _own_names(ctx),
        "relayers": [
            {
                "name": it.machine,
                "fingerprint": pki.fingerprint(ctx.secret(f"host/{it.machine}/cert")),
            }
            for it in callers
        ],
        "watches": [
            pki.fingerprint(ctx.secret(f"host/{it.machine}/cert"))
            for it in callers
            if ctx.site.machine(it.machine).has(Role.WATCH)
            and not {Role.STORE, Role.GATEWAY_IN} & {*ctx.site.machine(it.machine).roles}
        ],
        "alarms_from": f"postmaster@{ctx.site.domains[0]}",
        "alarms_to": ctx.site.alarms.outside,
        "relay_limits": relay_limits(ctx.site.outbound),
    }
    shown = (public_chain(ctx.site),) if ctx.machine.has(Role.GATEWAY_IN) else ()
    names = ["main.cf", "master.cf", "commands", *(["outbound_headers"] if sends else [])]
    return HostState(
        packages=("postfix", "postfix-lmdb"),
        debconf=("postfix postfix/main_mailer_type select No configuration",),
        files=(
            *(etc(ctx, f"postfix/{name}", values) for name in names),
            drop_in(ctx, UNIT, values),
        ),
        directories=(Directory(RECIPIENTS),),
        units=(Unit(UNIT, reads=(CONFIG, PKI, *shown, drop_in_folder(UNIT))),),
        checks=(Check("postfix", ("postfix", "check"), reads=(CONFIG,)),),
        commands=tuple(_empty_maps()),
    )


def _onward(ctx: Context) -> tuple[str, ...]:
    """The sending gateways, as postconf(5) relayhost wants them: no MX look-up, the names are in hosts."""
    return tuple(f"[{it.name}]:{services.RELAY.port}" for it in ctx.peers(services.RELAY))


def _relay_doors(ctx: Context) -> tuple[str, ...]:
    """Where master(5) listens for what is to be sent: at `inet_interfaces`, unless it arrives elsewhere."""
    port = services.RELAY.port
    if not ctx.machine.inner:
        return (str(port),)
    return tuple(f"{bracketed(it)}:{port}" for it in ctx.listen(services.RELAY))


def relay_limits(outbound: Outbound) -> tuple[int, int]:
    """How many messages, and recipients of them, one machine may hand over in a minute: as many recipients for each
    as users may have on average."""
    messages = RELAYED * outbound.machine_messages_per_minute
    return messages, max(
        messages, messages * outbound.recipients_per_hour // outbound.messages_per_hour
    )


def _inward(ctx: Context) -> dict[str, Address]:
    """With which addresses Postfix calls the site's other machines: where it has one of a family in
    `inet_interfaces`, it would take that (postconf(5), smtp_bind_address)."""
    names = {4: "smtp_bind_address", 6: "smtp_bind_address6"}
    return {names[it.version]: it for it in ctx.machine.inner}


def _own_names(ctx: Context) -> tuple[str, ...]:
    """What only we may say in HELO: names, also with the root's dot, and public addresses (RFC 5321, 4.1.3)."""
    names = tuple(dict.fromkeys((ctx.site.mx_host, *ctx.site.domains)))
    literals = (f"[{'IPv6:' if it.version == 6 else ''}{it}]".lower() for it in ctx.site.public)
    return (*names, *(f"{it}." for it in names), *literals)


def _families(ctx: Context) -> str:
    """postconf(5) inet_protocols."""
    return ", ".join(sorted(f"ipv{address.version}" for address in ctx.machine.addresses))


def _empty_maps() -> Iterable[Command]:
    """postmap(1) -i adds what it reads from its standard input, here nothing, and makes the table."""
    for name in MAPS:
        table = f"lmdb:{RECIPIENTS}/{name}"
        yield Command(f"empty {name} map", ("postmap", "-i", table), creates=f"{table[5:]}.lmdb")
