"""A machine that leaves: what speaks against it, what it holds, what is left of it, what watch forgets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mastio.leaving import look
from mastio.leaving.judge import Held, objections
from mastio.leaving.strip import bare
from mastio.site.model import Role
from mastio.verify.model import Severity
from mastio.watch import forget
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from tests.sites import demo_site

GATEWAY = (Role.GATEWAY_IN,)


def held(**more: Any) -> Held:
    found: dict[str, Any] = {
        "ours": True, "waiting": [], "messages": 0, "newest": 0.0, "left": {}, "moved": 0.0, "books": False,
    }  # fmt: skip
    return {**found, **more}  # type: ignore[typeddict-item]


def test_an_empty_machine_may_go() -> None:
    assert not [*objections(held(), None, GATEWAY)]
    assert not [*objections(held(messages=3, newest=1000.0), 1001.0, (Role.STORE,))]
    moved = held(messages=3, newest=1000.0, moved=1001.0, books=True)
    assert not [*objections(moved, None, (Role.STORE, Role.WATCH))]


@pytest.mark.parametrize(
    ("what", "archive", "roles", "words"),
    [
        (held(waiting=["A for bob: refused"]), None, GATEWAY, "1 messages wait in its queue: A for bob"),
        (held(messages=3, newest=1000.0), None, GATEWAY, "3 messages are in its mailboxes"),
        (held(messages=3, newest=1000.0), None, GATEWAY, "no archive has them"),
        (held(messages=3, newest=1000.0), 900.0, GATEWAY, "the newest archive is older (00:15:00 UTC)"),
        # Begun in the very second: it may lack what came in it.
        (held(messages=3, newest=1000.0), 1000.0, GATEWAY, "the newest archive is older"),
        (held(), None, (Role.WATCH,), "it is the watch"),
        # Moved, and then somebody delivered there.
        (held(messages=3, newest=1000.0, moved=900.0), None, GATEWAY, "no archive has them"),
    ],
)  # fmt: skip
def test_what_would_be_lost_speaks_against_it(
    what: Held, archive: float | None, roles: tuple[Role, ...], words: str
) -> None:
    (one,) = objections(what, archive, roles)
    assert words in one.what and one.hint


def test_mail_is_counted_where_maildirs_have_it(tmp_path: Path) -> None:
    for name in ("a/cur/1", "a/new/2", "a/tmp/3", "a/.Sent/cur/4", "a/dovecot-uidlist"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12345")
    count, newest = look.mail(str(tmp_path))
    assert count == 3 and newest > 1.7e9
    assert look.size(str(tmp_path)) == 25
    assert look.mail(str(tmp_path / "nothing")) == (0, 0.0)


def test_what_is_left_lets_administrators_in_by_debians_own_sshd() -> None:
    state = bare(demo_site(), ["ssh.service", "postfix.service"])
    assert [it.name for it in state.units] == ["ssh.service"] and not state.firewall
    (door,) = (it for it in state.files if it.path == "/root/.ssh/authorized_keys")
    assert door.mode == 0o600 and door.content.splitlines() == [*demo_site().admin_keys]
    assert not bare(demo_site(), []).units


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[], None]:
    def make() -> None:
        (tmp_path / "spare").mkdir()
        (tmp_path / "spare" / "config").write_text("borg")
        (tmp_path / "known").mkdir(exist_ok=True)
        (tmp_path / "base" / "spare").mkdir(parents=True)
        for name in ("spare.json", "spare.passphrase", "spare2.json"):
            (tmp_path / "known" / name).write_text("{}")

    return make


def test_archives_are_set_aside_with_what_opens_them_or_removed(
    tmp_path: Path, repository: Callable[[], None]
) -> None:
    repository()
    where = Path(forget.archives(tmp_path, "spare", "secret", 0.0, keep=True))
    assert where.name == "spare-1970-01-01-000000"
    assert (where / "repository" / "config").read_text() == "borg"
    assert (where / "passphrase").read_text() == "secret"
    assert (where / "passphrase").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "spare").exists() and not (tmp_path / "base" / "spare").exists()
    assert [it.name for it in (tmp_path / "known").iterdir()] == ["spare2.json"]
    repository()
    assert forget.archives(tmp_path, "spare", "secret", 0.0, keep=False) == ""
    assert not (tmp_path / "spare").exists()
    assert forget.archives(tmp_path, "spare", "", 0.0, keep=True) == ""


def test_its_reference_goes_and_the_seal_with_it(tmp_path: Path) -> None:
    for machine in ("spare", "store"):
        (tmp_path / machine).mkdir()
        (tmp_path / machine / "reference.json").write_text("{}")
        forget.Place(tmp_path).seal(machine)
    before, after = forget.reference(tmp_path, "spare")
    assert before != after and not forget.Place(tmp_path).broken()
    assert {*json.loads((tmp_path / "seal.json").read_text())} == {"store/reference.json"}
    assert forget.reference(tmp_path, "spare") == (after, after)


def test_alarms_about_it_are_over_and_others_stay(tmp_path: Path) -> None:
    bell = Bell(tmp_path, demo_site())
    for about in ("updates spare", "backup session spare", "updates spare2", "updates store"):
        bell.raise_(Alarm("x", about, Severity.HIGH, "s", "t", "failed", 1.0), 1.0)
    assert forget.alarms(bell, "spare", 2.0) == ["updates spare", "backup session spare"]
    assert {*bell.book} == {"updates spare2", "updates store"}
