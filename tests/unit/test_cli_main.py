"""The command line as a newcomer meets it: help, mistakes, questions on a terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mastio.cli.main import COMMANDS, cli
from mastio.site import parse

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "mastio"]
ENVIRONMENT = {
    **{name: it for name, it in os.environ.items() if not name.startswith("MASTIO_")},
    "PYTHONPATH": str(REPOSITORY / "src"),
    "NO_COLOR": "1",
}


def mastio(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *argv], cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its full name."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield (name,), command
        if isinstance(command, click.Group):
            yield from (((name, below), it) for below, it in command.commands.items())


ALL = dict(commands())


@pytest.mark.parametrize("name", ALL, ids=" ".join)
def test_each_command_explains_itself(name: tuple[str, ...]) -> None:
    command = ALL[name]
    context = click.Context(command, info_name=" ".join(("mastio", *name)), max_content_width=100)
    text = command.get_help(context)
    assert text.startswith(f"Usage: mastio {' '.join(name)} ")
    assert (command.help or "").splitlines()[0].endswith((".", "it.", ":")), "one sentence first"
    assert max(map(len, text.splitlines())) <= 100
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not isinstance(parameter.type, click.Choice):
            assert parameter.help, f"{parameter.name} is not explained"


def test_the_main_help_names_commands_and_exit_codes(tmp_path: Path) -> None:
    done = mastio(tmp_path, "--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    codes = done.stdout.partition("Exit codes:")[2]
    for code in (0, 1, 2, 64, 65, 69, 73, 75, 77, 130):
        assert f" {code} " in codes.replace("\n", " ")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("frobnicate",), 64, "No such command 'frobnicate'"),
        (("user", "frobnicate"), 64, "No such command 'frobnicate'"),
        (("plan", "--frobnicate"), 64, "--frobnicate"),
        (("user", "add"), 64, "Missing argument 'ADDRESS'"),
        (("plan",), 65, "there is no site here"),
        (("--site", "nowhere", "check"), 65, "there is no site here"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, tuple) else None,
)
def test_a_mistake_gets_a_sentence_and_a_code(
    tmp_path: Path, argv: tuple[str, ...], code: int, words: str
) -> None:
    done = mastio(tmp_path, *argv)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_init_asks_on_a_terminal_for_what_is_missing(tmp_path: Path) -> None:
    answers = {
        "The organisation": "Fortress Ltd",
        "Mail domains": "fortress.test castle.test",
        "Addresses on the internet": "203.0.113.1 2001:db8:113::1",
        "The mailbox for alarms": "alice@fortress.test",
    }
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [*COMMAND, "init", "hill", "--reach", "lab"], ENVIRONMENT)
    shown, left = "", dict(answers)
    while True:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError:  # EIO: it has ended
            break
        for question in [it for it in left if it in shown and shown.rstrip().endswith(":")]:
            os.write(terminal, f"{left.pop(question)}\n".encode())
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert left == {}, "not asked"
    site = parse.load(tmp_path / "hill" / "site.toml")
    assert (site.name, site.organisation) == ("hill", "Fortress Ltd")
    assert site.domains == ("fortress.test", "castle.test")
    assert [str(it) for it in site.public] == ["203.0.113.1", "2001:db8:113::1"]
    assert site.admin_mail == "alice@fortress.test"


def test_init_without_a_terminal_names_all_that_is_missing(tmp_path: Path) -> None:
    done = mastio(tmp_path, "init", "hill", "--domain", "fortress.test")
    assert done.returncode == 64
    for option in ("--organisation", "--public", "--admin", "--admin-network", "--admin-key"):
        assert option in done.stderr
    assert "--domain" not in done.stderr
    assert not (tmp_path / "hill").exists()
