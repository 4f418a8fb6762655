"""`mastio adopt`: first contact with machines that mastio did not make."""

import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import click

from mastio.adopt import pins
from mastio.adopt.contact import Contact, Met
from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.site.model import Role, Site


@dataclass(frozen=True, slots=True)
class Row:
    """How it went with one machine."""

    machine: str
    verdict: str
    """adopted, refused, unreachable."""
    words: str = ""
    key: str = ""
    met: Met | None = None
    through_watch: bool = False


@click.command()
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@click.option(
    "--fingerprint",
    "given",
    multiple=True,
    metavar="MACHINE=SHA256:…",
    help="The host key that a machine must show, from its console or its provider's page.",
)
@click.option("--anyway", is_flag=True, help="Take machines in spite of what speaks against it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def adopt(
    app: App, machines: tuple[str, ...], given: tuple[str, ...], anyway: bool, as_json: bool
) -> Exit:
    """Take machines that are there already: any Debian 13 that ssh reaches.

    \b
    mastio adopt                                           all of them; asks about each host key
    mastio adopt gateway --fingerprint gateway=SHA256:…    told beforehand, asks nothing

    Your ssh_config, agent and jump hosts are used. Each machine's host key is compared with what you give, know
    already or confirm, and kept in the site folder: it is never believed with another. Then it is looked at, and
    nothing is changed: release, mail, services, firewall, disk. One with mail or foreign services is refused
    (--anyway), as is one that your key or your address would no longer open once it is built. Whoever logs in must
    be root, or have sudo without a password: then root's door is opened for admins.keys. Those that do not answer
    are told; the others go on. The first apply makes a door of its own for admins.keys; once it has come in by that,
    it takes away /root/.ssh/authorized_keys.

    Exit code 0 when all were adopted, 1 when one was refused, 69 when one was not reached.
    """
    site = app.site()
    names = [it.name for it in site.machines]
    wanted = _given(given, names)
    if unknown := sorted({*machines, *wanted} - {*names}):
        raise MastioError(
            f"no such machine: {', '.join(unknown)}",
            hint=f"this site has {', '.join(names)}",
            code=Exit.USAGE,
        )
    if app.in_lab:
        raise MastioError(
            "the lab makes its own machines", hint='reach = "ssh" in the site file', code=Exit.USAGE
        )
    chosen = [it for it in _watch_first(site) if not machines or it in machines]
    rows = []
    for row in _adopt(app, chosen, wanted, anyway=anyway, quiet=as_json):
        rows.append(row)
        if not as_json:
            _show(row)
    if as_json:
        click.echo(json.dumps([_plain(it) for it in rows], indent=2))
    elif all(it.verdict == "adopted" for it in rows):
        click.echo("Now `mastio plan` shows what apply would make of them.")
    codes = {"adopted": Exit.OK, "refused": Exit.FAILED, "unreachable": Exit.UNAVAILABLE}
    return max((codes[it.verdict] for it in rows), default=Exit.OK)


def _watch_first(site: Site) -> list[str]:
    """Watch is the way to the others."""
    return [it.name for it in sorted(site.machines, key=lambda it: not it.has(Role.WATCH))]


def _given(given: tuple[str, ...], names: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        machine, _, value = text.partition("=")
        if not value and len(names) == 1:
            machine, value = names[0], text
        if not value.startswith("SHA256:"):
            raise MastioError(
                f"--fingerprint {text}: not MACHINE=SHA256:…",
                hint="`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the machine's console prints it",
                code=Exit.USAGE,
            )
        found[machine] = value.rstrip("=")
    return found


def _adopt(
    app: App, chosen: list[str], wanted: Mapping[str, str], *, anyway: bool, quiet: bool
) -> Iterator[Row]:
    """Each machine in turn; keys are fetched from all at once."""
    site, folder = app.site(), app.folder
    contact = Contact(site, pins.read(folder), pins.through(folder))
    with ThreadPoolExecutor(8) as pool:
        keys = dict(zip(chosen, pool.map(lambda it: _key(contact, it), chosen), strict=True))
    admins = {pins.fingerprint(it): it for it in site.admin_keys}
    watch = next(iter(site.carrying(Role.WATCH)), None)
    for machine in chosen:
        key = keys[machine]
        if isinstance(key, MastioError):
            yield Row(machine, "unreachable", key.message)
            continue
        row = Row(machine, "refused", key=key)
        try:
            if why := _doubt(contact, machine, key, pins.read(folder), wanted, quiet=quiet):
                yield replace(row, words=why)
                continue
            met = contact.meet(machine, key, admins)
            row = replace(row, met=met)
            if met.objections and not (anyway and not any(it.final for it in met.objections)):
                yield replace(row, words="; ".join(it.what for it in met.objections))
                continue
            contact.open_root(machine, key, sudo=met.login == "sudo")
        except MastioError as error:
            lost = error.code is Exit.UNAVAILABLE
            words = (
                error.message if lost or not error.hint else f"{error.message}\n    → {error.hint}"
            )
            yield replace(row, verdict="unreachable" if lost else "refused", words=words)
            continue
        known = {**pins.read(folder), machine: key}
        pins.write(folder, known)
        contact = Contact(site, known, pins.through(folder))
        way = (
            watch is not None
            and watch.name in known
            and machine != watch.name
            and not site.machine(machine).ssh
            and contact.through_watch(machine, key)
        )
        pins.remember(folder, machine, through_watch=way)
        yield replace(row, verdict="adopted", through_watch=way)


def _key(contact: Contact, machine: str) -> str | MastioError:
    try:
        return contact.host_key(machine)
    except MastioError as error:
        return error


def _doubt(
    contact: Contact,
    machine: str,
    key: str,
    known: Mapping[str, str],
    wanted: Mapping[str, str],
    *,
    quiet: bool,
) -> str:
    """Why a host key is not believed; empty when it is."""
    shown = pins.fingerprint(key)
    if machine in wanted:
        return "" if wanted[machine] == shown else f"it shows {shown}, not {wanted[machine]}"
    if machine in known:
        if known[machine] == key:
            return ""
        return (
            f"it shows {shown}, and is known by {pins.fingerprint(known[machine])}: somebody else answers, or it was "
            "made anew (then give --fingerprint)"
        )
    if contact.is_known(machine):
        return ""
    if quiet or not sys.stdin.isatty():
        return f"it shows {shown}, and nobody has said whether that is its own: --fingerprint {machine}={shown}"
    asked = f"{machine} shows {shown}. Is that its own?"
    return "" if click.confirm(asked, err=True) else f"{shown} is not its own"


def _show(row: Row) -> None:
    colours = {"adopted": "green", "refused": "red", "unreachable": "yellow"}
    click.echo(
        f"{row.machine}  {click.style(row.verdict, fg=colours[row.verdict])}  {row.words}".rstrip()
    )
    if row.key:
        click.echo(f"    host key   {pins.fingerprint(row.key)}")
    if row.met:
        seen = row.met.seen
        click.echo(
            f"    {seen['release']['name']}, {seen['memory']} MiB of memory, {seen['free']} of {seen['disk']} MiB free"
        )
        click.echo(
            f"    packages   {seen['installed']}: {', '.join(seen['packages']) or 'none that matters'}"
        )
        served = {
            f"{who or '?'} {port}" for _, port, who, loopback in seen["listeners"] if not loopback
        }
        click.echo(f"    listens    {', '.join(sorted(served)) or 'nothing'}")
        click.echo(
            f"    people     {', '.join(seen['users']) or 'root alone'}; you come as {row.met.login}"
        )
        if seen["mail"]:
            click.echo(f"    mail       {', '.join(seen['mail'])}")
    if row.verdict == "adopted" and row.through_watch:
        click.echo("    reached through watch from now on")


def _plain(row: Row) -> dict[str, Any]:
    return {
        "machine": row.machine, "verdict": row.verdict, "words": row.words,
        "fingerprint": pins.fingerprint(row.key) if row.key else "",
        "login": row.met.login if row.met else "", "seen": row.met.seen if row.met else None,
        "objections": [it.what for it in row.met.objections] if row.met else [],
        "through_watch": row.through_watch,
    }  # fmt: skip
