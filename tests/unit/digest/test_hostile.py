"""Whoever may write to a machine's log writes what he likes: a line is counted or not, and the next one is read."""

import json
import re
from pathlib import Path

import pytest

from mastio.digest import losses
from mastio.digest.judge import Digest
from mastio.digest.keeping import Keeping
from mastio.digest.lines import Reader
from mastio.digest.memory import Memory
from mastio.digest.summary import Summary
from mastio.digest.tally import Tally
from mastio.report import digest as report
from mastio.reports.read import IDENT
from tests.unit.digest.lines import DELIVERED, INNER, QID, line, read
from tests.unit.digest.test_intrusion import INSIDE, eve, suricata
from tests.unit.digest.test_others import logged_in

NUMBERS = ("1e999", "-1e999", "NaN", "-7", "9" * 400, "9" * 4300, "9" * 5000, "١", "")
"""What stands where a program writes a number."""


def said(number: str) -> dict[str, bytes]:
    """What is read of lines with a number in them, by what they are."""
    counter = f"main Q: origin=core.queue size=1 discarded.full={number} discarded.nf={number}"
    scan = f"<df07a4>; proxy; rspamd_task_write_log: id: <a>, (default: F (no action): [1]), time: {number}ms,"
    active = f"{QID}: from=<a@b>, size={number}, nrcpt=1 (queue active)"
    sent = f"{QID}: to=<a@b>, relay=x, delay={number}, delays=1, dsn=2.0.0, status=sent (ok)"
    dmarc = f'{{"kind":"dmarc","messages":{number},"failed":{number},"sources":{{"a":{number}}}}}'
    tls = f'{{"kind":"tls","sessions":{number},"failed":{number},"types":{{"a":{number}}}}}'
    return {
        "report": line("store", IDENT, dmarc),
        "TLS report": line("store", IDENT, tls),
        "alert": suricata(eve(INSIDE).replace('"severity":1', f'"severity":{number}')),
        "size": DELIVERED[2] + line("gateway", "postfix/qmgr[3]", active),
        "delay": line("gateway", "postfix/smtp[3]", sent),
        "scan": line("gateway", "rspamd[3]", scan),
        "lost": line("store", losses.COUNTERS, counter),
        "missed": line("store", losses.MISSED, f"Forwarding to syslog missed {number} messages."),
    }


DEEP = {
    "report": line("store", IDENT, "[" * 8000),
    "alert": suricata('{"timest":' * 4000),
    "alert in an alert": suricata(f'{{"timest":1,"event_type":"alert","alert":{"[" * 8000}'),
}
KINDS = tuple(said("1"))
NEXT = line("gateway", "postfix/pickup[3]", f"{INNER}: uid=0 from=<root>")


def told(summary: Summary) -> str:
    """Every way in which it is told; raises when one fails."""
    digest = Digest("demo", "2026-11-24T00", "2026-11-25T00", {"2026-11-24T21": summary})
    json.dumps(summary.plain(), allow_nan=False)
    json.dumps(report.data(digest), allow_nan=False)
    return report.text(digest) + report.html(digest)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda it: f"{it[:8]} ({len(it)})")
def test_a_number_that_is_none_stops_nobody(kind: str, number: str) -> None:
    hostile = said(number)[kind]
    found = read(hostile, hostile, hostile, NEXT)
    assert found.count("postfix.received.pickup") == 1 and told(found)


@pytest.mark.parametrize("kind", DEEP)
def test_brackets_without_an_end_stop_nobody(kind: str) -> None:
    found = read(DEEP[kind], NEXT)
    assert found.count("postfix.received.pickup") == 1 and told(found)
    assert found.count("reading.unreadable") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_with_a_number_is_read(kind: str) -> None:
    found = read(said("7")[kind])
    assert not found.count("reading.unreadable") and told(found)
    expected = {
        "report": "dmarc.messages", "TLS report": "tls reports.sessions", "alert": "intrusion.others",
        "size": "bytes.in", "delay": "sent.smtp", "scan": "filter.no action", "lost": "trouble.logs lost",
        "missed": "trouble.logs lost",
    }  # fmt: skip
    assert found.count(expected[kind]) in (1, 7, 14)


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    lines = [*DEEP.values(), *(it for number in NUMBERS for it in said(number).values())]
    (tmp_path / "logs" / "store").mkdir(parents=True)
    (tmp_path / "logs" / "store" / "2026-11-24.log").write_bytes(b"".join(lines))
    kept = Keeping(tmp_path / "kept")
    assert kept.advance(tmp_path / "logs") == b"".join(lines).count(b"\n")
    assert kept.advance(tmp_path / "logs") == 0


_NAMED = re.compile(r"^\S+ .* (smtpd|smtp|lmtp)\n(?:  -o .*\n)*?  -o syslog_name=(\S+)$", re.M)


def test_the_names_that_our_services_have_are_known() -> None:
    trees = Path(__file__).parents[2] / "golden"
    found = {it for path in trees.rglob("master.cf") for it in _NAMED.findall(path.read_text())}
    assert len(found) >= 6
    for program, name in found:
        name = f"{name}/{program}"
        words = (
            f"{QID}: client=a[10.77.1.10]"
            if program == "smtpd"
            else f"{QID}: to=<a@b>, delay=1, status=sent (ok)"
        )
        counted = [
            it for it in read(line("gateway", f"{name}[3]", words)).counts if it.endswith(program)
        ]
        assert counted and all(it.endswith(f".{name.removeprefix('postfix/')}") for it in counted)


def made_up(number: int) -> tuple[bytes, ...]:
    """Lines with a name that no program of ours has."""
    name = f"x{number}"
    return (
        line("gateway", f"postfix/{name}/smtpd[3]", f"{QID}: client=a[203.0.113.9]"),
        line("gateway", f"postfix/{name}/smtpd[3]", "NOQUEUE: reject: RCPT from a[203.0.113.9]: 554 no; from=<a> to=<b>"),
        line("gateway", f"postfix/{name}/smtp[3]", f"{QID}: to=<a@b>, delay=1, delays=1, dsn=2.0.0, status=sent (ok)"),
        line("gateway", f"postfix{name}/smtp[3]", f"{QID}: to=<a@b>, delay=1, delays=1, dsn=4.0.0, status=deferred (no)"),
        line("gateway", "postfix/smtp[3]", f"{QID}: to=<a@b>, delay=1, delays=1, dsn=4.0.0, status={name} (no)"),
        line("gateway", "rspamd[3]", f"<df07a4>; proxy; rspamd_task_write_log: id: <a>, (default: F ({name}): [1]), time: 1ms,"),
    )  # fmt: skip


def test_what_is_counted_has_names_of_ours() -> None:
    """Names that lines may choose would fill the memory; tops are cut down, counts are not."""
    few, many = (read(*(it for no in range(some) for it in made_up(no))) for some in (1, 50))
    for one, other in ((few.counts, many.counts), (few.tops, many.tops), (few.times, many.times)):
        assert one.keys() == other.keys()
    assert many.counts.items() >= {
        "postfix.received.elsewhere/smtpd": 50, "postfix.rejected.elsewhere/smtpd": 50, "sent.elsewhere/smtp": 50,
        "deferred.elsewhere/smtp": 50, "filter.another verdict": 50, "otherwise.smtp": 50,
    }.items()  # fmt: skip


def test_long_names_do_not_fill_the_memory() -> None:
    """Eight thousand octets each, as much as rsyslog takes: for usual ones there is room for many."""
    memory, hours = Memory(), dict[str, Tally]()
    reader = Reader("store", memory, hours)
    for block in range(40):
        long = [f"{block}.{it}.{'x' * 8000}" for it in range(50)]
        reader.feed([
            it.rstrip(b"\n")
            for name in long
            for it in (
                line("store", "mastio-quota", name), logged_in(name, "203.0.113.7"),
                line("store", "rspamd[3]", f"<df07a4>; proxy; rspamd_task_write_log: id: <a>, (default: F (no action)), time: {name}ms,"),
                line("store", "postfix/smtpd[3]", f"a{name}: client=a[203.0.113.9]"),
                line("store", "postfix/qmgr[3]", f"a{name}: from=<{name}>, size=1, nrcpt=1 (queue active)"),
            )
        ])  # fmt: skip
    (tally,) = hours.values()
    assert 500 < len(tally.tops["nearly full"]) <= 2000
    for names in (*tally.tops.values(), *tally.times.values()):
        assert sum(map(len, names)) < 6_000_000
    summary = tally.frozen()
    assert summary.count("reading.unreadable") == 2000, "such times are none"
    assert len(json.dumps(summary.plain())) < 1_000_000
    assert len(json.dumps(memory.plain())) < 3_000_000


def test_a_usual_name_is_kept_whole() -> None:
    name = "a" * 250 + "@x.test"
    lines = [line("store", "mastio-quota", f"{it}{name}") for it in range(600)]
    (one, number), *_ = read(*lines[:2], *lines).top("nearly full")
    assert one.endswith(name) and number >= 1
