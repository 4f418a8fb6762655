"""While borg reads, mail goes on: what was there at the beginning and was not deleted is in the archive."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mastio.roles.backup.door import Walk, not_found

FOLDERS = ("Maildir", "Maildir/.Junk", "Maildir/.Archive")
_LAG = 3
"""So many paths borg is behind."""
_MOVE = st.tuples(
    st.integers(0, 40), st.integers(0, 11), st.sampled_from(FOLDERS), st.text("FRS", max_size=2)
)


# One that is moved away before borg comes, and back under its name afterwards.
@example(
    messages=11,
    moves=[(0, 0, "Maildir", ""), (0, 2, "Maildir/.Archive", ""), (27, 2, "Maildir", ""),
           (31, 2, "Maildir/.Archive", "")],
    deliveries=set(),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
@given(
    messages=st.integers(1, 12),
    moves=st.lists(_MOVE, max_size=25),
    deliveries=st.sets(st.integers(0, 40), max_size=5),
)
def test_nothing_that_stays_is_missed(
    messages: int, moves: list[tuple[int, int, str, str]], deliveries: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "bob"
        for folder in FOLDERS:
            for part in ("cur", "new", "tmp"):
                (home / folder / part).mkdir(parents=True)
        where = {it: home / FOLDERS[it % 3] / "new" / f"{it}.host" for it in range(messages)}
        for path in where.values():
            path.touch()
        # Long ago, as nearly all folders are: what has just changed is listed twice anyway.
        for path in home.rglob("*"):
            if path.is_dir():
                os.utime(path, (1e9, 1e9))
        taken: set[str] = set()
        gone: list[bytes] = []
        clock = iter(range(10_000))

        def borg(paths: Iterable[bytes]) -> None:
            """Takes what is still there, some paths late; mail goes on meanwhile."""
            behind: list[Path] = []
            for path in (*paths, *[b""] * _LAG):
                behind.append(Path(os.fsdecode(path)))
                happen(next(clock))
                if len(behind) > _LAG:
                    one = behind.pop(0)
                    if one.is_file():
                        taken.add(one.name.partition(":")[0])
                    elif not one.exists():
                        gone.append(os.fsencode(one))

        def happen(step: int) -> None:
            for at, number, folder, flags in moves:
                if at == step and number in where:
                    target = home / folder / "cur" / f"{number}.host:2,{flags}"
                    where[number] = where[number].rename(target)
            if step in deliveries:
                (home / "Maildir" / "new" / f"d{step}.host").touch()

        walk = Walk([os.fsencode(home)])
        borg(walk.first())
        for _ in range(5):
            walk.missed(gone)
            gone.clear()
            borg(walk.again())
        assert {f"{it}.host" for it in where} <= taken


def test_what_borg_did_not_find_is_told_from_its_words() -> None:
    path = "/var/vmail/büro: x/cur/1.host:2,S"
    said = "[Errno 2] No such file or directory: '/var/vmail/büro: x/cur/1.host:2,S'"
    for step in ("stat: ", "open: ", ""):
        assert not_found(f"{path}: {step}{said}") == path.encode()
    assert not_found("No such file or directory") == b""
    assert not_found("/var/vmail: stat: [Errno 13] Permission denied: '/var/vmail'") is None
    assert not_found("Creating archive at /x") is None
