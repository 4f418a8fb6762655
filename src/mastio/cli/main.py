"""The command line: the only place that prints errors and exits."""

import os
import sys
from importlib import import_module

import click

from mastio import __version__
from mastio.cli.common import App
from mastio.errors import Exit, MastioError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("site", "Write a new, commented site file"),
    "check": ("site", "Check the site file; every error at once"),
    "migrate": ("site", "Rewrite a site file of an older schema"),
    "flows": ("flows", "Show the flow matrix, or draw it"),
    "adopt": ("adopt", "Take machines that are there already: first contact"),
    "machines": ("machines", "One physical server: all machines on it, at every boot"),
    "plan": ("plan", "Show what apply would change"),
    "apply": ("plan", "Make the machines what the site file says"),
    "dns": ("dns", "Print what must stand in DNS, or check it"),
    "certificates": ("certificates", "Public certificates: how they stand, renew, your own"),
    "dkim": ("dkim", "Let the next DKIM keys sign"),
    "logs": ("logs", "What the machines wrote; and whether anybody changed it"),
    "trace": ("logs", "Tell what happened to a message"),
    "reports": ("reports", "What other organisations report of our mail"),
    "status": ("status", "What needs a person, and how every machine is"),
    "verify": ("verify", "Prove that the site is as designed, from every machine"),
    "alarms": ("alarms", "What is wrong and not yet well again; answer it"),
    "integrity": ("integrity", "What machines are made of, against a reference"),
    "digest": ("digest", "What the logs say of a day, and whether it needs a person"),
    "patches": ("patches", "Security updates, and what is vulnerable"),
    "upgrade": (
        "upgrade",
        "This version of mastio, and all that Debian has newer, on the machines",
    ),
    "backup": ("backup", "Archives of mail and accounts, and of what the filter learned"),
    "restore": ("restore", "Bring back what was archived"),
    "import": ("importing", "Bring mail over: from another IMAP server, a Maildir, mbox"),
    "rebuild": ("rebuild", "Bring a machine back from nothing"),
    "move": ("move", "What a machine did goes to others, with all that it holds"),
    "decommission": ("decommission", "Take a machine out of the site for good"),
    "drill": ("drill", "What if: a break-in, a loss; nothing is changed"),
    "evidence": ("evidence", "How the site stands, signed, for an auditor"),
    "renew": ("renew", "Renew certificates, the authority and DKIM keys that are due"),
    "secrets": ("secrets", "List and rotate generated secrets"),
    "domain": ("accounts", "Mail domains"),
    "user": ("accounts", "Mailboxes"),
    "alias": ("accounts", "Addresses that lead elsewhere"),
    "sync": ("accounts", "Give the gateways the current list of recipients"),
    "vpn": ("vpn", "People's devices in the site's tunnel, for mail programs of their own"),
    "quarantine": ("quarantine", "Mail that is held back, coming in or leaving"),
    "outbound": ("outbound", "Outgoing mail that is held, since its user sent too much"),
    "ban": ("ban", "Clients that the firewall keeps out"),
    "greylist": ("greylist", "Who must come again, who never has to, who is not wanted"),
    "lab": ("lab", "The whole site as machines on this box"),
}
"""Command → its module in `mastio.cli` and one line of help. Modules load only when used."""

EPILOG = """\
Exit codes: 0 done or nothing to do, 1 failed, 2 plan has changes or DNS differs, 64 wrong usage, 65 wrong input
(nothing was changed), 69 a machine is unreachable, 73 the box lacks something, 75 another mastio is at
work, 77 not permitted, 130 interrupted."""


class Lazy(click.Group):
    """A group whose commands are imported when they are called, so that `plan` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"mastio.cli.{COMMANDS[name][0]}")
        command = getattr(module, name, None) or getattr(module, f"{name}_")
        if not isinstance(command, click.Command):
            raise TypeError(f"mastio.cli.{COMMANDS[name][0]}.{name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=Lazy,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="mastio")
@click.option(
    "--site",
    envvar="MASTIO_SITE",
    metavar="FOLDER",
    default="",
    help="The site's folder (site.toml, secrets.age). Default: this folder if it has a site.toml, else ./demo.",
)
@click.pass_context
def cli(ctx: click.Context, site: str) -> None:
    """One site file becomes a complete, role-separated mail infrastructure.

    \b
    Try it:      mastio lab up                     the default site on this box, with mail inside
    Describe:    mastio init mysite && mastio --site mysite check
    See:         mastio flows; mastio plan
    Build:       mastio apply
    """
    ctx.obj = App(site)


def main() -> None:
    """Run the command line; never returns."""
    # Whoever reads our output through a pipe may go away; that is no error of ours.
    try:
        code = cli.main(prog_name="mastio", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else Exit.OK)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(Exit.USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.FAILED)
    except MastioError as error:
        complain(error)
        sys.exit(error.code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\ninterrupted", err=True)
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)
    except Exception as error:
        if os.environ.get("MASTIO_DEBUG"):
            raise
        complain(
            MastioError(
                f"a bug in mastio: {type(error).__name__}: {error}",
                hint="run it again with MASTIO_DEBUG=1 for the traceback, and report it",
            )
        )
        sys.exit(Exit.FAILED)


def complain(error: MastioError) -> None:
    """Print an error as users see it: what is wrong, then what to do."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(error.message, err=True)
    if error.hint:
        click.echo(f"  → {error.hint}", err=True)
