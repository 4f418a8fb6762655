"""What watch finds in archives, as far as no borg is needed."""

import json
from collections.abc import Sequence
from typing import Any, cast

from mastio.cli.rebuild import lost
from mastio.errors import MastioError
from mastio.restoring.client import Archive, OnHold, Restoring
from mastio.watch.archives import Archives
from mastio.watch.restoring import QUEUE, on_hold


def entry(queue: str, sender: str) -> str:
    people = [{"address": "x@out.test"}, {"address": "y@out.test"}]
    return json.dumps({
        "queue_name": queue, "queue_id": "4g", "arrival_time": 86400, "message_size": 1, "sender": sender,
        "recipients": people,
    })  # fmt: skip


class Gateways:
    """The archives of one."""

    def __init__(self, *lines: str) -> None:
        self.files = {QUEUE: "\n".join(lines)} if lines else {}

    def text(self, archive: str, paths: Sequence[str]) -> dict[str, str]:
        assert archive == "gateway-1"
        return {it: self.files[it] for it in paths if it in self.files}


def found(*lines: str) -> list[dict[str, Any]]:
    return [*on_hold(cast(Archives, Gateways(*lines)), {"archive": "gateway-1"})]


def test_what_was_on_hold_is_named() -> None:
    (it,) = found(entry("deferred", "bob@a.test"), entry("hold", "ann@a.test"))
    assert it == {
        "sender": "ann@a.test",
        "recipients": ["x@out.test", "y@out.test"],
        "arrived": 86400,
    }
    assert QUEUE == "var/lib/mastio/backup-here/dumps/queue.json"


def test_an_archive_without_a_queue_names_nothing() -> None:
    assert not found()
    assert not found(entry("active", "ann@a.test"))


class Answers:
    """Of watch, to what an administrator's side asks."""

    def __init__(self, *held: OnHold, error: str = "") -> None:
        self.held, self.error = held, error

    def on_hold(self, archive: Archive) -> list[OnHold]:
        if self.error:
            raise MastioError(self.error)
        return [*self.held]


def asked(answers: Answers) -> tuple[list[str], list[str]]:
    return lost(cast(Restoring, answers), Archive("gateway", "gateway-1", 0))


def test_its_sender_is_to_be_told() -> None:
    held = OnHold("ann\x1b@a.test", ("x@out.test", "y@out.test"), 86400)
    assert asked(Answers(held)) == (
        [
            "gone unless it had left: mail of <ann @a.test> to x@out.test, y@out.test, "
            "on hold since 1970-01-02 00:00:00 UTC; tell its sender"
        ],
        [],
    )


def test_an_archive_that_cannot_be_read_is_not_an_empty_queue() -> None:
    assert asked(Answers()) == ([], [])
    why = "whose mail was on hold is not known: no archive"
    assert asked(Answers(error="no archive")) == ([], [why])
