"""Older schemas, by a made-up step from 0 to 1: there is none yet."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mastio.cli.common import App
from mastio.cli.site import check, migrate
from mastio.errors import Exit
from mastio.site import migrate as migrations
from mastio.site import parse
from mastio.site.problems import SiteFileError

OLD = """\
# Ours.
schema = 0  # the first
title = "fortress"  # short
organisation = "Fortress Ltd"
domains = ["fortress.test"]
public = ["203.0.113.1"]
# Who is asked.
admin = "alice@fortress.test"
reach = "lab"
"""
NEW = OLD.replace("schema = 0", "schema = 1").replace("title =", "name =")


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrations.STEPS, 0, lambda text: text.replace("title =", "name ="))


@pytest.fixture
def folder(tmp_path: Path, step: None) -> Path:
    (tmp_path / "site.toml").write_text(OLD)
    return tmp_path


def call(folder: Path, command: object, *words: str) -> Result:
    return CliRunner().invoke(command, words, obj=App(str(folder)), standalone_mode=False)  # type: ignore[arg-type]


def test_steps_follow_each_other_and_comments_stay() -> None:
    steps = {1: lambda text: text.replace("a = 1", "b = 1"), 2: lambda text: text + "c = 2\n"}
    text = '# why\n"schema" = 1 # one\na = 1\n'
    assert migrations.current(text, "x", steps, 3) == '# why\n"schema" = 3 # one\nb = 1\nc = 2\n'
    assert migrations.current(text, "x", steps, 1) == text


def test_an_older_file_is_understood_and_check_says_so(folder: Path) -> None:
    assert parse.load(folder / "site.toml").name == "fortress"
    found = call(folder, check)
    assert "schema 0 is read as 1; `mastio migrate` rewrites it" in found.stderr
    assert (folder / "site.toml").read_text() == OLD


def test_migrate_shows_the_difference_and_keeps_the_former_file(folder: Path) -> None:
    found = call(folder, migrate, "--plan")
    assert found.return_value is Exit.CHANGES and '+name = "fortress"  # short' in found.stdout
    assert [it.name for it in folder.iterdir()] == ["site.toml"]
    found = call(folder, migrate, "--json")
    told = json.loads(found.stdout)
    assert (found.return_value, told["schema"], told["newest"]) == (Exit.OK, 0, 1)
    assert (folder / "site.toml").read_text() == NEW
    assert (folder / "site.toml.schema-0").read_text() == OLD
    found = call(folder, migrate)
    assert found.return_value is Exit.OK and "nothing to do" in found.stdout
    assert not call(folder, check).stderr


def test_what_is_kept_already_is_not_overwritten(folder: Path) -> None:
    (folder / "site.toml.schema-0").write_text("of another day")
    found = call(folder, migrate)
    assert "something else in it" in str(found.exception)
    assert (folder / "site.toml").read_text() == OLD


def test_a_newer_schema_and_one_without_a_way_are_refused(folder: Path) -> None:
    with pytest.raises(SiteFileError, match="newer than this version of mastio, which knows 1"):
        parse.parse(NEW.replace("schema = 1", "schema = 7"), "site.toml")
    with pytest.raises(SiteFileError, match="schema: -1 is out of range"):
        parse.parse(NEW.replace("schema = 1", "schema = -1"), "site.toml")
    (folder / "site.toml").write_text(OLD.replace("reach", "raech"))
    found = call(folder, migrate)
    assert "raech: unknown key" in str(found.exception)
    assert not (folder / "site.toml.schema-0").exists()
