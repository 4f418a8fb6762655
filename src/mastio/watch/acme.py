"""What renewing public certificates needs of others: an ACME client, the machines, a name server.

order(client, request)           a chain from the authority (RFC 8555), by dehydrated(1)
call(own, machine, watch, …)     what the machine's program `certificate` answers
hook(own, watch, words)          a proof put where the authority looks for it, or taken away
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mastio import pki
from mastio.errors import MastioError
from mastio.hearing import MIB, hear
from mastio.roles.certificates import FOLDER
from mastio.transport import last_line, unavailable

ORDER, CALL = 600, 120
"""Seconds that an order, and a machine, may take."""
SEEN = 120.0
"""Seconds in which all name servers of a zone must show a record."""
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Chain:
    """A certificate and those above it."""

    digest: str
    """SHA-256 of the certificate (DER)."""
    key: str
    """SHA-256 of its public key (SPKI)."""
    names: frozenset[str]
    issuer: str
    begin: float
    end: float

    @property
    def days(self) -> float:
        """Its whole life."""
        return (self.end - self.begin) / _DAY

    def days_left(self, now: float) -> float:
        """Negative when it has expired."""
        return (self.end - now) / _DAY


def read(text: str) -> Chain:
    """Raises ValueError when the text does not begin with a certificate."""
    certificate = x509.load_pem_x509_certificate(text.encode())
    attributes = [*certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    issuer = str(attributes[0].value) if attributes else certificate.issuer.rfc4514_string()
    return Chain(
        certificate.fingerprint(hashes.SHA256()).hex(), pki.key_digest(text), pki.names(text),
        issuer, certificate.not_valid_before_utc.timestamp(),
        (certificate.not_valid_after_utc + timedelta(seconds=1)).timestamp(),
    )  # fmt: skip


def chain(path: Path) -> Chain | None:
    """The chain in a file; None when there is none, or nothing sound."""
    try:
        return read(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def due(kept: Chain | None, request: str, now: float) -> bool:
    """Whether a request needs a new chain: there is none for it, or two thirds of its life are over."""
    return (
        kept is None
        or kept.key != pki.key_digest(request)
        or kept.names != pki.requested(request)
        or kept.days_left(now) < kept.days / 3
    )


def order(client: Sequence[str], request: Path) -> str:
    """The chain that the authority signs. Raises MastioError with the authority's words."""
    (Path(FOLDER) / "acme/proofs").mkdir(parents=True, exist_ok=True)
    _client([*client, "--register", "--accept-terms"])
    said = _client([*client, "--signcsr", str(request)])
    text = "".join(f"{it.strip()}\n" for it in _BLOCK.findall(said))
    try:
        found = read(text)
    except ValueError:
        raise MastioError("the authority's answer is no certificate") from None
    asked = request.read_text()
    if found.key != pki.key_digest(asked) or not pki.requested(asked) <= found.names:
        raise MastioError("the authority signed something else than it was asked")
    return text


def _client(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=ORDER, check=False)
    except subprocess.TimeoutExpired:
        raise MastioError(f"the order did not end within {ORDER} seconds") from None
    if done.returncode:
        raise MastioError(why(f"{done.stdout}\n{done.stderr}"))
    return done.stdout


def why(said: str) -> str:
    """What an authority or dehydrated complains of, in one line."""
    details = re.findall(r'"detail":?\]?\s*"([^"]+)"', said)
    errors = [it.strip(" +") for it in said.splitlines() if "ERROR" in it or "failed" in it.lower()]
    lines = [it.strip() for it in said.splitlines() if it.strip()]
    return "; ".join(dict.fromkeys((*errors[:1], *details[:2]))) or (lines or ["no word"])[-1]


def call(
    own: Mapping[str, Any], machine: str, watch: str, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """What a machine's program answers. Raises MastioError when it does not, or refuses."""
    argv = [own["program"]] if machine == watch else [*own["ssh"][machine], own["program"]]
    try:
        done = hear(argv, json.dumps(asked).encode(), who=machine, seconds=CALL, most=MIB)
    except subprocess.TimeoutExpired:
        raise unavailable(machine, f"no answer within {CALL} seconds") from None
    if done.code == 255 and machine != watch:
        raise unavailable(machine, last_line(done.stderr))
    if done.code:
        raise MastioError(f"{machine}: {last_line(done.stderr) or done.code}")
    try:
        return dict(json.loads(done.stdout))
    except (ValueError, TypeError, RecursionError):
        raise MastioError(f"{machine}: the answer makes no sense") from None


def hook(own: Mapping[str, Any], watch: str, words: Sequence[str]) -> None:
    """`deploy_challenge` or `clean_challenge`, with a name, a token and what is to be found there."""
    what, name, token, answer = words
    deploying = what == "deploy_challenge"
    if own["tsig"]:
        _record(own, f"_acme-challenge.{name}.", answer, deploying=deploying)
    else:
        asked = {"op": "challenge", "token": token, "answer": answer}
        call(own, own["webmail"], watch, asked if deploying else {"op": "done", "token": token})


def _record(own: Mapping[str, Any], owner: str, value: str, *, deploying: bool) -> None:
    """A TXT record by a signed update (RFC 2136, RFC 8945), seen by all name servers of its zone."""
    server = own["dns_server"]
    change = f'add {owner} 60 IN TXT "{value}"' if deploying else f'delete {owner} TXT "{value}"'
    script = f"server {server}\nupdate {change}\nsend\n"
    _run(["nsupdate", "-v", "-t", "30", "-k", own["tsig"]], script, f"{server} refuses the update")
    if deploying:
        end = time.monotonic() + SEEN
        late = list(_servers(server, owner))
        while late := [it for it in late if value not in _dig(it, owner, "TXT")]:
            if time.monotonic() > end:
                raise MastioError(f"{', '.join(late)} does not show {owner} TXT")
            time.sleep(2)


def _servers(server: str, owner: str) -> Iterator[str]:
    """The name servers of the zone that an owner is in, as the server that takes updates knows it."""
    labels = owner.rstrip(".").split(".")
    for number in range(len(labels) - 1):
        if found := _dig(server, ".".join(labels[number:]) + ".", "NS"):
            yield from found
            return
    yield server


def _dig(server: str, owner: str, kind: str) -> list[str]:
    argv = ["dig", "+short", "+norecurse", "+time=3", "+tries=2", f"@{server}", owner, kind]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return [it.strip('"') for it in done.stdout.split()] if done.returncode == 0 else []


def _run(argv: Sequence[str], stdin: str, what: str) -> None:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MastioError(f"{what}: {last_line((done.stderr or done.stdout).encode())}")
