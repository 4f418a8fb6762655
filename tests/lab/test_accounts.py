"""`mastio domain | user | alias` on the live site: what they change, and that what is wrong changes nothing.

That a new user gets mail within seconds, and can log in, is in `test_mail`.
"""

import csv
import json
import os
import pty
import select
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from mastio.accounts.client import Accounts, Listing
from mastio.cli import users
from tests.lab import mail
from tests.lab.conftest import REPOSITORY, mastio
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import token

pytestmark = pytest.mark.lab

PASSWORD = "Seven-oaks-by-the-river"


@pytest.fixture
def other(lab: Lab) -> Iterator[str]:
    """A domain that is gone, with all in it, after the test."""
    name = f"{token()}.test"
    lab.mastio("domain", "add", name)
    yield name
    left = listing(lab)
    for kind, options, things in (("user", ["--purge"], left.users), ("alias", [], left.aliases)):
        if doomed := [it.address for it in things if it.address.endswith(f"@{name}")]:
            lab.mastio(kind, "delete", *doomed, *options)
    lab.mastio("domain", "delete", name)


def listing(lab: Lab) -> Listing:
    """All that the directory holds."""
    return Accounts(lab.site, lab.transport).listing()


def show(lab: Lab, kind: str, key: str) -> dict[str, object]:
    return dict(json.loads(lab.mastio(kind, "show", key, "--json")))


# --- the verbs


def test_a_domain_lives_and_goes(lab: Lab) -> None:
    before, name = listing(lab), f"{token()}.test"
    owner = next(iter(lab.accounts))
    lab.mastio("domain", "add", name.upper(), "--catch-all", owner)
    assert show(lab, "domain", name)["catch_all"] == owner
    assert mail.recipient(lab, f"anybody@{name}")[0] == 250
    lab.mastio("domain", "change", name, "--no-catch-all")
    assert show(lab, "domain", name)["catch_all"] == ""
    assert mail.recipient(lab, f"anybody@{name}")[0] == 550
    lab.mastio("domain", "delete", name)
    assert listing(lab) == before


def test_a_user_lives_changes_and_goes(lab: Lab, other: str) -> None:
    before, address = listing(lab), f"ann@{other}"
    added = lab.mastio("user", "add", address, "--name", "Ann Øre", "--quota", "77", "--generate")
    password = added.partition("password: ")[2].strip()
    assert len(password) == 20
    assert mail.lets_in(lab, address, password)
    shown = show(lab, "user", address)
    assert (shown["name"], shown["quota_mib"], shown["enabled"]) == ("Ann Øre", 77, True)
    assert password not in lab.mastio("user", "show", address)

    target = next(iter(lab.accounts))
    lab.mastio("user", "change", address, "--name", "Ann", "--quota", "0", "--forward-to", target)
    shown = show(lab, "user", address)
    assert (shown["name"], shown["quota_mib"], shown["forwards"]) == ("Ann", 0, [target])
    assert mail.lets_in(lab, address, password), "what was not named must stay"

    lab.mastio("user", "change", address, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert mail.lets_in(lab, address, PASSWORD)
    assert not mail.lets_in(lab, address, password)
    row = next(line for line in lab.mastio("user", "list", other).splitlines() if address in line)
    assert "Ann" in row and target in row
    lab.mastio("user", "delete", address, "--purge")
    assert listing(lab) == before


def test_an_alias_lives_changes_and_goes(lab: Lab, other: str) -> None:
    before, address = listing(lab), f"sales@{other}"
    alice, bob = lab.accounts
    lab.mastio("alias", "add", address, alice, bob)
    assert show(lab, "alias", address)["targets"] == [alice, bob]
    assert f"{address}  → {alice}, {bob}" in lab.mastio("alias", "list")
    lab.mastio("alias", "change", address, bob)
    assert show(lab, "alias", address)["targets"] == [bob]
    assert mail.recipient(lab, address)[0] == 250
    lab.mastio("alias", "delete", address)
    assert mail.recipient(lab, address)[0] == 550
    assert listing(lab) == before


def test_a_table_of_users_is_imported_whole(lab: Lab, other: str, tmp_path: Path) -> None:
    table, passwords = tmp_path / "users.csv", tmp_path / "passwords.csv"
    table.write_text(f"address,name,quota\nxi@{other},Ξ,\nyo@{other},Yo,12\n", "utf-8")
    assert "done: 2 changes" in lab.mastio(
        "user", "import", str(table), "--passwords-to", str(passwords)
    )
    assert passwords.stat().st_mode & 0o777 == 0o600
    rows = {
        it["address"]: it["password"] for it in csv.DictReader(passwords.read_text().splitlines())
    }
    assert rows.keys() == {f"xi@{other}", f"yo@{other}"}
    for address, password in rows.items():
        assert mail.lets_in(lab, address, password)
    assert show(lab, "user", f"yo@{other}")["quota_mib"] == 12


# --- what is wrong changes nothing


def test_one_wrong_row_refuses_the_table(lab: Lab, other: str, tmp_path: Path) -> None:
    before, table = listing(lab), tmp_path / "users.csv"
    table.write_text(
        f"address,quota\ngood@{other},10\nno-domain,10\nbad@{other},many\n"
        f"good@{other},10\nfar@elsewhere.test,1\n"
    )
    done = mastio(
        lab.folder, "user", "import", str(table), "--passwords-to", str(tmp_path / "passwords")
    )
    assert done.returncode == 65
    for line in (3, 4, 5, 6):
        assert f"{table}:{line}: " in done.stderr
    assert f"{table}:2: " not in done.stderr
    assert not (tmp_path / "passwords").exists()
    assert listing(lab) == before


def test_every_wrong_input_is_refused_and_changes_nothing(lab: Lab, other: str) -> None:
    alice = next(iter(lab.accounts))
    domain = lab.site.domains[0]
    wrong = [
        ("domain", "add", "not a domain"),
        ("domain", "add", other),
        ("domain", "add", f"{token()}.test", "--catch-all", "nobody"),
        ("domain", "change", "unknown.test", "--no-catch-all"),
        ("domain", "delete", domain),
        ("user", "add", "no-at-sign", "--generate"),
        ("user", "add", f"two@@{other}", "--generate"),
        ("user", "add", "ann@elsewhere.test", "--generate"),
        ("user", "add", f"ann@{other}", "--generate", "--quota", "-1"),
        ("user", "add", f"ann@{other}", "--generate", "--forward-to", "nowhere"),
        ("user", "add", alice, "--generate"),
        ("user", "show", f"nobody@{other}"),
        ("user", "change", f"nobody@{other}", "--name", "N"),
        ("user", "delete", alice, f"nobody@{other}"),
        ("alias", "add", f"loop@{other}", f"loop@{other}"),
        ("alias", "add", alice, f"ann@{other}"),
        ("alias", "add", f"new@{other}", "nowhere"),
        ("alias", "change", f"nobody@{other}", alice),
        ("alias", "delete", f"nobody@{other}"),
    ]
    before = listing(lab)
    with ThreadPoolExecutor(4) as pool:
        refused = list(pool.map(lambda argv: mastio(lab.folder, *argv), wrong))
    for argv, done in zip(wrong, refused, strict=True):
        assert done.returncode == 65, f"{argv}: {done.returncode} {done.stdout}{done.stderr}"
        assert done.stderr.startswith("error: "), argv
        assert "bug" not in done.stderr, argv
    for weak in ("short", f"ann@{other}", "aaaaaaaaaaaaaaaa"):
        done = mastio(
            lab.folder, "user", "add", f"ann@{other}", "--password-stdin", stdin=f"{weak}\n"
        )
        assert done.returncode == 65
        assert "password" in done.stderr
        assert f"{weak} " not in done.stderr
    assert listing(lab) == before


# --- passwords


def test_no_option_takes_a_password_as_its_value() -> None:
    for command in users.user.commands.values():
        for option in command.params:
            if isinstance(option, click.Option) and "password" in option.name:
                assert option.is_flag or option.name == "passwords_to"


def on_a_terminal(folder: Path, *argv: str, answers: list[str]) -> tuple[int, str]:
    """Run mastio on a terminal of its own and answer each prompt; exit code and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
        os.chdir(REPOSITORY)
        command = [sys.executable, "-m", "mastio", "--site", str(folder), *argv]
        os.execv(sys.executable, command)
    shown, answered, left, end = b"", 0, list(answers), time.monotonic() + 300
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            part = os.read(terminal, 4096)
        except OSError:  # EIO: the other side is closed
            break
        shown += part
        # What was shown before the last answer asks nothing any more: its line may end before the next prompt comes.
        if left and shown[answered:].rstrip().endswith(b":"):
            time.sleep(0.1)
            os.write(terminal, left.pop(0).encode() + b"\n")
            answered = len(shown)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode(errors="replace")


def test_a_terminal_is_asked_for_the_password_twice_and_shows_nothing(lab: Lab, other: str) -> None:
    address = f"pat@{other}"
    code, shown = on_a_terminal(
        lab.folder, "user", "add", address, answers=[PASSWORD, "a slip", PASSWORD, PASSWORD]
    )
    assert code == 0, shown
    assert "do not match" in shown
    assert PASSWORD not in shown and "a slip" not in shown
    assert mail.lets_in(lab, address, PASSWORD)


def test_where_nobody_can_answer_it_says_so(lab: Lab, other: str) -> None:
    done = mastio(lab.folder, "user", "add", f"pat@{other}")
    assert done.returncode == 64
    assert "--password-stdin" in done.stderr
