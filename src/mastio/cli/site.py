"""`mastio init` writes a new site file, `mastio check` reads one and tells all that is wrong with it."""

import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mastio.cli.common import SITE_FILE, App, pass_app
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.site import migrate as migrations
from mastio.site import parse
from mastio.site.keys import SCHEMA
from mastio.site.model import Reach, Site, Topology
from mastio.site.write import Start, write


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="A short label for the site.  [default: the folder's name]")
@click.option("--organisation", help="The organisation, as users read it.")
@click.option(
    "--domain", "domains", multiple=True, help="A mail domain; repeat it, the main one first."
)
@click.option("--public", multiple=True, help="An address on the internet; repeat it.")
@click.option("--admin", help="The mailbox for alarms and for postmaster's mail.")
@click.option(
    "--topology",
    type=click.Choice([str(it) for it in Topology]),
    default="separated",
    show_default=True,
)
@click.option(
    "--reach", type=click.Choice([str(it) for it in Reach]), default="ssh", show_default=True
)
@click.option(
    "--admin-network",
    "networks",
    multiple=True,
    help="From where administrators use ssh; repeat it.",
)
@click.option(
    "--admin-key", "keys", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with an administrator's OpenSSH *public* key; repeat it.",
)  # fmt: skip
@click.option(
    "--server",
    help="With --reach server: the name under which ssh reaches the one physical server.",
)
def init(
    folder: Path, name: str | None, organisation: str | None, domains: tuple[str, ...],
    public: tuple[str, ...], admin: str | None, topology: str, reach: str, networks: tuple[str, ...],
    keys: tuple[Path, ...], server: str | None,
) -> None:  # fmt: skip
    """Write FOLDER/site.toml, with comments, and check it. Never overwrites.

    On a terminal it asks for what the options do not say.

    \b
    mastio init mysite --organisation 'Fortress Ltd' --domain fortress.test \\
        --public 203.0.113.1 --public 2001:db8:113::1 --admin alice@fortress.test --reach lab
    """
    path = folder / SITE_FILE
    if path.exists():
        raise MastioError(
            f"{path} exists already", hint="edit it, or name another folder", code=Exit.DATA
        )
    ask = _Questions()
    label = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-")
    over_ssh = reach != Reach.LAB
    name = name or label
    organisation = organisation or ask.text("--organisation", "The organisation, as users read it")
    domains = domains or ask.texts("--domain", "Mail domains, the main one first")
    public = public or ask.texts("--public", "Addresses on the internet")
    admin = admin or ask.text("--admin", "The mailbox for alarms and for postmaster's mail")
    networks = networks or (
        ask.texts("--admin-network", "Networks of administrators") if over_ssh else ()
    )
    lines = tuple(line for key in keys for line in _public_keys(key)) or (
        ask.texts("--admin-key", "An administrator's ssh public key", split=False)
        if over_ssh
        else ()
    )
    if reach == Reach.SERVER:
        server = server or ask.text("--server", "The name under which ssh reaches the server")
    ask.enough()
    start = Start(
        name, organisation, domains, public, admin, topology, reach,
        networks, lines, server or "",
    )  # fmt: skip
    text = write(start)
    try:
        parse.parse(text, str(path))
    except parse.SiteFileError as error:
        # nothing is written, so lines would lead nowhere: the keys do
        wrong = "\n".join(f"{it.key}: {it.what}; {it.hint}".rstrip("; ") for it in error.problems)
        raise MastioError(
            wrong, hint="nothing was written; give better values", code=Exit.DATA
        ) from None
    _create(path, text)
    click.echo(f"wrote {path}")
    click.echo(f"next: mastio --site {folder} check, then {_NEXT[Reach(reach)]}")


_NEXT = {Reach.LAB: "lab up", Reach.SSH: "adopt", Reach.SERVER: "machines up"}


class _Questions:
    """Asks on a terminal; elsewhere gathers the options that are missing, to name all at once."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def text(self, option: str, question: str) -> str:
        if sys.stdin.isatty():
            return str(click.prompt(question, err=True))
        self.missing.append(option)
        return ""

    def texts(self, option: str, question: str, *, split: bool = True) -> tuple[str, ...]:
        answer = self.text(option, f"{question} (spaces between)" if split else question)
        return tuple(answer.split()) if split else (answer,)

    def enough(self) -> None:
        if self.missing:
            raise MastioError(
                f"init needs {', '.join(self.missing)}",
                hint="there is no terminal to ask on: give them as options (`mastio init --help`)",
                code=Exit.USAGE,
            )


def _public_keys(path: Path) -> list[str]:
    text = path.read_text(errors="replace")
    if "PRIVATE KEY" in text:
        raise MastioError(
            f"{path} is a private key", hint=f"keep it; give {path}.pub instead", code=Exit.DATA
        )
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _create(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as stream:
            stream.write(text)
    except OSError as error:
        raise MastioError(
            f"{path}: {error.strerror}",
            hint="name a folder that can be written",
            code=Exit.CANT_CREATE,
        ) from error


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the site, or the problems.")
@pass_app
def check(app: App, as_json: bool) -> Exit | None:
    """Read the site file and show what it means, or everything that is wrong with it.

    A file of an older schema is understood; it is told that `mastio migrate` rewrites it. Exits with 0 when the
    file is good, 65 when it is not.
    """
    try:
        site = app.site()
    except parse.SiteFileError as error:
        if not as_json:
            raise
        problems = [
            {"file": it.file, "line": it.line, "key": it.key, "what": it.what, "hint": it.hint}
            for it in error.problems
        ]
        click.echo(json.dumps({"ok": False, "problems": problems}, indent=2, ensure_ascii=False))
        return Exit.DATA
    number = migrations.schema(app.site_file.read_text())
    if number != SCHEMA:
        words = (
            f"{app.site_file}: schema {number} is read as {SCHEMA}; `mastio migrate` rewrites it"
        )
        click.secho(words, fg="yellow", err=True)
    click.echo(
        json.dumps(_plain(site), indent=2, ensure_ascii=False) if as_json else _summary(site)
    )
    return None


@click.command()
@click.option("--plan", "dry", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def migrate(app: App, dry: bool, as_json: bool) -> Exit:
    """Rewrite the site file in this version's schema; comments and order stay.

    Shows the difference, and keeps the former file beside it (site.toml.schema-N). Nothing has to be rewritten at
    once: an older schema is understood as it is. Exits with 0 when the file is of this schema (now), 2 with --plan
    when it is not, 65 when it cannot be: a newer schema, or something is wrong in it.
    """
    path = app.site_file
    app.site()  # all that is wrong with it
    old = path.read_text()
    new, number = migrations.current(old, str(path)), migrations.schema(old)
    rows = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"{path.name} (schema {number})",
        f"{path.name} (schema {SCHEMA})",
    )  # fmt: skip
    diff, copy = "".join(rows), path.with_name(f"{path.name}.schema-{number}")
    if diff and not dry:
        if copy.exists() and copy.read_text() != old:
            raise MastioError(
                f"{copy} is there already, with something else in it",
                hint="move it away: the former site file is kept there",
                code=Exit.CANT_CREATE,
            )
        put(copy, old, path.stat().st_mode & 0o777)
        put(path, new, path.stat().st_mode & 0o777)
    if as_json:
        kept = str(copy) if diff and not dry else ""
        told = {"schema": number, "newest": SCHEMA, "diff": diff, "kept": kept}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif diff:
        click.echo(diff, nl=False)
        click.echo("nothing was changed" if dry else f"rewrote {path}; the former file is {copy}")
    else:
        click.echo(f"{path} is of schema {SCHEMA}, the newest: nothing to do")
    return Exit.CHANGES if diff and dry else Exit.OK


def _plain(site: Site) -> dict[str, object]:
    return {
        "ok": True,
        "name": site.name,
        "organisation": site.organisation,
        "domains": site.domains,
        "topology": site.topology,
        "reach": site.reach,
        "public": [str(it) for it in site.public],
        "mx": site.mx_host,
        "webmail": site.webmail_host,
        "admin": site.admin_mail,
        "zones": {it.name: [str(network) for network in it.networks] for it in site.zones},
        "machines": {
            it.name: {
                "roles": it.roles,
                "zone": it.zone,
                "addresses": [str(address) for address in it.addresses],
                "inner": [str(address) for address in it.inner],
                "ssh": it.ssh,
            }
            for it in site.machines
        },
    }


def _summary(site: Site) -> str:
    joined = any(it.inner for it in site.machines)
    rows: list[tuple[str, ...]] = [
        ("machine", "zone", "addresses", *(("inside tunnels",) if joined else ()), "roles")
    ]
    for it in site.machines:
        addresses, inner = (" ".join(map(str, some)) for some in (it.addresses, it.inner))
        rows.append(
            (it.name, it.zone, addresses, *((inner,) if joined else ()), ", ".join(it.roles))
        )
    zones = [("zone", "networks")]
    zones += [(it.name, " ".join(map(str, it.networks))) for it in site.zones]
    head = (
        f"{site.organisation} ({site.name}): {', '.join(site.domains)}\n"
        f"topology {site.topology}, reached by {site.reach}, public {' '.join(map(str, site.public))}\n"
        f"MX {site.mx_host}, webmail https://{site.webmail_host}, administrator {site.admin_mail}"
    )
    return "\n\n".join((head, _columns(zones), _columns(rows)))


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
