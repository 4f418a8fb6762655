"""Which Postfix is whose: one where a machine needs one, and the store's beside the gateway's where it needs both.

A gateway believes nobody and asks the internet's DNS; a store knows all accounts and asks nobody. Both in one
main.cf would be a third thing. So where one machine is both, the store has an instance of its own
(postmulti(1); Debian's unit postfix@.service): configuration, queue, sandbox.

>>> of_store(Machine("store", (Role.STORE,), "core", ())).unit
'postfix.service'
"""

from dataclasses import dataclass

from mastio.site.model import Machine, Role


@dataclass(frozen=True, slots=True)
class Instance:
    """One Postfix of a machine."""

    config: str
    """Its config_directory, as postconf(5) calls it."""
    queue: str
    data: str
    unit: str


ONLY = Instance("/etc/postfix", "/var/spool/postfix", "/var/lib/postfix", "postfix.service")
"""Debian's default instance: a machine's only one, else the gateway's."""
BESIDE = Instance(
    "/etc/postfix-store", "/var/spool/postfix-store", "/var/lib/postfix-store", "postfix@store.service"
)  # fmt: skip
"""The store's, where the gateway has the default one. Programs on the machine know it by its config directory."""


def calling(instance: Instance) -> tuple[str, ...]:
    """What stands before a command that calls Postfix, so that it calls this one (postconf(5), MAIL_CONFIG)."""
    return () if instance == ONLY else ("env", f"MAIL_CONFIG={instance.config}")


def of_store(machine: Machine) -> Instance:
    """The Postfix that is the store's on `machine`."""
    shared = machine.has(Role.GATEWAY_IN, Role.GATEWAY_OUT) and machine.has(Role.STORE)
    return BESIDE if shared else ONLY
