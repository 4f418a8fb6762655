"""What watch keeps: an edit shows."""

from pathlib import Path

import pytest

from mastio.integrity import database
from mastio.integrity.difference import Difference, Kind
from mastio.integrity.place import Last, Place, Reference, Verdict
from mastio.verify.probes import disk
from tests.unit.integrity.samples import row, text

ROWS = database.parse(text(row("/etc/a")))
REFERENCE = Reference(1.0, "me", {"key": ["k"]}, {"p": "1"}, ROWS)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.keep_tools({"aide": b"1", "ld-linux-x86-64.so.2": b"2"})
    place.seal("tools")
    place.keep_reference("store", REFERENCE)
    place.seal("store")
    return place


def test_what_is_kept_comes_back(place: Place) -> None:
    assert place.reference("store") == REFERENCE and place.reference("gateway") is None
    assert place.broken() == ()
    assert place.tools() == {"aide": b"1", "ld-linux-x86-64.so.2": b"2"} and place.tools_digest()
    last = Last(2.0, Verdict.DIFFERS, "", (Difference("/x", Kind.SUID, "w"),), 1.0, 0.5, 2.0)
    place.keep_last("store", last)
    place.keep_seen("store", ROWS, {"key": []}, {})
    assert place.last("store") == last and place.last_seen("store") == (ROWS, {"key": []}, {})
    assert place.broken() == ()
    assert {it.stat().st_mode & 0o077 for it in place.folder.glob("store/*")} == {0}


@pytest.mark.parametrize("name", ["tools/aide.gz", "store/reference.db.gz", "store/reference.json"])
def test_an_edit_shows(place: Place, name: str) -> None:
    path = place.folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert place.broken() == (name,)
    path.unlink()
    assert place.broken() == (name,)


def test_a_new_file_and_a_seal_without_sense_show(place: Place) -> None:
    (place.folder / "tools/evil").write_bytes(b"")
    assert place.broken() == ("tools/evil",)
    (place.folder / "seal.json").write_text("[]")
    assert place.broken() == ("seal.json",)


def test_sealing_one_machine_does_not_seal_an_edit_of_another(place: Place) -> None:
    (place.folder / "tools/aide.gz").write_bytes(b"evil")
    before = place.seal_digest()
    place.keep_reference("gateway", REFERENCE)
    place.seal("gateway")
    assert place.broken() == ("tools/aide.gz",) and place.seal_digest() != before


def test_the_log_shows_that_a_line_was_changed_or_is_missing(place: Place) -> None:
    for why in ("a", "b", "c"):
        place.log(machine="store", why=why)
    entries, whole = place.entries()
    assert [it["why"] for it in entries] == ["a", "b", "c"] and whole
    path = place.folder / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for broken in (lines[:1] + lines[2:], [lines[0].replace('"a"', '"z"'), *lines[1:]]):
        path.write_text("".join(broken))
        assert not place.entries()[1]


def test_verification_finds_no_secrets_among_it(place: Place) -> None:
    for why in ("a", "b"):
        place.log(machine="store", why=why, by="me@desk", what=["/etc/a"])
    assert disk.secrets(str(place.folder), [])["found"] == []
