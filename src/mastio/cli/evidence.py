"""`mastio evidence`: how the site stands, signed, for whoever has to look at it from outside."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from mastio import __version__
from mastio import evidence as archive
from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.integrity.client import who
from mastio.vault import write_private

COMMANDS = {
    "flows.json": "flows --json",
    "dns.zone": "dns",
    "status.json": "status --json",
    "verify.json": "verify --scheduled --json",
    "integrity.json": "integrity status --json",
    "patches.json": "patches --json",
    "certificates.json": "certificates status --json",
    "backups.json": "backup list --json",
    "drills.json": "drill status --json",
    "logs.json": "logs verify --json",
    "alarms.json": "alarms --json",
    "reports.json": "reports --json",
    "secrets.json": "secrets list --json",
}
"""A file of the archive, and the command that prints it."""
VERSIONS = (
    ". /etc/os-release; echo $PRETTY_NAME; cat /etc/debian_version; uname -r; "
    "dpkg-query --show --showformat='${binary:Package} ${Version}\\n'"
)
"""On a machine: its system, release, kernel, then a package a line."""
SECONDS = 180
_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive."""

    file: str
    command: str
    code: int | None
    """What the command ended with: 1 says that something is not as it should be."""
    missing: str = ""
    """Why it is not there; empty: it is."""


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.tar.gz",
              help="Write it there.  [default: evidence-SITE-DATE.tar.gz here]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what is in it as JSON.")
@pass_app
def evidence(app: App, out: Path | None, as_json: bool) -> Exit:
    """Write all that an auditor asks for into one signed archive.

    The site file and its flows, what must stand in DNS, the systems and package versions of all machines, the
    newest verification, drills, backups, integrity, updates, certificates, alarms, whether the logs are as sealed,
    and names and ages of secrets (never a value). Each file is what a command of mastio prints.

    A list of digests is signed in the name of the site's authority; the archive's README says how to check it with
    sha256sum and openssl alone. The auditor needs the authority's certificate from you: /etc/mastio/pki/ca.pem of
    any machine.

    Exits with 0 when all is in it, 69 when something could not be had: the archive says what, and why.
    """
    site, at = app.site(), time.time()
    stamp = datetime.fromtimestamp(at, UTC)
    folder = f"evidence-{site.name}-{stamp:%Y%m%d-%H%M%S}"
    place = out or Path(f"{folder}.tar.gz")
    if place.exists():
        raise MastioError(
            f"{place}: is there already", hint="name another file", code=Exit.CANT_CREATE
        )
    vault = app.vault
    parts, files = _commands(app)
    files["site.toml"] = app.site_file.read_bytes()
    versions, away = _versions(app)
    files["machines.json"] = _plain(versions)
    parts += [Part("machines.json", VERSIONS, None, f"{it}: {why}") for it, why in away.items()]
    missing = [it for it in parts if it.missing]
    about = {
        "site": site.name, "organisation": site.organisation, "at": stamp.isoformat(timespec="seconds"),
        "by": who(), "mastio": __version__, "parts": [asdict(it) for it in parts],
    }  # fmt: skip
    files["about.json"] = _plain(about)
    signed = archive.seal(files, vault["ca/key"], vault["ca/cert"], site.internal_name("evidence"))
    try:
        write_private(place, archive.pack(signed, folder, at))
    except OSError as error:
        raise MastioError(
            f"{place}: {error.strerror}", hint="name a file that can be written", code=Exit.CANT_CREATE
        ) from error  # fmt: skip
    if as_json:
        click.echo(json.dumps({"file": str(place), **about}, indent=2))
    for it in missing:
        click.secho(f"not in it: {it.file}: {it.missing}", fg="red", err=True)
    if not as_json:
        click.echo(f"wrote {place}: {len(signed)} files, signed")
    return Exit.UNAVAILABLE if missing else Exit.OK


def _plain(data: object) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _commands(app: App) -> tuple[list[Part], dict[str, bytes]]:
    """What our own commands say."""

    def ask(file: str) -> tuple[Part, bytes]:
        words = COMMANDS[file]
        argv = [sys.executable, "-m", "mastio", "--site", str(app.folder), *words.split()]
        try:
            done = subprocess.run(
                argv, capture_output=True, timeout=SECONDS, check=False, env=os.environ
            )
        except subprocess.TimeoutExpired:
            return Part(file, f"mastio {words}", None, f"no answer in {SECONDS} seconds"), b""
        click.echo(f"  mastio {words}", err=True)
        # 1 tells of something that is not as it should be: that is evidence, too.
        told = done.returncode in (Exit.OK, Exit.FAILED) or bool(done.stdout.strip())
        why = "" if told else _why(done.stderr) or f"exit code {done.returncode}"
        return Part(file, f"mastio {words}", done.returncode, why), done.stdout

    with ThreadPoolExecutor(_TOGETHER) as pool:
        found = list(pool.map(ask, COMMANDS))
    parts = [part for part, _ in found]
    return parts, {part.file: said for part, said in found if not part.missing}


def _why(said: bytes) -> str:
    """What a command called its error."""
    lines = said.decode(errors="replace").splitlines()
    return next((it.removeprefix("error: ") for it in lines if it.startswith("error: ")), "")


def _versions(app: App) -> tuple[dict[str, object], dict[str, str]]:
    """Of each machine its system and packages; of those that do not answer, why."""

    def ask(machine: str) -> object:
        try:
            done = app.transport().run(machine, ["sh", "-euc", VERSIONS])
        except MastioError as error:
            return error
        if done.code:
            return MastioError(done.stderr.decode(errors="replace").strip())
        system, release, kernel, *rows = done.stdout.decode().splitlines()
        packages = dict(it.split(" ", 1) for it in rows)
        return {"system": system, "release": release, "kernel": kernel, "packages": packages}

    names = [it.name for it in app.site().machines]
    with ThreadPoolExecutor(len(names)) as pool:
        found = dict(zip(names, pool.map(ask, names), strict=True))
    away = {name: it.message for name, it in found.items() if isinstance(it, MastioError)}
    return {name: it for name, it in found.items() if name not in away}, away
