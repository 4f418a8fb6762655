"""`mastio quarantine` as a user meets it: output, exit codes, refusals."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mastio.cli.common import App
from mastio.cli.quarantine import quarantine
from mastio.errors import Exit, MastioError
from mastio.roles.gateway import holding as leaving
from mastio.roles.store import holding
from mastio.site.model import Site
from mastio.transport import Transport
from tests.sites import split_site

ANSWERS = """
import json, sys
asked = json.load(sys.stdin)
with open(sys.argv[1], "a") as log:
    log.write(json.dumps(asked) + "\\n")
entry = {"id": "Q-000000", "recipient": "ann@a.test", "original": "info@a.test", "sender": "eve@out.test",
         "reason": "virus", "arrived": 0, "from": "Eve", "subject": "Win", "size": 5, "sent": False}
sent = {**entry, "id": "S-000000", "recipient": "ann@out.test", "arrived": 2, "sent": True}
full = {**entry, "headers": [["Subject", "Win"]], "text": "Click", "parts": [
    {"type": "text/plain", "name": "", "size": 5}]}
match asked["action"]:
    case "list" if asked["filter"].get("recipient") == "@out.test": answer = [entry, sent]
    case "list": answer = [entry] if asked["filter"].get("subject") != "none" else []
    case "show": answer = [it for it in (full, {**full, **sent}) if asked["ids"] == [it["id"]]]
    case _: answer = [{"id": it, "done": it in ("Q-000000", "S-000000"), "why": "mailbox full",
                       "sent": it == "S-000000" and asked["action"] == "release"} for it in asked["ids"]]
print(json.dumps(answer))
"""
"""Stands for the store's program."""
LEAVING = """
import json, sys
asked = json.load(sys.stdin)
with open(sys.argv[1], "a") as log:
    log.write(json.dumps(asked) + "\\n")
entry = {"id": sys.argv[2], "recipient": "x@out.test, y@out.test", "original": "x@out.test, y@out.test",
         "recipients": ["x@out.test", "y@out.test"], "sender": "ann@a.test", "reason": "a document with macros",
         "arrived": 1, "from": "Ann", "subject": "Sums", "size": 7}
match asked["action"]:
    case "list": answer = [entry] if asked["filter"].get("subject") != "none" else []
    case "show": answer = [{**entry, "headers": [], "text": "", "parts": []}] if asked["ids"] == [entry["id"]] else []
    case _: answer = [{"id": it, "done": it == entry["id"], "why": "there is no such message in quarantine"}
                      for it in asked["ids"]]
print(json.dumps(answer))
"""
"""Stands for a sending gateway's program."""


class Machines(Transport):
    """All of them are this process' box; what each is asked is written to a log of its name."""

    def __init__(self, folder: Path, silent: Sequence[str]) -> None:
        self.folder, self.silent = folder, silent

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        log = str(self.folder / machine)
        if machine in self.silent:
            return [sys.executable, "-c", "import sys; sys.exit('no such program')"]
        if machine.startswith("gateway"):
            assert list(command) == [leaving.PROGRAM, "serve"]
            return [sys.executable, "-c", LEAVING, log, f"4gQueueOn{machine[-1]}"]
        assert machine == "store"
        assert list(command) == ["runuser", "-u", holding.USER, "--", holding.PROGRAM, "serve"]
        return [sys.executable, "-c", ANSWERS, log]

    def asked(self, machine: str = "store") -> list[dict[str, Any]]:
        log = self.folder / machine
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class Fake(App):
    """A site with such machines: two gateways send, one receives and has nothing to say here."""

    silent: Sequence[str] = ()

    def site(self) -> Site:
        site = split_site()
        out = site.machine("gateway-out")
        return replace(site, machines=(*site.machines, replace(out, name="gateway-out2")))

    def transport(self) -> Machines:
        return Machines(Path(self.given), self.silent)


@pytest.fixture
def app(tmp_path: Path) -> Fake:
    return Fake(str(tmp_path))


def run(app: App, *words: str) -> Result:
    return CliRunner().invoke(quarantine, words, obj=app, standalone_mode=False)


def error(result: Result) -> MastioError:
    assert isinstance(result.exception, MastioError)
    return result.exception


def test_list_shows_who_what_and_why(app: Fake) -> None:
    shown = run(app, "list", "--recipient", "a.test").stdout
    words = ("Q-000000", "ann@a.test", "Eve", "Win", "virus", "1970-01-01 00:00 UTC")
    assert all(word in shown for word in words)
    for machine in ("store", "gateway-out", "gateway-out2"):
        wanted = {"action": "list", "filter": {"recipient": "a.test"}}
        assert app.transport().asked(machine) == [wanted]
    assert not app.transport().asked("gateway-in")
    assert json.loads(run(app, "list", "--json").stdout)[0]["from"] == "Eve"


OUT, OUT2 = "4gQueueOnt", "4gQueueOn2"


def test_what_leaves_says_so_where_it_is_and_for_whom(app: Fake) -> None:
    assert "leaving, to x@out.test, y@out.test" in run(app, "list").stdout
    first, *rest = json.loads(run(app, "list", "--json").stdout)
    assert (first["id"], first["direction"], first["machine"]) == (
        "Q-000000",
        "incoming",
        "store",
    )
    assert first["recipients"] == ["ann@a.test"]
    assert [(it["id"], it["machine"]) for it in rest] == [
        (OUT2, "gateway-out2"),
        (OUT, "gateway-out"),
    ]
    assert {it["direction"] for it in rest} == {"leaving"}
    assert rest[0]["recipients"] == ["x@out.test", "y@out.test"]
    shown = run(app, "show", OUT2).stdout
    assert "held back: a document with macros, on gateway-out2" in shown
    assert "for:       leaving, to x@out.test, y@out.test\n" in shown
    assert not [it for it in app.transport().asked() if it["action"] == "show"], "not the store's"


def test_each_machine_is_asked_for_what_may_be_its_own(app: Fake) -> None:
    assert "released: 3 messages" in run(app, "release", "Q-000000", OUT, OUT2).stdout
    asked = {it: app.transport().asked(it) for it in ("store", "gateway-out", "gateway-out2")}
    assert asked == {
        "store": [{"action": "release", "ids": ["Q-000000"]}],
        "gateway-out": [{"action": "release", "ids": [OUT, OUT2]}],
        "gateway-out2": [{"action": "release", "ids": [OUT, OUT2]}],
    }
    unknown = error(run(app, "release", "4gNowhere"))
    assert unknown.message == "4gNowhere: there is no such message in quarantine"
    assert unknown.code is Exit.DATA


@pytest.mark.parametrize(
    ("silent", "left"), [("store", {OUT, OUT2}), ("gateway-out2", {"Q-000000", OUT})]
)
def test_who_is_silent_is_named_and_the_rest_is_shown(
    app: Fake, silent: str, left: set[str]
) -> None:
    app.silent = [silent]
    result = run(app, "list", "--json")
    assert {it["id"] for it in json.loads(result.stdout)} == left
    assert error(result).message == f"{silent}: the quarantine does not answer: no such program"
    there = "Q-000000" if silent == "store" else OUT2
    assert "does not answer" in error(run(app, "show", there)).message
    done = run(app, "release", there, *sorted(left))
    assert "released: 2 messages" in done.stdout
    assert error(done).message == f"{there}: {silent} did not answer"
    # What fits some options is decided where somebody answers; who did not is named.
    some = run(app, "release", "--sender", "e", "--yes")
    assert "released: 2 messages" in some.stdout and silent in error(some).message


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
    assert error(result).code is Exit.FAILED
    mixed = error(run(app, "release", "R-000000", "4gNowhere"))
    assert mixed.code is Exit.FAILED, "not all of it is a wrong name"


def test_what_was_sent_elsewhere_says_so_and_is_sent_again_by_its_name_alone(app: Fake) -> None:
    elsewhere = ("--recipient", "@out.test", "--yes")
    assert run(app, "list", *elsewhere[:2]).stdout.count("virus (released, a copy)\n") == 1
    assert "virus (released, a copy), on store" in run(app, "show", "S-000000").stdout
    assert "copy" not in run(app, "show", "Q-000000").stdout
    assert "copy" not in run(app, "release", *elsewhere).stdout
    said = run(app, "release", "Q-000000", "S-000000").stdout
    assert (
        said.startswith("released: 2 messages\nS-000000 is on its way out")
        and "a copy stays" in said
    )
    assert "copy" not in run(app, "delete", *elsewhere).stdout
    decided = [it for it in app.transport().asked() if "ids" in it and it["action"] != "show"]
    assert [(it["action"], it["ids"]) for it in decided] == [
        ("release", ["Q-000000"]),
        ("release", ["Q-000000", "S-000000"]),
        ("delete", ["Q-000000", "S-000000"]),
    ]
