"""Each thing that a program says when it is in trouble, as it says it, to the words in the digest."""

import pytest

from mastio.digest.judge import _TROUBLE, Digest, needs
from mastio.digest.lines import _ALARMING
from mastio.digest.need import Level
from mastio.digest.summary import Summary
from tests.unit.digest.lines import line, read

SAID = (
    ("disk full", "kernel", "loop: Write error at byte offset 4096: No space left on device"),
    ("disk full", "valkey-server[7]", "Write error saving DB on disk: disk full"),
    ("read-only disk", "logrotate[7]", "error: failed to rename /var/log/x: Read-only file system"),
    ("out of memory", "kernel", "Out of memory: Killed process 812 (clamd) total-vm:1412KB, anon-rss:1300KB"),
    ("out of memory", "kernel", "clamd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"),
    ("out of memory", "systemd[1]", "clamav-daemon.service: Failed with result 'oom-kill'."),
    ("out of memory", "systemd[1]", "clamav-daemon.service: A process of this unit has been killed by the OOM killer."),
    ("quota", "doveadm[7]", "Error: saving failed: Quota exceeded (mailbox for user is full)"),
    ("quota", "cp[7]", "cannot write: Disk quota exceeded"),
    ("logs lost", "rsyslogd", "action-3-omrelp queue: queue is full, message is discarded"),
    ("clock", "chronyd[7]", "Can't synchronise: no selectable sources (1 unreachable sources)"),
    ("a service failed", "systemd[1]", "rspamd.service: Failed with result 'timeout'."),
    ("a service failed", "init", "rspamd.service: Failed with result 'exit-code'."),
    ("a program crashed", "kernel", "rspamd[612]: segfault at 0 ip 00007f2b sp 00007ffd error 4 in libc.so.6"),
    ("a program crashed", "cron[7]", "Segmentation fault (core dumped)"),
    ("a program crashed", "webd[7]", "panic: runtime error: index out of range"),
    ("a program crashed", "systemd[1]", "rspamd.service: Failed with result 'core-dump'."),
)  # fmt: skip
CALM = (
    ("kernel", "loop: module loaded, space left: enough"),
    ("systemd[1]", "clamav-daemon.service: Deactivated successfully."),
    ("chronyd[7]", "Selected source 10.77.4.10"),
    ("rsyslogd", "action-3-omrelp queue: queue is empty"),
)


def judged(summary: Summary) -> list[tuple[Level, str]]:
    hours = {"2026-11-24T21": summary}
    digest = Digest("demo", "2026-11-24T00", "2026-11-25T00", hours)
    return [(it.level, it.words) for it in needs(digest)]


@pytest.mark.parametrize(("trouble", "tag", "text"), SAID, ids=[it[2] for it in SAID])
def test_who_is_in_trouble_is_told(trouble: str, tag: str, text: str) -> None:
    found = read(line("store", tag, text), line("store", tag, text))
    assert found.below("trouble") == {trouble: 2}
    level, words = _TROUBLE[trouble]
    assert judged(found) == [(level, f"{words} (2 ×)")]
    rows = found.top("trouble") + found.top("failed services")
    assert {name.partition(":")[0] for name, _ in rows} == {"store"}
    # The need leads to the table that has it.
    table = "failed services" if trouble == "a service failed" and tag != "init" else "trouble"
    assert len(found.top(table)) == 1


@pytest.mark.parametrize(("tag", "text"), CALM)
def test_who_is_in_none_is_not(tag: str, text: str) -> None:
    found = read(line("store", tag, text))
    assert not found.below("trouble") and not judged(found)


def test_every_mark_has_a_line_and_every_trouble_its_words() -> None:
    for trouble, mark in _ALARMING:
        assert any(mark.decode() in text for kind, _, text in SAID if kind == trouble), mark
        assert trouble in _TROUBLE
