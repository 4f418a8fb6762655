"""AIDE's database: read, compared, brought up to date for named paths alone."""

import pytest

from mastio.integrity import database
from mastio.integrity.difference import Difference, Kind
from tests.unit.integrity.samples import folder, link, row, text

OLD = text(folder("/etc"), row("/etc/a"), row("/etc/b"), link("/etc/l", "a"))


def differ(old: str, new: str) -> list[tuple[str, Kind, str]]:
    found = database.compare(database.parse(old), database.parse(new))
    return [(it.what, it.kind, it.words) for it in found]


def test_the_same_is_no_difference_whatever_its_inode() -> None:
    again = text(folder("/etc"), row("/etc/a", inode=7), row("/etc/b"), link("/etc/l", "a"))
    assert differ(OLD, OLD) == differ(OLD, again) == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("/etc/a", "y")], ("/etc/a", Kind.CHANGED, "content")),
        ([row("/etc/a", perm="100600")], ("/etc/a", Kind.CHANGED, "mode 0644 → 0600")),
        ([row("/etc/a", perm="104755")], ("/etc/a", Kind.SUID, "mode 0644 → 4755")),
        ([row("/etc/a", owner="33 0")], ("/etc/a", Kind.CHANGED, "owner 0:0 → 33:0")),
        ([row("/etc/a", capabilities="Y2Fw")], ("/etc/a", Kind.SUID, "capabilities")),
        ([row("/etc/a", acl="POSIX,dXNlcjo6cnct,0")], ("/etc/a", Kind.CHANGED, "access list")),
        ([link("/etc/a", "b")], ("/etc/a", Kind.CHANGED, "was a file, is a link to b")),
        ([], ("/etc/a", Kind.REMOVED, "the file is not there")),
    ],
)
def test_changes_are_named(rows: list[str], expected: tuple[str, Kind, str]) -> None:
    new = text(folder("/etc"), *rows, row("/etc/b"), link("/etc/l", "a"))
    assert differ(OLD, new) == [expected]


@pytest.mark.parametrize(
    ("added", "kind"),
    [
        (row("/usr/bin/x"), Kind.ADDED),
        (row("/usr/bin/x", perm="104755"), Kind.SUID),
        (row("/usr/bin/x", perm="102755"), Kind.SUID),
        (row("/usr/bin/x", perm="100755", capabilities="Y2Fw"), Kind.SUID),
        (row("/etc/systemd/system/x.service"), Kind.UNIT),
        (link("/etc/systemd/system/multi-user.target.wants/x.service", "/x"), Kind.UNIT),
        (row("/usr/lib/systemd/system/x.timer"), Kind.UNIT),
        (folder("/etc/systemd/system/x.d"), Kind.ADDED),
        (row("/root/.ssh/authorized_keys"), Kind.KEY),
        (row("/etc/ssh/authorized_keys.d/x"), Kind.KEY),
    ],
)
def test_what_is_new_is_called_what_it_is(added: str, kind: Kind) -> None:
    ((_, found, _),) = differ(OLD, OLD.replace("@@end_db", f"{added}\n@@end_db"))
    assert found is kind


def test_an_old_suid_file_is_no_new_one() -> None:
    before, after = text(row("/s", perm="104755")), text(row("/s", "y", perm="104755"))
    assert differ(before, after) == [("/s", Kind.CHANGED, "content")]


def test_names_with_odd_letters_come_back_and_are_safe_to_print() -> None:
    odd = text(row("/etc/a%20b%0Ac%25"))
    parsed = database.parse(odd)
    assert list(parsed) == ["/etc/a b\nc%"]
    assert database.parse(database.render(parsed)) == parsed
    assert "\n" not in Difference("/a\nb\x1b[2J", Kind.ADDED, "").line


@pytest.mark.parametrize(
    "bad", ["", "x", OLD[: len(OLD) // 2], OLD.replace(" 0 100644", " 100644")]
)
def test_half_a_database_is_none(bad: str) -> None:
    with pytest.raises(ValueError, match="database"):
        database.parse(bad)


def test_only_named_paths_are_taken_over() -> None:
    old = database.parse(OLD)
    new = database.parse(text(folder("/etc"), row("/etc/a", "y"), row("/etc/c"), row("/etc/d")))
    merged = database.merge(old, new, ["/etc/a", "/etc/b", "/etc/c"])
    assert merged["/etc/a"] == new["/etc/a"] and "/etc/b" not in merged and "/etc/c" in merged
    assert {it.what for it in database.compare(merged, new)} == {"/etc/d", "/etc/l"}
    assert database.merge(old, new, []) == old


def test_all_taken_over_is_no_difference() -> None:
    old, new = database.parse(OLD), database.parse(text(row("/etc/z")))
    assert not database.compare(database.merge(old, new, old.keys() | new.keys()), new)


def test_rendering_is_the_same_each_time() -> None:
    parsed = database.parse(OLD)
    assert database.render(parsed) == database.render(dict(reversed(parsed.items())))
