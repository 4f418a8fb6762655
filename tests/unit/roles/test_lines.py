"""What was on its way to watch when rsyslog ended: which lines are sent again, and which are accounted for."""

import json
from pathlib import Path

import pytest

from mastio.roles.common import lines
from tests import sites
from tests.unit.roles.test_common import built, file

WAY = "fd00:49:7::a"
END = lines.end(WAY, 6514)
HEAD = (
    "  sl  local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n"
)


def line(number: int, text: str = "x") -> bytes:
    return f"<22>1 2026-12-01T08:00:00.000001+00:00 store probe - - -  {number} {text}\n".encode()


def several(*numbers: int) -> bytes:
    return b"".join(map(line, numbers))


def connection(
    state: str = "01", unarrived: int = 0, unread: int = 70, inode: int = 7, to: str = END
) -> str:
    octets = f"{unarrived:08X}:{unread:08X}"
    return f"   0: 0:ED68 {to} {state} {octets} 00:00000000 00000000     0        0 {inode} 1\n"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> lines.Record:
    monkeypatch.setattr(lines, "SPOOL", tmp_path)
    return lines.Record("watch")


def add(file: Path, content: bytes) -> None:
    with file.open("ab") as it:
        it.write(content)


def read_by_rsyslog(record: lines.Record, offset: int) -> Path:
    state = lines.SPOOL / f"imfile-state:{record.again.stat().st_ino}:0f"
    state.write_text(json.dumps({"filename": str(record.again), "curr_offs": offset}))
    return state


def test_the_last_lines_are_more_than_can_be_open(record: lines.Record) -> None:
    assert lines.LINES > lines.WINDOW + lines.BATCH and lines.SIZE >= lines.LINES * lines.LONGEST
    count = lines.LINES + 50
    assert lines.last(several(*range(count))) == several(*range(50, count))


@pytest.mark.parametrize(
    "junk",
    [
        b"\0" * 4096,
        b"no priority at all\n",
        b"<22>1 cut off by a power cut",
        b"<22>1 with a \0 in it\n",
        b"\n\n",
        b"<9999>1 2026 store\n",
    ],
)
def test_what_is_no_line_is_not_sent(junk: bytes) -> None:
    assert lines.last(several(1, 2) + junk) == several(1, 2)
    if junk.endswith(b"\n"):
        assert lines.last(line(1) + junk + line(2)) == several(1, 2)


def test_a_line_that_was_cut_off_spoils_no_other(record: lines.Record) -> None:
    add(record.now, line(1) + line(2)[:30])
    record.start()
    assert record.again.read_bytes().startswith(line(1))
    add(record.now, line(3))
    record.start()
    assert record.again.read_bytes().endswith(line(3))


def test_of_a_long_line_is_sent_what_was_sent_before() -> None:
    assert lines.last(line(1, 9000 * "y") + line(2)) == line(1, 9000 * "y")[:8096] + b"\n" + line(2)


def test_octets_that_are_no_text_pass_as_they_are() -> None:
    odd = b"<22>1 2026-12-01T08:00:00+00:00 store probe - - - \xff\xfe\x0b\x1c\xe2\x80\xa8 end\n"
    assert lines.last(line(1) + odd) == line(1) + odd


def test_the_kernels_words_for_the_end_of_a_connection() -> None:
    assert lines.end("10.77.3.10", 6514) == "0A034D0A:1972"
    assert lines.end("fde3:0aa1:7f:4900::a", 6514) == "A10AE3FD00497F00000000000A000000:1972"


@pytest.mark.parametrize(
    ("table", "unread"),
    [
        (connection(), 70),
        (connection(to="0A034D0A:1972"), 0),  # somebody else
        (connection(unread=0), 0),  # nobody has answered what was sent last
        (connection(unarrived=1), 0),  # it is on its way
        (connection("08"), 0),  # watch has ended it
        (connection("02"), 0),  # it begins
        (connection() + connection("06", inode=0, unread=0), 70),  # a former one is no matter
        (connection() + connection("08"), 0),
        ("", 0),
    ],
)
def test_what_a_connection_shows(table: str, unread: int) -> None:
    assert lines.answers(HEAD + table, {END}) == unread


def test_what_stands_behind_the_place_is_sent_again_once(record: lines.Record) -> None:
    record.start()
    assert record.again.read_bytes() == b""
    add(record.now, several(1, 2))
    record.start()
    assert record.again.read_bytes() == several(1, 2)
    made = record.again.stat().st_ino
    record.start()  # it ends at once, again and again: nothing is added
    assert record.again.stat().st_ino == made
    read_by_rsyslog(record, len(several(1, 2)))
    add(record.now, several(1, 2, 3))  # what rsyslog has sent again is recorded as well
    record.account(record.size())
    add(record.now, line(4))
    record.start()
    assert record.again.read_bytes() == line(4)
    assert not [*lines.SPOOL.glob("imfile-state:*")], "an inode comes again"


def test_what_rsyslog_had_no_time_to_read_is_still_sent(record: lines.Record) -> None:
    add(record.now, several(1, 2, 3))
    record.start()
    read_by_rsyslog(record, len(line(1)))
    add(record.now, line(4))
    record.start()
    assert record.again.read_bytes() == several(2, 3, 4)


def test_a_record_is_followed_into_the_next(record: lines.Record) -> None:
    add(record.now, several(1, 2))
    record.account(record.size())
    add(record.now, line(3))
    record.now.replace(record.former)
    add(record.now, line(4))
    assert record.after(record.known()) == several(3, 4)
    record.start()
    assert record.again.read_bytes() == several(3, 4)
    assert record.after(record.known()) == b""


def test_a_place_that_fits_nothing_accounts_for_nothing(record: lines.Record) -> None:
    add(record.former, line(1))
    add(record.now, line(2))
    for place in ((0, 0), (1, 5), (record.now.stat().st_ino, 10_000)):
        assert record.after(place) == several(1, 2)
    record.place.write_text("nonsense")
    assert record.known() == (0, 0)


def test_a_record_does_not_grow_without_end(record: lines.Record) -> None:
    record.turn()
    add(record.now, line(1))
    record.turn()
    assert record.now.exists() and not record.former.exists()
    record.account(record.size())
    for number in (2, 3):
        add(record.now, line(number, "z") + b"\0" * lines.SIZE)
        record.turn()
        assert not record.now.exists() and record.former.stat().st_size > lines.SIZE
    assert record.known() == (0, 0), "the inode that it names may come again"
    assert len(record.after((0, 0))) <= 2 * lines.SIZE


def test_only_quiet_with_answers_accounts_for_what_was_sent(
    record: lines.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "QUIET", 0.0)
    add(record.now, several(1, 2))
    shown = {"now": HEAD}
    monkeypatch.setattr(lines, "_connections", lambda: shown["now"])
    lines.stop(record, {END})
    assert record.known() == (0, 0)
    numbers = iter(range(70, 1000))
    monkeypatch.setattr(lines, "_connections", lambda: HEAD + connection(unread=next(numbers)))
    lines.stop(record, {END})
    assert record.known() == (0, 0), "answers still come"
    monkeypatch.setattr(lines, "_connections", lambda: HEAD + connection())
    lines.stop(record, {END})
    assert record.known() == record.size()


def test_a_machine_that_sends_has_the_program_and_its_rsyslog_calls_it() -> None:
    state = built(sites.demo_site(), "store")
    assert file(state, "/usr/local/lib/mastio/mastio-lines").mode == 0o755
    known = json.loads(file(state, str(lines.CONFIG)).content)
    assert {port for _, port in known["watch"]} == {6514}
    unit = file(state, "/etc/systemd/system/rsyslog.service.d/mastio.conf").content
    assert "mastio-lines start\n" in unit and "mastio-lines stop\n" in unit
    config = file(state, "/etc/rsyslog.conf").content
    record = config.index('type="omfile" file="/var/spool/rsyslog/sent-to-watch"')
    assert config.index('ruleset(\n    name="to-watch"') < record < config.index('type="omrelp"')
    assert "\ncall to-watch\n" in config


def test_who_sends_nothing_has_none() -> None:
    for site, machine in ((sites.demo_site(), "watch"), (sites.single_site(), "mail")):
        state = built(site, machine)
        assert str(lines.CONFIG) not in {it.path for it in state.files}
        assert (
            "mastio-lines"
            not in file(state, "/etc/systemd/system/rsyslog.service.d/mastio.conf").content
        )


QI = b"""\
<OPB:1:qqueue:1:
+iQueueSize:2:2:73:
+tVars.disk.sizeOnDisk:2:5:49958:
>End
.
<Obj:1:strm:1:
+iCurrFNum:2:1:1:
+pszFName:1:8:to-watch:
+iMaxFiles:2:8:10000000:
+bDeleteOnClose:2:1:0:
+sType:2:1:1:
+tOperationsMode:2:1:2:
+tOpenMode:2:3:384:
+iCurrOffs:2:5:49958:
+inode:2:1:0:
+strtOffs:2:1:0:
+bPrevWasNL:2:1:0:
>End
.
<Obj:1:strm:1:
+iCurrFNum:2:1:1:
+pszFName:1:8:to-watch:
+iMaxFiles:2:8:10000000:
+bDeleteOnClose:2:1:1:
+sType:2:1:1:
+tOperationsMode:2:1:1:
+tOpenMode:2:3:384:
+iCurrOffs:2:5:18791:
+inode:2:1:0:
+strtOffs:2:5:18791:
+bPrevWasNL:2:1:0:
>End
.
"""
"""As rsyslog 8.2504 wrote it."""


def queued(number: int) -> bytes:
    text = f"<22>Dec  1 12:59:14 probe: line {number}"
    return f"<Obj:1:msg:1:\n+iSeverity:2:1:6:\n+pszRawMsg:1:{len(text)}:{text}:\n>End\n.\n".encode()


ONE = len(queued(10))


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> lines.Queue:
    monkeypatch.setattr(lines, "SPOOL", tmp_path)
    return lines.Queue("watch")


def holds(queue: lines.Queue, files: dict[int, int]) -> None:
    """So many messages in each file, numbered from 10 on, all of the same length."""
    number = 10
    for name, count in files.items():
        queue.file(name).write_bytes(b"".join(map(queued, range(number, number + count))))
        number += count


def says(queue: lines.Queue, count: int, written: lines.Place, read: lines.Place) -> None:
    queue.state.write_bytes(queue.said(count, 7, written, read))


def test_the_state_is_written_as_rsyslog_writes_it(queue: lines.Queue) -> None:
    assert queue.said(73, 49958, (1, 49958), (1, 18791)) == QI
    queue.state.write_bytes(QI)
    assert queue.known() == (73, (1, 49958), (1, 18791))


@pytest.mark.parametrize(
    ("files", "said", "found"),
    [
        # Behind by three lines, and by what was read.
        ({1: 9}, (4, (1, 6 * ONE), (1, 2 * ONE)), (7, (1, 9 * ONE), (1, 2 * ONE))),
        # It went on in the next file.
        ({1: 9, 2: 5}, (4, (1, 6 * ONE), (1, 2 * ONE)), (12, (2, 5 * ONE), (1, 2 * ONE))),
        # A next file is to be begun.
        ({1: 9}, (7, (2, 0), (1, 2 * ONE)), (7, (1, 9 * ONE), (1, 2 * ONE))),
        # Files of another time, which rsyslog would not come to.
        ({1: 9, 5: 4, 6: 3}, (4, (1, 6 * ONE), (1, 2 * ONE)), (7, (1, 9 * ONE), (1, 2 * ONE))),
        # What it reads was read to its end and deleted.
        ({3: 9, 4: 2}, (4, (2, 6 * ONE), (2, 2 * ONE)), (11, (4, 2 * ONE), (3, 0))),
        # It says more than is there: a power cut.
        ({1: 9}, (30, (1, 40 * ONE), (1, 2 * ONE)), (7, (1, 9 * ONE), (1, 2 * ONE))),
        ({1: 9}, (30, (1, 40 * ONE), (1, 30 * ONE)), (9, (1, 9 * ONE), (1, 0))),
    ],
)  # fmt: skip
def test_a_state_that_is_behind_is_brought_up_to_date(
    queue: lines.Queue,
    files: dict[int, int],
    said: tuple[int, lines.Place, lines.Place],
    found: tuple[int, lines.Place, lines.Place],
) -> None:
    holds(queue, files)
    says(queue, *said)
    queue.mend()
    assert queue.known() == found
    octets = ONE * sum(count for name, count in files.items() if name <= found[1][0])
    assert f"+tVars.disk.sizeOnDisk:2:{len(str(octets))}:{octets}:" in queue.state.read_text()
    assert queue.state.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("there", [0, 3])
def test_a_state_that_is_right_is_left_alone(queue: lines.Queue, there: int) -> None:
    holds(queue, {1: 9, 2: there})
    says(queue, 2 + there, (2, there * ONE), (1, 7 * ONE))
    before = queue.state.read_bytes()
    queue.mend()
    assert queue.state.read_bytes() == before


@pytest.mark.parametrize("said", [b"", b"rubbish", None])
def test_without_a_state_all_that_is_there_is_read(queue: lines.Queue, said: bytes | None) -> None:
    holds(queue, {1: 3, 2: 4})
    if said is not None:
        queue.state.write_bytes(said)
    queue.mend()
    assert queue.known() == (7, (2, 4 * ONE), (1, 0))


def test_a_state_without_a_queue_goes(queue: lines.Queue) -> None:
    """rsyslog would look for lines that nobody has."""
    queue.mend()
    says(queue, 5, (2, 3 * ONE), (1, 7 * ONE))
    queue.mend()
    assert not queue.state.exists()


def test_what_was_on_its_way_is_sent_again_whatever_the_queue_is_like(
    record: lines.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lines.Record("watch2")
    for it in (record, other):
        add(it.now, several(1, 2))

    def fails(_: lines.Queue) -> None:
        raise OSError("a queue as nobody thought")

    monkeypatch.setattr(lines.Queue, "mend", fails)
    with pytest.raises(OSError, match="nobody thought"):
        lines.main("start", {"watch": [], "watch2": []})
    assert record.again.read_bytes() == other.again.read_bytes() == several(1, 2)


def test_all_queues_are_mended_at_the_start(queue: lines.Queue) -> None:
    other = lines.Queue("watch2")
    for it in (queue, other):
        holds(it, {1: 3})
    lines.main("start", {"watch": [], "watch2": []})
    assert queue.known() == other.known() == (3, (1, 3 * ONE), (1, 0))


def test_what_is_no_message_is_not_read(queue: lines.Queue) -> None:
    """A power cut left zeros where it had begun to read."""
    queue.file(1).write_bytes(b"".join(map(queued, range(10, 15))) + b"\0" * 4 * ONE)
    says(queue, 2, (1, 8 * ONE), (1, 6 * ONE))
    queue.mend()
    assert queue.known() == (5, (1, 5 * ONE), (1, 0))


@pytest.mark.parametrize("whole", [0, 3])
def test_a_message_that_was_cut_off_is_none(queue: lines.Queue, whole: int) -> None:
    holds(queue, {1: whole})
    add(queue.file(1), queued(99)[:-4])
    says(queue, 0, (1, 0), (1, 0))
    queue.mend()
    assert queue.known() == (whole, (1, whole * ONE), (1, 0))
    assert queue.file(1).stat().st_size == whole * ONE


def test_an_empty_queue_stays_empty(queue: lines.Queue) -> None:
    """What was read stays in its file until the next is begun."""
    holds(queue, {1: 9})
    says(queue, 0, (1, 9 * ONE), (1, 9 * ONE))
    queue.mend()
    assert queue.known() == (0, (1, 9 * ONE), (1, 9 * ONE))
