"""T6, T8, R5: mail on its way between organisations: who can verify us, whom we verify, what we hand on."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256, sha512

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mastio import services
from mastio.instances import ONLY, Instance, of_store
from mastio.site.model import Role
from mastio.verify.checks.dnspolicy import ask
from mastio.verify.checks.tls import shown
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import names, postfix
from mastio.verify.vantage import Vantage

STRANGER = "example.com"
"""A domain of nobody's with which nothing is agreed (RFC 2606)."""


@dataclass(frozen=True, slots=True)
class Postfix:
    """The settings of the Postfix on one machine."""

    main: dict[str, str]
    services: tuple[tuple[str, str, str], ...]
    """Service as `port/type`, name, value: what master.cf sets otherwise for it."""

    def of(self, service: str, name: str) -> str:
        """What holds for one service; "" when it is not set."""
        own = [value for where, key, value in self.services if (where, key) == (service, name)]
        return own[-1] if own else self.main.get(name, "")

    def everywhere(self, name: str) -> dict[str, str]:
        """Where it is set → its value: main.cf, and services that want it otherwise."""
        found = {"main.cf": self.main.get(name, "")}
        return found | {where: value for where, key, value in self.services if key == name}


def settings(vantage: Vantage, instance: Instance = ONLY) -> Postfix:
    """Asked once of each instance: the machine's only one or the gateway's, unless told otherwise."""
    said = vantage.ask(postfix.settings, instance.config)
    return Postfix(
        {str(name): str(value) for name, value in said["main"]},
        tuple((where, name, value) for where, name, value in said["services"]),
    )


def dane(vantage: Vantage) -> Iterator[str]:
    """The MX's TLSA records tell its key on each address, and the next one."""
    owner = f"_{services.SMTP.port}._tcp.{vantage.site.mx_host}"
    records = ask(vantage, owner, "TLSA").texts
    if not records:
        yield f"{owner}: no TLSA record"
        return
    used: set[str] = set()
    for door, certificate in shown(vantage):
        if door.service is services.SMTP:
            told = {it for it in records if tells(it, certificate)}
            used |= told
            if not told:
                yield f"{door.words} shows a key that no TLSA record tells: senders with DANE keep their mail"
    if used and not {it for it in records if it.startswith("3 ")} - used:
        yield f"{owner}: no record of the next key: it could not be changed without a gap"


def tells(record: str, certificate: x509.Certificate) -> bool:
    """Whether a TLSA record is of this very certificate or its key (DANE-EE, the kind that mail uses)."""
    usage, selector, matching, data = record.split(" ")
    whole = certificate.public_bytes(Encoding.DER)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    octets = key if selector == "1" else whole
    digest = {"0": octets, "1": sha256(octets).digest(), "2": sha512(octets).digest()}
    return usage == "3" and digest.get(matching, b"").hex() == data


def verifies_others(vantage: Vantage) -> Iterator[str]:
    """What leaves is held to DANE, else to the receiver's MTA-STS policy."""
    found = settings(vantage)
    wanted = {"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec"}
    for name, value in wanted.items():
        if (said := found.of("smtp/unix", name)) != value:
            yield f"{vantage.name}: {name} is {said or 'not set'}, not {value}"
    table = found.of("smtp/unix", "smtp_tls_policy_maps")
    if not table:
        yield f"{vantage.name}: smtp_tls_policy_maps is empty: nobody asks for MTA-STS policies"
    elif error := vantage.ask(postfix.answer, table, STRANGER).get("error"):
        yield f"{vantage.name}: {table} does not answer: {error}"
    if not vantage.ask(names.look_up, ".", "SOA")["secure"]:
        yield f"{vantage.name}: its resolver does not validate the root zone: DANE is blind"


def clean_lines(vantage: Vantage) -> Iterator[str]:
    """No stray CR or LF is handed on: the next server cannot take it for the end of a message."""
    # Where gateway and store are one machine, each has its own.
    machine = vantage.site.machine(vantage.name)
    for instance in dict.fromkeys((ONLY, of_store(machine))):
        found = settings(vantage, instance).everywhere("cleanup_replace_stray_cr_lf")
        for where, value in found.items():
            if value != "yes":
                place = where if instance == ONLY else f"{where} of {instance.config}"
                yield f"{vantage.name}: cleanup_replace_stray_cr_lf is {value or 'not set'} in {place}"


_MEND = "`mastio plan` shows what was changed by hand, `mastio apply` mends it."

CHECKS = (
    Check(
        "T6", Family.TLS, "Senders can verify the MX by DANE", (Place.OUTSIDE,), Severity.HIGH,
        "TLSA of the MX against the certificate shown at each of its addresses (D6 sees to signatures)",
        "a record of the key shown, and one of the next key", "RFC 7672, 3.1; RFC 7671, 8.4",
        "`mastio dns` prints both records; publish them at the name server of the MX's domain.", dane, seconds=60,
    ),
    Check(
        "T8", Family.TLS, "Receivers are verified", (Role.GATEWAY_OUT,), Severity.HIGH,
        "Postfix's settings for what leaves, a question to its policy table, and to its resolver",
        "security level dane on validated answers, a table that answers, the root zone validates",
        "RFC 7672, 2; RFC 8461, 5; postconf(5), smtp_tls_security_level",
        f"Settings: {_MEND} The table: `systemctl status mastio-tls-policy`. The resolver: `unbound-host -v -D .`.",
        verifies_others, seconds=60,
    ),
    Check(
        "R5", Family.MAIL, "Nothing that smuggles leaves", (Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.STORE),
        Severity.HIGH, "cleanup_replace_stray_cr_lf of every Postfix, as postconf(1) reads it", "yes, everywhere",
        "CVE-2023-51764; postconf(5), cleanup_replace_stray_cr_lf", f"Set it back to yes. {_MEND}", clean_lines,
    ),
)  # fmt: skip
