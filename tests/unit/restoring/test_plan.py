"""What comes back into a mailbox, what stays away, and what is refused."""

import pytest

from mastio.errors import MastioError
from mastio.restoring.maildir import Live, Mailbox, Name, folder_of, mailbox, name_of, validity_of
from mastio.restoring.plan import Wish, plan

USER, HOME = "bob@fortress.test", "var/vmail/fortress.test/bob"
MIB = 1 << 20


def entry(folder: str, name: str, size: int = 100, part: str = "cur") -> tuple[str, int]:
    return "/".join(filter(None, (HOME, "Maildir", folder, part, name))), size


def box() -> Mailbox:
    entries = [
        entry("", "1.M1P1.store,S=9,W=10:2,S"),
        entry("", "2.M1P1.store,S=9,W=10", part="new"),
        entry(".Work", "3.M1P1.store,S=9,W=10:2,Fab"),
        entry(".Work.2026", "4.M1P1.store,S=9,W=10:2,"),
        entry("", "5.tmp", part="tmp"),
        (f"{HOME}/Maildir/dovecot-uidlist", 1),
        (f"{HOME}/Maildir/dovecot.index.log", 1),
        (f"{HOME}/Maildir/.Work/dovecot-uidlist", 1),
        (f"{HOME}/Maildir/.Work/dovecot-keywords", 1),
        (f"{HOME}/Maildir/.Work/fts-flatcurve/current.1/iamglass", 1),
        (f"{HOME}/sieve/holiday.sieve", 1),
    ]
    lists = {f"{HOME}/Maildir/dovecot-uidlist": 7, f"{HOME}/Maildir/.Work/dovecot-uidlist": 8}
    return mailbox(USER, HOME, entries, lists)


def live(
    validity: dict[str, int] | None = None, used: int = 0, limit: int = 0, **folders: str
) -> Live:
    """Folders by name (`inbox` is the inbox), each with the numbers of its messages."""
    found = {
        "" if key == "inbox" else f".{key}": frozenset(f"{it}.M1P1.store,S=9,W=10" for it in rows)
        for key, rows in folders.items()
    }
    return Live(True, found, validity or {}, used, limit)


def test_names() -> None:
    assert folder_of("Projects/Größe & Co") == ".Projects.Gr&APYA3w-e &- Co"
    assert name_of(".Projects.Gr&APYA3w-e &- Co") == "Projects/Größe & Co"
    assert folder_of("inbox") == "" and name_of("") == "INBOX"
    assert Name.of("1.M1.store,S=9,W=10:2,FSa") == Name("1.M1.store,S=9,W=10", "FS", "a")
    assert validity_of("3 V1795850153 N4 Gabc\n1 :x") == 1795850153 and validity_of("nonsense") == 0


@pytest.mark.parametrize("wrong", ["", "a//b", "a.b", "/a", "a\nb"])
def test_what_is_no_folder(wrong: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        folder_of(wrong)


def test_an_archived_mailbox_is_read() -> None:
    found = box()
    assert {key: len(it.messages) for key, it in found.folders.items()} == {
        "": 2,
        ".Work": 1,
        ".Work.2026": 1,
    }
    assert found.folders[".Work"].validity == 8 and found.folders[".Work.2026"].validity == 0
    assert not any("index" in it or "fts" in it for it in found.others)


def test_copies_are_new_messages_and_come_once() -> None:
    done = plan(box(), live(inbox="12"), Wish(into="Restored"))
    assert done.count == 4 and dict(done.folders) == {
        "Restored/INBOX": 2, "Restored/Work": 1, "Restored/Work/2026": 1,
    }  # fmt: skip
    work = next(it for it in done.moves if it.folder == ".Restored.Work")
    assert work.file == "3.M1P1.store.restored,S=9,W=10:2,F" and work.keywords == "ab"
    assert f"{HOME}/Maildir/.Work/dovecot-keywords" in done.paths
    there = Live(True, {".Restored.Work": frozenset({"3.M1P1.store.restored,S=9,W=10"})})
    assert plan(box(), there, Wish(into="Restored")).count == 3


def test_in_place_what_is_there_is_left_alone() -> None:
    done = plan(box(), live({"": 7, ".Work": 8}, inbox="12", Work="34"), Wish())
    # Message 4 was moved by its user: it is there.
    assert (done.count, done.there, done.removed) == (0, 4, 0)


def test_a_folder_that_is_gone_comes_back_whole() -> None:
    done = plan(box(), live({"": 7}, inbox="12"), Wish())
    assert done.whole == (".Work", ".Work.2026") and done.count == 2
    assert f"{HOME}/Maildir/.Work/dovecot-uidlist" in done.others
    assert f"{HOME}/Maildir/dovecot-uidlist" not in done.others
    assert f"{HOME}/sieve/holiday.sieve" not in done.others


def test_a_mailbox_that_is_gone_comes_back_with_all_that_is_beside_it() -> None:
    done = plan(box(), live(), Wish())
    assert done.count == 4 and f"{HOME}/sieve/holiday.sieve" in done.others
    assert f"{HOME}/Maildir/dovecot-uidlist" in done.others


def test_what_was_removed_since_stays_away_unless_asked_for() -> None:
    now = live({"": 7, ".Work": 8}, inbox="1", Work="3")
    done = plan(box(), now, Wish(folder="INBOX"))
    assert (done.count, done.removed) == (0, 1)
    asked = plan(box(), now, Wish(folder="INBOX", deleted=True))
    assert [it.file for it in asked.moves] == ["2.M1P1.store,S=9,W=10:2,"] and asked.removed == 0
    named = frozenset({entry("", "2.M1P1.store,S=9,W=10", part="new")[0]})
    assert plan(box(), now, Wish(messages=named)).count == 1


def test_a_folder_that_was_made_anew_has_lost_its_messages() -> None:
    done = plan(box(), live({"": 99, ".Work": 8}, inbox="", Work="34"), Wish())
    assert (done.count, done.removed, done.whole) == (2, 0, ())


def test_a_folder_means_those_below_it() -> None:
    done = plan(box(), live({"": 7}, inbox=""), Wish(folder="Work"))
    assert dict(done.folders) == {"Work": 1, "Work/2026": 1}


@pytest.mark.parametrize(
    ("now", "wish", "words"),
    [
        (Live(False), Wish(), "there is no account bob"),
        (live(inbox=""), Wish(folder="Wrok"), "has not the folder Wrok"),
        (live(inbox="", used=5 * MIB, limit=5 * MIB), Wish(into="R"), "0.0 MiB are free"),
        (live(inbox=""), Wish(folder="Work/2026", into="INBOX"), "a folder of their own"),
        (live(inbox=""), Wish(into="a.b"), "not the name of a folder"),
    ],
)
def test_what_cannot_be_done_is_refused(now: Live, wish: Wish, words: str) -> None:
    with pytest.raises(MastioError, match=words):
        plan(box(), now, wish)


def test_an_archive_without_the_mailbox_is_said() -> None:
    with pytest.raises(MastioError, match="has not a mailbox of bob"):
        plan(mailbox(USER, HOME, [], {}), live(), Wish())
