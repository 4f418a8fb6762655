"""`mastio quarantine` as a user meets it: output, exit codes, refusals."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mastio.cli.common import App
from mastio.cli.quarantine import quarantine
from mastio.errors import Exit, MastioError
from mastio.roles.store import holding
from mastio.site.model import Site
from mastio.transport import Transport
from tests.sites import demo_site

ANSWERS = """
import json, sys
asked = json.load(sys.stdin)
with open(sys.argv[1], "a") as log:
    log.write(json.dumps(asked) + "\\n")
entry = {"id": "Q-000000", "recipient": "ann@a.test", "original": "info@a.test", "sender": "eve@out.test",
         "reason": "virus", "arrived": 0, "from": "Eve", "subject": "Win", "size": 5}
full = {**entry, "headers": [["Subject", "Win"]], "text": "Click", "parts": [
    {"type": "text/plain", "name": "", "size": 5}]}
match asked["action"]:
    case "list": answer = [entry] if asked["filter"].get("subject") != "none" else []
    case "show": answer = [full] if asked["ids"] == ["Q-000000"] else []
    case _: answer = [{"id": it, "done": it == "Q-000000", "why": "mailbox full"} for it in asked["ids"]]
print(json.dumps(answer))
"""
"""Stands for the store's program."""


class Store(Transport):
    """The store is this process' box; what is asked is written to `log`."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        assert machine == "store"
        assert list(command) == ["runuser", "-u", holding.USER, "--", holding.PROGRAM, "serve"]
        return [sys.executable, "-c", ANSWERS, str(self.log)]

    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


class Fake(App):
    """The default site with that store."""

    def site(self) -> Site:
        return demo_site()

    def transport(self) -> Store:
        return Store(Path(self.given) / "log")


@pytest.fixture
def app(tmp_path: Path) -> Fake:
    (tmp_path / "log").touch()
    return Fake(str(tmp_path))


def run(app: App, *words: str) -> Result:
    return CliRunner().invoke(quarantine, words, obj=app, standalone_mode=False)


def error(result: Result) -> MastioError:
    assert isinstance(result.exception, MastioError)
    return result.exception


def test_list_shows_who_what_and_why(app: Fake) -> None:
    shown = run(app, "list", "--recipient", "a.test").stdout
    assert all(word in shown for word in ("Q-000000", "ann@a.test", "Eve", "Win", "virus"))
    assert app.transport().asked() == [{"action": "list", "filter": {"recipient": "a.test"}}]
    assert json.loads(run(app, "list", "--json").stdout)[0]["from"] == "Eve"


def test_show(app: Fake) -> None:
    shown = run(app, "show", "Q-000000").stdout
    assert "sent to info@a.test" in shown and "Subject: Win" in shown and "Click" in shown
    assert error(run(app, "show", "X-000000")).code is Exit.DATA


@pytest.mark.parametrize("verb", ["release", "delete"])
def test_a_verdict_needs_to_know_which(app: Fake, verb: str) -> None:
    for words in ((), ("Q-000000", "--sender", "eve")):
        result = run(app, verb, *words, "--yes")
        assert result.exception and "say which messages" in str(result.exception)
    assert not app.transport().asked()


def test_many_at_once_and_deleting_want_a_yes(app: Fake) -> None:
    for words in (("delete", "Q-000000"), ("delete", "--older", "3"), ("release", "--sender", "e")):
        refused = error(run(app, *words))
        assert refused.code is Exit.USAGE and "--yes" in refused.hint
    assert not app.transport().asked()
    assert run(app, "release", "Q-000000").return_value is Exit.OK
    assert run(app, "delete", "--sender", "eve", "--yes").return_value is Exit.OK
    assert [it["action"] for it in app.transport().asked()] == ["release", "list", "delete"]


def test_nothing_that_fits_is_no_error(app: Fake) -> None:
    result = run(app, "delete", "--subject", "none", "--yes")
    assert result.return_value is Exit.OK and "0 messages" in result.stdout


def test_what_could_not_be_done_is_said(app: Fake) -> None:
    result = run(app, "release", "Q-000000", "R-000000")
    assert "released: 1 message\n" in result.stdout
    assert "R-000000: mailbox full" in error(result).message
