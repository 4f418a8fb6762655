"""The log knows which seal integrity's references had last."""

import gzip
from pathlib import Path

import pytest

from mastio.integrity.place import IDENT, SEALED, Place
from mastio.watch.logbook import references

OLD = "2026-11-23T10:00:00+00:00"
NEW = "2026-11-24T10:00:00+00:00"


def line(at: str, digest: str, program: str = IDENT) -> str:
    return f"{at} watch {at} auth.notice {program}[7]: {SEALED} {digest} (store)\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "integrity").mkdir()
    (tmp_path / "integrity" / "seal.json").write_text("{}")
    return Place(tmp_path / "integrity")


@pytest.fixture
def logs(tmp_path: Path, place: Place) -> Path:
    folder = tmp_path / "logs" / "watch"
    folder.mkdir(parents=True)
    with gzip.open(folder / "2026-11-23.log.gz", "wt") as file:
        file.write(line(OLD, "0" * 64))
    words = [line(NEW, "1" * 64), line(NEW, place.seal_digest())]
    # Anybody may say such words, but not by that name.
    (folder / "2026-11-24.log").write_text("".join(words) + line(NEW, "2" * 64, "logger"))
    return folder.parent


def test_the_last_seal_is_the_one_that_was_logged(logs: Path, place: Place) -> None:
    assert references(logs, "watch", place) == {}


def test_another_seal_is_told(logs: Path, place: Place) -> None:
    (place.folder / "seal.json").write_text("{ }")
    found = references(logs, "watch", place)
    assert "logged at 2026-11-24 10:00" in found["integrity's references"]


def test_the_log_of_a_day_before_counts_when_there_was_none_since(logs: Path, place: Place) -> None:
    (logs / "watch" / "2026-11-24.log").write_text("")
    assert "2026-11-23" in references(logs, "watch", place)["integrity's references"]


def test_a_site_without_references_or_without_such_lines_is_left_alone(
    logs: Path, place: Place
) -> None:
    (place.folder / "seal.json").unlink()
    assert references(logs, "watch", place) == {}
    (place.folder / "seal.json").write_text("{ }")
    for path in (logs / "watch").iterdir():
        path.unlink()
    assert references(logs, "watch", place) == {}


def test_a_line_that_names_no_seal_is_another_seal(logs: Path, place: Place) -> None:
    path = logs / "watch" / "2026-11-24.log"
    path.write_text(path.read_text() + line(NEW, "").replace(" (store)", ""))
    assert (
        "logged at 2026-11-24 10:00 (…)"
        in references(logs, "watch", place)["integrity's references"]
    )
