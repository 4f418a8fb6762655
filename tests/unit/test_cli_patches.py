"""`mastio patches` as a user meets it: words, exit codes, refusals."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mastio.cli.common import App
from mastio.cli.patches import patches
from mastio.errors import Exit, MastioError
from mastio.hearing import MOST
from mastio.integrity.client import LEDGER
from mastio.site.model import Site
from mastio.transport import Transport
from tests.sites import demo_site

RECORD: dict[str, Any] = {
    "machine": "store", "by": "me", "began": 1.0, "seconds": 9.0, "updated": [["tick", "1.0", "1.1"]],
    "restarted": ["tick.service"], "left": [], "gone": [], "due": False, "rebooted": False, "rebooting": False,
    "error": "", "worse": [], "seal": ["a", "b"], "before": None, "boot": "1",
}  # fmt: skip
GOOD: dict[str, Any] = {
    "machine": "store", "last": {**RECORD, "good": time.time()}, "why": "", "waiting": [], "reboot": False,
    "support": {"release": "trixie", "security": "2028-08-09", "long": "2030-06-30", "over": False}, "age": 60.0,
    "vulnerabilities": [], "counts": {"high": {"all": 0, "fixed": 0}},
}  # fmt: skip
LAST = {"seals": [["a", "b"]], "fetches": False}


class Watch(Transport):
    """Watch that answers with `lines`."""

    def __init__(self, lines: Sequence[Any]) -> None:
        self.lines = lines

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def stream(
        self, machine: str, command: Sequence[str], stdin: bytes = b"", rest: Iterable[bytes] = (),
        most: int | None = MOST,
    ) -> Iterator[bytes]:  # fmt: skip
        assert machine == "watch"
        yield from (json.dumps(it).encode() for it in self.lines)
        if any("error" in it for it in self.lines):
            raise MastioError("watch: exit code 1")


class Fake(App):
    lines: Sequence[Any] = ()

    def site(self) -> Site:
        return demo_site()

    def transport(self) -> Watch:
        return Watch(self.lines)


def call(folder: Path, lines: Sequence[Any], *words: str) -> Result:
    app = Fake(str(folder))
    app.lines = lines
    return CliRunner().invoke(patches, list(words), obj=app, standalone_mode=False)


def test_all_well_is_zero_and_the_seal_follows(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text(json.dumps({"seal": "a", "machines": ["store"]}))
    done = call(tmp_path, [GOOD, LAST])
    assert done.return_value == Exit.OK, done.output
    for words in (
        "store: updated",
        "Debian trixie, fixes until 2028-08-09",
        "vulnerabilities: none known",
        "1 updates",
    ):
        assert words in done.output
    assert json.loads((tmp_path / LEDGER).read_text())["seal"] == "b"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"waiting": ["tick"]}, Exit.FAILED, "fixes wait: tick"),
        ({"reboot": True}, Exit.FAILED, "a reboot is due"),
        ({"support": {**GOOD["support"], "over": True}}, Exit.FAILED, "gets no fixes any more"),
        (
            {"last": {**GOOD["last"], "error": "no disk"}},
            Exit.FAILED,
            "the last update failed: no disk",
        ),
        (
            {"last": {**GOOD["last"], "worse": ["H1@store: x"]}},
            Exit.FAILED,
            "worse after the last update: H1",
        ),
        ({"last": None}, Exit.UNAVAILABLE, "was not updated within a week"),
        (
            {"last": {**GOOD["last"], "good": time.time() - 8 * 86400}},
            Exit.UNAVAILABLE,
            "within a week",
        ),
        ({"age": None}, Exit.UNAVAILABLE, "data on trixie are missing"),
        ({"age": 5 * 86400.0}, Exit.UNAVAILABLE, "are 5d old: too old"),
        ({"why": "no answer"}, Exit.UNAVAILABLE, "no answer"),
    ],
)
def test_what_is_not_well_is_said(
    tmp_path: Path, change: dict[str, Any], code: Exit, words: str
) -> None:
    done = call(tmp_path, [{**GOOD, **change}, LAST], "status")
    assert done.return_value == code and words in done.output, done.output


def test_a_vulnerability_with_a_fix_is_named_others_when_asked(tmp_path: Path) -> None:
    one = {"name": "CVE-1", "package": "tick", "urgency": "high", "remote": True, "fixed": True}
    row = {**GOOD, "vulnerabilities": [one, {**one, "name": "CVE-2", "fixed": False}]}
    text = call(tmp_path, [row, LAST], "status").output
    assert "CVE-1 tick: high, from afar; a fix is there" in text and "CVE-2" not in text
    assert (
        "CVE-2 tick: high, from afar; no fix yet"
        in call(tmp_path, [row, LAST], "status", "--all").output
    )


def test_a_run_says_what_was_done_and_what_was_left_alone(tmp_path: Path) -> None:
    done = call(
        tmp_path,
        [{"machine": "store", "step": "updating"}, {"record": RECORD}, {"left": []}],
        "run",
    )
    assert done.return_value == Exit.OK
    for words in (
        "store: updating",
        "1 packages updated",
        "tick 1.0 → 1.1",
        "restarted: tick.service",
    ):
        assert words in done.output
    bad = {**RECORD, "worse": ["H1@store: nobody listens"]}
    done = call(tmp_path, [{"record": bad}, {"left": ["watch"]}], "run")
    assert done.return_value == Exit.FAILED and "left alone: watch" in done.output
    done = call(tmp_path, [{"record": bad}, {"left": ["watch"]}], "run", "--json")
    assert json.loads(done.output)["left"] == ["watch"]


def test_a_refusal_is_watchs_own_words(tmp_path: Path) -> None:
    error = {"error": "no such machine: x", "hint": "this site has store", "code": 64}
    done = call(tmp_path, [error], "run", "x")
    assert isinstance(done.exception, MastioError)
    assert (done.exception.message, done.exception.code) == ("no such machine: x", Exit.USAGE)
