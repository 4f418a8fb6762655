"""Losses that rsyslog itself counts: its lines, as it writes them."""

import json
from pathlib import Path
from typing import Any

from mastio.digest import losses
from mastio.digest.losses import Loss
from mastio.watch.logbook import listen, news
from tests.unit.watch.test_logbook import DAY, NOW, stamp, write

LINE = (
    "to-watch: origin=core.queue size=212 enqueued=4011 full=37 discarded.full={} discarded.nf=0 "
    "maxqsize=212"
)
"""rsyslog 8.2504's impstats, as it came from a store whose queue was full."""


MISSED = "Forwarding to syslog missed 1272 messages."
"""systemd 257's journald, as it came from a store that had more to write than rsyslog read."""


def told(logs: Path, lost: int, at: float, number: int) -> None:
    """A minute of a machine: its counters, and its sign of life."""
    write(logs, "store", number, at)
    with (logs / "store" / f"{DAY}.log").open("a") as file:
        file.write(
            f"{stamp(at)} store {stamp(at)} syslog.warning {losses.COUNTERS}: {LINE.format(lost)}\n"
        )


def test_a_counter_is_read() -> None:
    assert losses.loss(losses.COUNTERS, LINE.format(37)) == Loss("to-watch", 37)
    assert losses.loss(
        losses.COUNTERS,
        "main Q: origin=core.queue size=1 enqueued=2 full=0 discarded.full=0 discarded.nf=4 maxqsize=9",
    )
    for text in (
        LINE.format(0),
        "action-1-builtin:omfile: origin=core.action processed=8 failed=0",
        "",
        "x" * 9000,
    ):
        assert losses.loss(losses.COUNTERS, text) is None


def test_what_journald_could_not_hand_on_is_read() -> None:
    assert losses.loss(losses.MISSED, MISSED) == Loss("journald to rsyslog", 1272, counter=False)
    assert losses.loss(losses.MISSED, "Journal started") is None
    assert losses.loss(losses.COUNTERS, MISSED) is None
    assert losses.loss(losses.MISSED, LINE.format(37)) is None


def test_each_word_of_journald_is_a_loss_of_its_own(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    for at in (NOW, NOW + 120):
        write(tmp_path, "store", 1, at)
        with (tmp_path / "store" / f"{DAY}.log").open("a") as file:
            head = f"{stamp(at)} store {stamp(at)} daemon.info {losses.MISSED}: "
            file.write(f"{head}Journal started\n{head}{MISSED}\n")
        state["events"] = {}
        wrong = listen(tmp_path, state, ("store",), at + 1)
        words = "1272 lines were thrown away: the queue was full (journald to rsyslog)"
        assert wrong["store lost lines"] == words


def test_what_grows_is_told_and_what_only_stays_is_not(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    told(tmp_path, 0, NOW - 60, 1)
    assert listen(tmp_path, state, ("store",), NOW) == {}
    told(tmp_path, 37, NOW, 2)
    wrong = listen(tmp_path, state, ("store",), NOW + 1)
    words = "37 lines were thrown away: the queue was full (to-watch)"
    assert wrong == {"store lost lines": words}
    alarm = news("demo", "logs (life)", {}, wrong, NOW)
    assert alarm and alarm.subject == "[demo] logs are NOT as they should be: store lost lines"
    state = json.loads(json.dumps(state))
    for minute in range(1, 4):
        told(tmp_path, 37, NOW + 60 * minute, 2 + minute)
        assert listen(tmp_path, state, ("store",), NOW + 60 * minute + 1) == wrong, "told for a day"
    later = NOW + 86_400 + 300
    told(tmp_path, 37, later, 6)
    assert listen(tmp_path, state, ("store",), later + 1).get("store lost lines") is None
    told(tmp_path, 5, later + 60, 7)
    assert listen(tmp_path, state, ("store",), later + 61)["store lost lines"].startswith(
        "5 lines"
    ), "a new start"


def test_a_line_that_only_quotes_a_counter_is_none(tmp_path: Path) -> None:
    write(tmp_path, "store", 1, NOW)
    with (tmp_path / "store" / f"{DAY}.log").open("a") as file:
        file.write(
            f"{stamp(NOW)} store {stamp(NOW)} user.notice sh: x {losses.COUNTERS}: {LINE.format(9)}\n"
        )
    assert listen(tmp_path, {}, ("store",), NOW + 1) == {}
