"""What a drill tells apart: what came and went since the archive, and what the archive lost."""

from mastio.restoring.compare import compare

BEGUN = 1000.0
ARCHIVED = {"": {"a": "1", "b": "2"}, ".Work": {"c": "3"}}


def now(**changed: tuple[str, float] | None) -> dict[str, dict[str, tuple[str, float]]]:
    rows: dict[str, tuple[str, float] | None] = {"a": ("1", 1.0), "b": ("2", 1.0), **changed}
    return {"": {key: it for key, it in rows.items() if it}, ".Work": {"c": ("3", 1.0)}}


def test_a_store_that_is_as_it_was() -> None:
    found = compare("bob@x.test", ARCHIVED, now(), BEGUN)
    assert (found.archived, found.same, found.came, found.gone, found.bad) == (3, 3, 0, 0, ())


def test_what_came_and_went_since_is_counted_and_no_finding() -> None:
    found = compare("bob@x.test", ARCHIVED, now(a=None, d=("4", BEGUN + 60)), BEGUN)
    assert (found.same, found.came, found.gone, found.bad) == (2, 1, 1, ())


def test_what_was_there_before_and_is_not_archived_is_lost() -> None:
    found = compare("bob@x.test", ARCHIVED, now(d=("4", BEGUN - 60)), BEGUN)
    assert found.lost == ("INBOX/d",)
    assert found.bad == ("bob@x.test: 1 messages are not in the archive: INBOX/d",)


def test_other_octets_under_the_same_name() -> None:
    found = compare("bob@x.test", ARCHIVED, now(b=("9", 1.0)), BEGUN)
    assert found.differ == ("INBOX/b",) and "1 messages differ" in found.bad[0]


def test_a_mailbox_that_is_gone_and_one_that_was_never_there() -> None:
    assert "there is no mailbox any more" in compare("bob@x.test", ARCHIVED, {}, BEGUN).bad[0]
    assert compare("bob@x.test", {}, {}, BEGUN).bad == ()
