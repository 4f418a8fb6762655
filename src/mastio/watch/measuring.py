"""How watch measures one machine: AIDE goes there and its database comes back; probes are asked for the rest."""

import hashlib
import json
import math
import re
import subprocess
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mastio.errors import MastioError
from mastio.flows import expand
from mastio.hearing import MIB, TooMuchError, hear
from mastio.integrity import database, facts
from mastio.integrity.database import Row
from mastio.integrity.expected import Package
from mastio.roles.integrity import CONFIG, MEASURE, ROOTS
from mastio.roles.integrity.measure import AIDE, REFUSED, SECONDS
from mastio.site.model import Site
from mastio.transport import Transport, last_line, unavailable
from mastio.verify.listening import listening
from mastio.verify.probes import host, state
from mastio.verify.vantage import Ground, Vantage

_MAIL = ("/var/vmail", "/var/spool/postfix", "/var/spool/postfix-store", "/var/log")
"""What is large and changes all the time: looked through for SUID files at night alone."""
_PACKED = 8 * MIB
"""Octets of an answer; a webmail has half a one of them: 14,000 paths."""
_MOST = 32 * MIB
"""Octets of a database."""
_PATHS = 150_000
"""How many it may have: each takes some thousand octets of memory here."""
_AGAIN = 5.0
"""Seconds until a machine is measured once more."""
_DPKG = Path("/var/lib/dpkg/info")


class TamperedError(MastioError):
    """Somebody has changed what measuring stands on."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a machine was found to be."""

    rows: Mapping[str, Row] = field(repr=False)
    facts: Mapping[str, list[str]]
    packages: Mapping[str, str]
    seconds: float
    cpu: float


@dataclass(frozen=True)
class Measurer:
    """Measures machines of `site`, by `ssh` (how each is called) and by the probes' `transport`."""

    site: Site
    transport: Transport
    ssh: Mapping[str, Sequence[str]]
    tools: Mapping[str, bytes] = field(repr=False)

    def see(self, machine: str, *, deep: bool = False) -> Seen:
        """MastioError when it cannot be reached; TamperedError when it refuses, answers nonsense, or says another thing
        than a probe, which comes by another door."""
        for again in (False, True):
            try:
                seen, digest = self._once(machine, deep=deep)
            except TooMuchError as error:
                raise TamperedError(error.message, hint=error.hint) from None
            measured = seen.rows.get(MEASURE)
            if measured and measured.digest == digest:
                return seen
            if not again:
                # An apply may have replaced it just now.
                time.sleep(_AGAIN)
        raise TamperedError(
            f"{machine}: {MEASURE} is not what it says it is: what it answers is not to be believed"
        )

    def _once(self, machine: str, *, deep: bool) -> tuple[Seen, str]:
        begin = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            # Probes wait more than they work: meanwhile AIDE reads.
            asked = pool.submit(self._facts, machine, deep=deep)
            rows, cpu = self._rows(machine)
            found, packages, digest = asked.result()
        return Seen(rows, found, packages, round(time.monotonic() - begin, 2), cpu), digest

    def packages(self, machine: str, names: list[str]) -> dict[str, Package]:
        """Packages and all that they need, as they are installed there."""
        found = self._vantage(machine).ask(state.packages, names)
        return {name: Package(str(it[0]), it[1]) for name, it in found.items()}  # type: ignore[arg-type]

    def _vantage(self, machine: str) -> Vantage:
        ground = Ground(self.site, expand(self.site), self.transport)
        return Vantage(machine, ground, time.monotonic() + SECONDS)

    def _facts(
        self, machine: str, *, deep: bool
    ) -> tuple[dict[str, list[str]], dict[str, str], str]:
        """What AIDE does not see, packages, and the digest of the program by which AIDE is run."""
        vantage = self._vantage(machine)
        found, packages = vantage.ask(state.facts, list(ROOTS), [] if deep else list(_MAIL))
        heard = listening(vantage)
        found["listener"] = facts.listeners(heard.undeclared, heard.usurped)
        found["deleted"] = vantage.ask(host.deleted)
        versions = {name: str(version) for name, version in packages.items()}
        return facts.checked(found), versions, str(vantage.ask(host.digest, MEASURE))

    def _rows(self, machine: str) -> tuple[dict[str, Row], float]:
        here = machine not in self.ssh
        argv = [MEASURE] if here else [*self.ssh[machine], "measure"]
        sent = parcel(Path(CONFIG).read_bytes(), self.tools)
        try:
            done = hear(argv, sent, who=machine, seconds=SECONDS + 60, most=_PACKED)
        except subprocess.TimeoutExpired:
            raise unavailable(machine, "measuring does not end") from None
        if done.code == 255 and not here:
            raise unavailable(machine, last_line(done.stderr))
        if done.code == REFUSED:
            raise TamperedError(
                f"{machine} {last_line(done.stderr)}",
                hint="see who changed them on watch; `mastio apply` brings the configuration back, "
                "`mastio integrity renew --tools --why …` names new tools",
            )
        if done.code:
            raise TamperedError(
                f"{machine}: measuring broke: {last_line(done.stderr) or done.code}"
            )
        return answered(machine, done.stdout)


def answered(machine: str, said: bytes) -> tuple[dict[str, Row], float]:
    """What a machine's answer says: AIDE's rows, and the seconds of CPU that they took. TamperedError when it is no
    measurement."""
    head, _, packed = said.partition(b"\n")
    try:
        told = json.loads(head)
        code, words, cpu = int(told["code"]), str(told["words"]), float(told["cpu"])
        if not math.isfinite(cpu):
            raise ValueError(f"{cpu} seconds of CPU")
        rows = {} if code else database.parse(_unpacked(packed).decode())
    except (
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        RecursionError,
        zlib.error,
    ) as error:
        raise TamperedError(f"{machine}: the answer is no measurement: {error}") from None
    if code:
        raise TamperedError(f"{machine}: AIDE gave up ({code}): {words.strip()}")
    return rows, cpu


def _unpacked(packed: bytes) -> bytes:
    """What gzip(1) packed. A few octets could become more than watch has memory for."""
    work = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = work.decompress(packed, _MOST)
    if not work.eof:
        raise ValueError("cut off" if len(data) < _MOST else f"more than {_MOST} octets")
    if data.count(b"\n") > _PATHS:
        raise ValueError(f"more than {_PATHS} paths")
    return data


def parcel(config: bytes, tools: Mapping[str, bytes]) -> bytes:
    """Configuration and tools as `measure` takes them."""
    head = {"config": len(config), "tools": [[name, len(data)] for name, data in tools.items()]}
    return json.dumps(head).encode() + b"\n" + config + b"".join(tools.values())


def gather() -> dict[str, bytes]:
    """AIDE and all that it needs to run, from this machine's packages; each as its package brought it.

    MastioError when one is not: then somebody was here before us.
    """
    program = f"/usr/bin/{AIDE}"
    if not Path(program).exists():
        raise MastioError(
            "the package aide is not installed on watch", hint="`mastio apply` installs it"
        )
    said = subprocess.run(
        ["/usr/bin/ldd", program], capture_output=True, text=True, check=True
    ).stdout
    paths = [program, *re.findall(r"(/\S+) \(0x", said)]
    brought = _brought(paths)
    tools = {}
    for path in paths:
        real = Path(path).resolve()
        data = real.read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != brought.get(str(real)):
            raise TamperedError(
                f"{real} on watch is not as its package brought it",
                hint="find out who changed it, then `apt-get install --reinstall` its package",
            )
        tools[Path(path).name] = data
    return tools


def _brought(paths: Iterable[str]) -> dict[str, str]:
    """MD5 of the files with these names, as packages' lists have them (dpkg keeps no other)."""
    stems = {Path(it).resolve().name for it in paths}
    found = {}
    for listing in _DPKG.glob("*.md5sums"):
        for line in listing.read_text(errors="replace").splitlines():
            value, _, path = line.partition("  ")
            if path.rpartition("/")[2] in stems:
                found[str(Path(f"/{path}").resolve())] = value
    return found
