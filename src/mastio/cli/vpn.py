"""`mastio vpn add | list | revoke`: people's devices in the site's tunnel."""

import json
import subprocess
import time
from dataclasses import dataclass

import click

from mastio import pki
from mastio import vpn as tunnel
from mastio.cli.common import App, pass_app
from mastio.cli.directory import json_flag
from mastio.errors import Exit, MastioError
from mastio.report.words import span
from mastio.roles.vpn import INTERFACE, KEY, devices
from mastio.site import values
from mastio.site.model import Role


@click.group()
def vpn() -> None:
    """Let people's own mail programs in, a device at a time (`clients = "vpn"` in the site file).

    \b
    mastio vpn add alice-phone --user alice@fortress.test
    mastio vpn list                      who was there, and when
    mastio vpn revoke alice-phone        at once, and for good

    A device reaches IMAP and submission on the store, and nothing else of the site; devices do not reach each
    other. Its user logs in with address and password, as in the webmail.
    """


@vpn.command("add")
@click.argument("name")
@click.option("--user", default="", metavar="ADDRESS", help="Whose device it is, for `vpn list`.")
@click.option("--no-qr", is_flag=True, help="Print the text alone.")
@json_flag
@pass_app
def vpn_add(app: App, name: str, user: str, no_qr: bool, as_json: bool) -> Exit:
    """Let a device in; print what its WireGuard must know, as text and as a QR code.

    It holds the device's private key, is printed this once, and nobody keeps it: bring it to the device, then clear
    the screen. A device that has lost it is revoked and added anew. The firewall knows the device when this command
    ends: it is applied to, with whatever else the site file says of it.
    """
    if user:
        try:
            user = values.mail(user)
        except ValueError as error:
            raise MastioError(str(error), code=Exit.USAGE) from None
    site, vault = app.site(), app.vault
    device, private = tunnel.add(vault, site, name, user)
    text = tunnel.configuration(vault, site, device, private)
    vault.save()
    late = _bring(app)
    if as_json:
        click.echo(json.dumps({"name": name, "configuration": text, "late": late}, indent=2))
    else:
        click.echo(text, nl=False)
        if not no_qr:
            click.echo(qr_code(text))
    if late:
        click.secho(
            f"warning: the firewall does not know {name} yet: {late}", fg="yellow", err=True
        )
        click.echo("  → the next `mastio apply` lets it in", err=True)
    return Exit.UNAVAILABLE if late else Exit.OK


@vpn.command("revoke")
@click.argument("name")
@json_flag
@pass_app
def vpn_revoke(app: App, name: str, as_json: bool) -> Exit:
    """Shut a device out, at once: what it has open ends as well.

    A lost device also has its user's password in its mail program: `mastio user change ADDRESS --password`.
    """
    device = tunnel.revoke(app.vault, app.site(), name)
    app.vault.save()
    late = _bring(app)
    if as_json:
        click.echo(json.dumps({"name": name, "user": device.user, "late": late}, indent=2))
    elif not late:
        click.echo(f"{name} is shut out")
    if late:
        click.secho(f"warning: {name} STILL GETS IN: {late}", fg="red", err=True)
        click.echo("  → `mastio apply` as soon as the firewall is back", err=True)
    return Exit.UNAVAILABLE if late else Exit.OK


@vpn.command("list")
@json_flag
@pass_app
def vpn_list(app: App, as_json: bool) -> Exit:
    """List the devices, and when each was last there."""
    site, vault = app.site(), app.vault
    tunnel.must_be_wanted(site)
    why, seen = "", dict[str, Seen]()
    try:
        seen = _seen(app)
    except MastioError as error:
        why = error.message
    known = devices(vault)
    rows = [
        {
            "name": it.name,
            "user": it.user,
            "since": it.since,
            "addresses": [str(address) for address in it.addresses],
            "public_key": it.public,
            "known": it.public in seen,
            "last_handshake": last.handshake,
            "endpoint": last.endpoint,
            "received": last.received,
            "sent": last.sent,
        }
        for it in known
        for last in (seen.get(it.public, _NEVER),)
    ]
    strangers = sorted(seen.keys() - {it.public for it in known})
    if as_json:
        key = pki.wireguard_public(vault[KEY])
        click.echo(
            json.dumps(
                {"server_key": key, "devices": rows, "strangers": strangers, "late": why}, indent=2
            )
        )
    else:
        for row in rows:
            click.echo(_line(row, asked=not why))
        if not rows:
            click.echo("no device is let in")
        for key in strangers:
            click.secho(f"{key}  the firewall lets it in, and nobody has added it", fg="red")
    if why:
        click.secho(f"warning: the firewall was not asked: {why}", fg="yellow", err=True)
        return Exit.UNAVAILABLE
    if strangers:
        click.echo("  → `mastio apply` shuts it out; then find out who let it in", err=True)
        return Exit.FAILED
    return Exit.OK


@dataclass(frozen=True, slots=True)
class Seen:
    """What the firewall knows of a device."""

    endpoint: str
    handshake: int
    """Seconds since the epoch; 0: never."""
    received: int
    sent: int


_NEVER = Seen("", 0, 0, 0)


def _seen(app: App) -> dict[str, Seen]:
    """By public key; MastioError when the firewall does not answer."""
    machine = _firewall(app)
    done = app.transport().run(machine, ["wg", "show", INTERFACE, "dump"])
    if done.code:
        words = done.stderr.decode(errors="replace").strip()
        raise MastioError(f"{machine}: there is no tunnel: {words}", hint="`mastio apply` makes it")
    return dump(done.stdout.decode())


def dump(text: str) -> dict[str, Seen]:
    """What `wg show INTERFACE dump` says (wg(8)): the first line is our own."""
    found = {}
    for line in text.splitlines()[1:]:
        public, _, endpoint, _, handshake, received, sent, *_ = line.split("\t")
        where = "" if endpoint == "(none)" else endpoint
        found[public] = Seen(where, int(handshake), int(received), int(sent))
    return found


def _line(row: dict[str, object], *, asked: bool) -> str:
    handshake = int(str(row["last_handshake"]))
    if not asked:
        last = "?"
    elif not row["known"]:
        last = "not yet on the firewall: `mastio apply`"
    elif handshake:
        last = f"there {span(max(0.0, time.time() - handshake))} ago, from {row['endpoint']}"
    else:
        last = "never there"
    addresses = row["addresses"]
    assert isinstance(addresses, list)  # noqa: S101 — made above
    return (
        f"{row['name']}  {row['user'] or '-'}  {', '.join(addresses)}  since {row['since']}  {last}"
    )


def _firewall(app: App) -> str:
    return app.site().carrying(Role.FIREWALL)[0].name


def _bring(app: App) -> str:
    """Applies to the firewall; why it did not work, or nothing."""
    from mastio.cli.plan import bring

    machine = _firewall(app)
    try:
        outcomes, _ = bring(app, (machine,), ask=False, quiet=True)
    except MastioError as error:
        return error.message
    return "" if outcomes is None or outcomes[machine].ok else outcomes[machine].words


def qr_code(text: str) -> str:
    """A QR code in the terminal, by Debian's qrencode; without it, how to get it. The key goes by stdin."""
    try:
        done = subprocess.run(
            ["qrencode", "-t", "ansiutf8"], input=text, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "(a QR code needs qrencode on this machine: apt-get install qrencode)"
    return done.stdout
