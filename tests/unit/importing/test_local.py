"""Maildirs and mbox files as they lie on a disk."""

import os
from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.importing import local
from mastio.importing.folders import Names
from mastio.importing.message import Source


def quiet(words: str) -> None:
    """Nobody listens."""


def put(folder: Path, name: str, content: str = "Subject: x\n\ny\n", part: str = "cur") -> None:
    for it in ("cur", "new", "tmp"):
        (folder / it).mkdir(parents=True, exist_ok=True)
    path = folder / part / name
    path.write_text(content)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def told(source: Source) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {here: [] for _, here in source.folders}
    for it in source.messages:
        found[it.folder].append((it.flags, it.keywords))
    return found


def test_maildir_plus_plus(tmp_path: Path) -> None:
    put(tmp_path, "1.a.b,S=9:2,FSab")
    put(tmp_path, "2.a.b", part="new")
    put(tmp_path, "half", part="tmp")
    put(tmp_path / ".Work.Gr&APYA3w-e", "3.a.b:2,RT")
    put(tmp_path / ".Empty", ".hidden")
    (tmp_path / "dovecot-keywords").write_text("0 $Label1\n1 later\n")
    (tmp_path / ".no.folder").mkdir()
    source = local.maildir(tmp_path, Names(skipped=frozenset({"Spam"})), quiet)
    assert told(source) == {
        "INBOX": [("FS", ("$Label1", "later")), ("", ())], "Work/Größe": [("RT", ())], "Empty": [],
    }  # fmt: skip
    assert {it.received for it in source.messages} == {1_700_000_000}
    assert source.messages[0].read() == b"Subject: x\n\ny\n"


def test_directories_in_directories(tmp_path: Path) -> None:
    put(tmp_path / "INBOX", "1.a:2,S")
    put(tmp_path / "Work" / "v1.2", "2.a:2,")
    put(tmp_path / "Lists" / ".linux", "3.a:2,")
    put(tmp_path / "Spam", "4.a:2,")
    source = local.maildir(tmp_path, Names(skipped=frozenset({"Spam"})), quiet)
    assert [*told(source)] == ["INBOX", "Lists/linux", "Work/v1_2"]
    assert source.skipped == ("the folder Spam",)


@pytest.mark.parametrize("what", ["nothing", "file", "empty"])
def test_what_is_no_maildir_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(MastioError, match="is not a Maildir") as caught:
        local.maildir(tmp_path / what, Names(), quiet)
    assert caught.value.code is Exit.DATA


def mbox(*subjects: str) -> str:
    first = "From x@y.test Sat Jan  3 14:05:06 2026\n"
    return "".join(f"{first}Status: RO\nSubject: {it}\n\ntext\n\n" for it in subjects)


def test_a_file_goes_into_the_inbox_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "bob").write_text(mbox("a", "b"))
    source = local.mboxes(tmp_path / "bob", Names(), quiet)
    assert told(source) == {"INBOX": [("S", ()), ("S", ())]}
    assert [it.read() for it in source.messages] == [b"Subject: a\n\ntext\n", b"Subject: b\n\ntext\n"]  # fmt: skip
    assert [*told(local.mboxes(tmp_path / "bob", Names(into="Old"), quiet))] == ["Old"]


def test_directories_of_mbox_files(tmp_path: Path) -> None:
    (tmp_path / "Work.sbd").mkdir()
    for name in ("Inbox", "Work", "Work.sbd/2026", "Archive.mbox"):
        (tmp_path / name).write_text(mbox(name))
    (tmp_path / "Inbox.msf").write_text("// mork")
    (tmp_path / "notes.txt").write_text("dear diary")
    (tmp_path / "Empty").touch()
    source = local.mboxes(tmp_path, Names(), quiet)
    assert sorted(told(source)) == ["Archive", "Empty", "INBOX", "Work", "Work/2026"]
    assert len(source.skipped) == 1 and "notes.txt" in source.skipped[0]


def test_what_is_no_mbox_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("dear diary")
    for path, said in ((tmp_path / "x", "does not begin"), (tmp_path / "y", "no such file")):
        with pytest.raises(MastioError, match=said) as caught:
            local.mboxes(path, Names(), quiet)
        assert caught.value.code is Exit.DATA
