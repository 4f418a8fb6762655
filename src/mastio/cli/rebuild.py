"""`mastio rebuild`: a machine comes back from nothing."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click

from mastio.apply import Planned, apply_all, plan_all, site_lock
from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.hearing import BULK
from mastio.heldmail import shown
from mastio.report.words import span
from mastio.restoring.client import Archive, Restoring
from mastio.restoring.whole import everything, state
from mastio.roles.store import COUNTER
from mastio.roles.store.learning import PROGRAMS
from mastio.site.model import Machine, Role
from mastio.transport import Transport, last_line

_WAITS = b"deferred transport"
"""Why mail waits that `defer_transports` holds, as qmgr(8) says it."""
_SOON = 30.0
"""Seconds within which a reload is over."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it."""

    machine: str
    archive: str
    """The archive that came back; empty: none."""
    mailboxes: int
    messages: int
    """That had to be brought one by one, into mailboxes that were there."""
    files: int
    """Of other state."""
    recovery_seconds: float
    """From the beginning until it does its work (RTO)."""
    lost_seconds: float | None
    """The time before the beginning of which nothing came back (RPO)."""


@click.command()
@click.argument("machine")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option(
    "--without-archive", is_flag=True, help="Build it though there is nothing to bring back."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def rebuild(app: App, machine: str, yes: bool, without_archive: bool, as_json: bool) -> Exit:
    """Bring MACHINE back from nothing: from the site file, the vault and its newest archive.

    In the lab the machine is thrown away and made anew; elsewhere, first put a fresh Debian 13 in its place, with
    root's ssh key, at its addresses. A store takes no mail before all that was archived is back; until then the
    gateways keep what comes. A gateway gets back what its filter has learned, the webmail its users' settings. Of mail
    that a gateway held on its way out, only whose it was comes back: a warning says so, for you to tell them.

    Of watch nothing is archived: logs, references and archives that were on it alone are gone. Killed in between,
    run it again: what came back stays.
    """
    site = app.site()
    names = [it.name for it in site.machines]
    if machine not in names:
        raise MastioError(
            f"no such machine: {machine}", hint=f"this site has {', '.join(names)}", code=Exit.USAGE
        )
    target = site.machine(machine)
    if not yes and not sys.stdin.isatty():
        raise MastioError(
            "rebuild asks first, and nobody is there to answer", hint="use --yes", code=Exit.USAGE
        )

    def tell(words: str) -> None:
        if not as_json:
            click.echo(words, err=True)

    restoring = Restoring(site, app.transport(), tell)
    archive = _newest(restoring, target, without_archive)
    if not yes:
        came = f"from the archive of {_day(archive.at)}" if archive else "with nothing brought back"
        price = " What it holds now is thrown away." if app.in_lab else ""
        click.confirm(f"Rebuild {machine} {came}?{price}", abort=True, err=True)
    began, clock = time.time(), time.monotonic()
    gone: list[str] = []
    with site_lock(app.folder), _mail_waits(app, target, tell):
        if app.in_lab:
            tell(f"{machine}: made anew")
            _anew(app, machine)
        _apply(app, machine, tell)
        mailboxes = messages = files = 0
        if archive and target.has(Role.STORE):
            _, outcomes, _ = everything(restoring, archive)
            mailboxes = sum(it.whole for it in outcomes)
            messages = sum(it.put for it in outcomes)
        if archive:
            files = state(restoring, archive, target)
        late = (
            gateways_told(app) if target.has(Role.STORE, Role.GATEWAY_IN, Role.GATEWAY_OUT) else []
        )
        if target.has(Role.GATEWAY_IN):
            late += _told_again(app, machine)
        if archive and target.has(Role.GATEWAY_OUT):
            gone, unknown = lost(restoring, archive)
            late += unknown
    done = Rebuilt(
        machine, archive.name if archive else "", mailboxes, messages, files,
        round(time.monotonic() - clock, 1), round(began - archive.at, 1) if archive else None,
    )  # fmt: skip
    _measured(app, machine)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
    else:
        _print(done)
    for why in (*gone, *late):
        click.secho(f"warning: {why}", fg="yellow", err=True)
    return Exit.UNAVAILABLE if late else Exit.OK


def lost(restoring: Restoring, archive: Archive) -> tuple[list[str], list[str]]:
    """Words for each message that was on hold; or why they are not known."""
    try:
        held = restoring.on_hold(archive)
    except MastioError as error:
        return [], [f"whose mail was on hold is not known: {error.message}"]
    return [
        f"gone unless it had left: mail of <{shown(it.sender)}> to {shown(', '.join(it.recipients))}, "
        f"on hold since {_day(it.arrived)}; tell its sender"
        for it in held
    ], []


def _newest(restoring: Restoring, target: Machine, without: bool) -> Archive | None:
    """What there is to bring back. A store without any is refused: its mail would be gone for good."""
    if without or target.has(Role.WATCH):
        return None
    try:
        return restoring.choose(None, target.name)
    except MastioError as error:
        if not target.has(Role.STORE):
            return None
        raise MastioError(
            f"nothing of {target.name} can be brought back: {error.message}",
            hint="--without-archive builds it empty", code=error.code,
        ) from None  # fmt: skip


def _anew(app: App, machine: str) -> None:
    from mastio.cli.lab import Progress
    from mastio.lab import ground, ssh
    from mastio.lab.model import machines
    from mastio.lab.provider import Lab

    site = app.site()
    lab, progress = Lab(site.name), Progress()
    if machine in {it.name for it in lab.machines()}:  # not when an earlier run was cut short here
        lab.reset(machine)
    lab.up(machines(site, ground.states(site, app.vault)), progress)
    ssh.write(site)  # it has another host key


def _apply(app: App, machine: str, tell: object) -> None:
    """The machine as the site file says."""
    found = plan_all(app.transport(), {machine: app.states()[machine]})[machine]
    if not isinstance(found, Planned):
        raise found
    outcome = apply_all(app.transport(), {machine: found}, lambda *_: None)[machine]
    if not outcome.ok:
        raise MastioError(
            f"{machine}: {outcome.words}", hint="mend it and run this again", code=outcome.code
        )
    if app.in_lab:
        from mastio.cli.lab import Progress
        from mastio.lab.provider import Lab

        Lab(app.site().name).settle(Progress())


@contextmanager
def _mail_waits(app: App, target: Machine, tell: object) -> Iterator[None]:
    """Until a store has its accounts back the gateways hand nothing over: it would call users unknown.

    Postfix's defer_transports (postconf(5)): mail is taken and waits. It stays so when this is cut short, until it runs
    again or `mastio apply` puts the gateways' configuration back.
    """
    if not target.has(Role.STORE):
        yield
        return
    gateways = [
        it.name for it in app.site().carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT) if it != target
    ]
    transport = app.transport()
    for it in gateways:
        _must(transport, it, "postconf", "-e", "defer_transports=store")
        _must(transport, it, "postfix", "reload")
    yield
    for it in gateways:
        _must(transport, it, "postconf", "-X", "defer_transports")
        _must(transport, it, "postfix", "reload")
        _try_all(transport, it)


def _try_all(transport: Transport, machine: str) -> None:
    """Has all that waited tried at once; who hears it first may be a queue manager that the reload is just ending."""
    end = time.monotonic() + _SOON
    while True:
        _must(transport, machine, "postqueue", "-f")
        if _WAITS not in transport.run(machine, ["postqueue", "-j"], most=BULK).stdout:
            return
        if (
            time.monotonic() > end
        ):  # it is tried by itself within two minutes (minimal_backoff_time)
            return
        time.sleep(1)


def _must(transport: Transport, machine: str, *argv: str) -> None:
    done = transport.run(machine, argv)
    if done.code:
        raise MastioError(f"{machine}: {' '.join(argv)}: {last_line(done.stderr) or done.code}")


def gateways_told(app: App) -> list[str]:
    """Gateways learn who there is, and what is not greylisted; as after every apply. Why some did not."""
    from mastio.accounts.client import Accounts
    from mastio.greylist.client import Greylist

    late = [
        f"the list of recipients: {why}"
        for _, why in Accounts(app.site(), app.transport()).sync().late
    ]
    told = Greylist(app.site(), app.transport(), app.folder).push()
    return late + [it.why for it in told if it.why]


def _told_again(app: App, gateway: str) -> list[str]:
    """Whom users have written to, a gateway knows as of its archive, or not at all; the store thinks that it knows
    everything. Why it is not told."""
    (store,) = app.site().carrying(Role.STORE)
    # As the program's own user: what root makes there, it could not write.
    argv = ["runuser", "-u", COUNTER, "--", f"{PROGRAMS}/learn", "retell"]
    argv.append(app.site().internal_name(gateway))
    try:
        _must(app.transport(), store.name, *argv)
    except MastioError as error:
        return [f"{gateway} is not told whom users have written to: {error.message}"]
    return []


def _measured(app: App, machine: str) -> None:
    """A machine that was made anew has another reference."""
    from mastio.integrity.client import Integrity

    integrity = Integrity(app.site(), app.transport(), app.folder)
    if machine in integrity.kept:
        try:
            list(integrity.renew([machine], "rebuilt", tools=False))
        except MastioError as error:
            click.secho(f"warning: integrity: {error.message}", fg="yellow", err=True)


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _print(done: Rebuilt) -> None:
    click.secho(f"{done.machine} is back after {done.recovery_seconds:.1f} s (RTO)", fg="green")
    if done.mailboxes or done.messages:
        click.echo(f"  {done.mailboxes} mailboxes whole, {done.messages} messages into others")
    if done.files:
        click.echo(f"  {done.files} files of its state")
    if done.lost_seconds is None:
        click.echo("  nothing was brought back: it has no archive")
    else:
        click.echo(
            f"  from {done.archive}: what it got in the {span(done.lost_seconds)} before this began is not in it (RPO)"
        )
