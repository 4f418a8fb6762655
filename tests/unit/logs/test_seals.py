"""Seals: every way to change sealed logs is named, whoever changes nothing is left in peace."""

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mastio.logs import chain, measure
from mastio.logs.chain import Pin, Seal, Segment, gathered
from mastio.watch import seal as sealer
from mastio.watch.logbook import proven

KEEP = 5
DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")
OLD, FIRST, SECOND = (f"gateway/{it}" for it in DAYS)


def at(day: str, hour: int) -> float:
    return time.mktime((*map(int, day.split("-")), hour, 0, 0, 0, 0, -1))  # type: ignore[arg-type]


class Watch:
    """Watch's disk."""

    def __init__(self, folder: Path) -> None:
        self.logs, self.state = folder / "remote", folder / "state"
        (self.logs / "gateway").mkdir(parents=True)

    def write(self, file: str, text: str) -> None:
        with (self.logs / f"{file}.log").open("a") as one:
            one.write(text)

    def seal(self, now: float, keep: int = KEEP) -> sealer.Sealed:
        return sealer.seal(self.logs, self.state, keep, now)

    def look(self, pin: Pin | None = None, keep: int = KEEP, since: str = "") -> list[str]:
        return chain.wrong(gathered(measure.said(self.logs, self.state, since)), keep, pin, since)

    @property
    def seals(self) -> list[Seal]:
        return [chain.recall(it) for it in (self.state / "chain").read_text().splitlines()]

    @property
    def pin(self) -> Pin:
        first = (self.state / "first").read_text().strip()
        return Pin(first, self.seals[-1].number, self.seals[-1].digest, KEEP)

    def rewrite(self, seals: list[Seal]) -> None:
        (self.state / "chain").write_text("".join(f"{chain.record(it)}\n" for it in seals))


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Two days, sealed four times; the first is packed."""
    one = Watch(tmp_path)
    one.write(FIRST, "one\ntwo\n")
    one.seal(at(DAYS[1], 10))
    one.write(FIRST, "three\n")
    one.seal(at(DAYS[1], 11))
    one.write(SECOND, "four\nfive\n")
    done = one.seal(at(DAYS[2], 10))
    assert done.packed == (FIRST,)
    one.write(SECOND, "six\n")
    one.seal(at(DAYS[2], 11))
    return one


def test_nothing_is_wrong_with_what_nobody_touched(watch: Watch) -> None:
    assert watch.look(watch.pin) == []
    watch.write(SECOND, "not sealed yet\n")
    assert watch.look(watch.pin) == []
    assert [it.number for it in watch.seals] == [1, 2, 3, 4]


def test_a_packed_day_is_the_same_text(watch: Watch) -> None:
    packed = watch.logs / f"{FIRST}.log.gz"
    assert gzip.decompress(packed.read_bytes()) == b"one\ntwo\nthree\n"
    assert not (watch.logs / f"{FIRST}.log").exists()


def _edit(watch: Watch) -> None:
    path = watch.logs / f"{SECOND}.log"
    path.write_text(path.read_text().replace("four", "FOUR"))


def _edit_packed(watch: Watch) -> None:
    path = watch.logs / f"{FIRST}.log.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"three", b"THREE")))


def _spoil_packed(watch: Watch) -> None:
    path = watch.logs / f"{FIRST}.log.gz"
    path.write_bytes(path.read_bytes()[:-12])


def _damage_packed(watch: Watch) -> None:
    path = watch.logs / f"{FIRST}.log.gz"
    whole = gzip.compress(gzip.decompress(path.read_bytes()))
    # A block of a kind that there is not (RFC 1951, 3.2.3).
    path.write_bytes(whole[:10] + b"\xff" + whole[11:])


def _cut(watch: Watch) -> None:
    (watch.logs / f"{SECOND}.log").write_text("four\nfive\n")


def _take_a_line(watch: Watch) -> None:
    (watch.logs / f"{SECOND}.log").write_text("five\nsix\n")


def _take_a_line_and_go_on(watch: Watch) -> None:
    (watch.logs / f"{SECOND}.log").write_text("five\nsix\nseven and a half\n")


def _remove(watch: Watch) -> None:
    (watch.logs / f"{SECOND}.log").unlink()


def _add_a_day(watch: Watch) -> None:
    watch.write(OLD, "it was never written\n")


def _add_to_a_packed_day(watch: Watch) -> None:
    watch.write(FIRST, "it was never written\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_edit, "gateway, 2026-11-22: edited: octets 0–9, sealed by seal 3"),
        (_edit_packed, "gateway, 2026-11-21: edited: octets 8–13, sealed by seal 2"),
        (_spoil_packed, "gateway, 2026-11-21: cut"),
        (_damage_packed, "gateway, 2026-11-21: cut"),
        (_cut, "gateway, 2026-11-22: cut: 4 octets of what was sealed are missing, from octets 10–13"),
        (_take_a_line, "gateway, 2026-11-22: cut: 5 octets of what was sealed are missing, from octets 0–9"),
        (_take_a_line_and_go_on, "gateway, 2026-11-22: edited: octets 0–9"),
        (_remove, "gateway, 2026-11-22: the file was removed"),
        (_add_a_day, "gateway, 2026-11-20: the file was added after the day was over"),
        (_add_to_a_packed_day, "gateway, 2026-11-21: 21 octets were added after it was packed"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)  # fmt: skip
def test_a_change_is_named_and_never_sealed_over(
    watch: Watch, change: Callable[[Watch], None], words: str
) -> None:
    pin = watch.pin
    change(watch)
    (found,) = watch.look(pin)
    assert words in found
    watch.seal(at(DAYS[2], 12))
    assert any(words.split(":")[0] in it for it in watch.look(pin)), "the next seal has hidden it"


def test_what_does_not_fit_is_told_by_the_sealer_too(watch: Watch) -> None:
    _add_a_day(watch)
    _add_to_a_packed_day(watch)
    _cut(watch)
    done = watch.seal(at(DAYS[2], 12))
    assert len(done.odd) == 3
    assert done.seal.segments == ()
    assert "2026-11-22: cut: 4 octets" in done.odd[-1]


def test_watch_itself_finds_a_letter_that_was_exchanged(watch: Watch) -> None:
    """Its sealer looks at lengths alone; its proof reads all, as `mastio logs verify` does."""
    assert proven(watch.logs, watch.state) == {}
    path = watch.logs / f"{SECOND}.log"
    text = path.read_text()
    path.write_text(text[:-2] + "!" + text[-1:])
    assert watch.seal(at(DAYS[2], 20)).odd == ()
    assert proven(watch.logs, watch.state).keys() == {f"gateway, {DAYS[2]}"}
    assert "edited" in proven(watch.logs, watch.state)[f"gateway, {DAYS[2]}"]
    path.write_text(text)
    assert proven(watch.logs, watch.state) == {}
    (watch.state / "chain").write_text("nothing\n")
    assert "after seal 0 stands something else" in proven(watch.logs, watch.state)


def test_a_chain_that_was_cut_shows_against_the_pin(watch: Watch) -> None:
    pin = watch.pin
    watch.rewrite(watch.seals[:-1])
    (watch.logs / f"{SECOND}.log").write_text("four\nfive\n")
    assert watch.look() == [], "nothing on watch itself tells"
    (found,) = watch.look(pin)
    assert "ends with seal 3, but seal 4 has been seen" in found


def test_a_seal_that_is_missing_or_exchanged_is_named(watch: Watch) -> None:
    seals = watch.seals
    watch.rewrite([seals[0], *seals[2:]])
    assert "after seal 1 comes seal 3" in "\n".join(watch.look())
    watch.rewrite([seals[0], replace(seals[1], at=seals[1].at + 1), *seals[2:]])
    found = "\n".join(watch.look())
    assert "seal 2 of" in found and "is not signed with the key" in found
    assert "does not follow seal 2" in found


def test_a_later_intruder_cannot_seal_what_was(watch: Watch) -> None:
    """With the key of the next seal, which is all that is there."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex((watch.state / "key").read_text()))
    seals = watch.seals
    forged = chain.signed(replace(seals[-1], at=seals[-1].at + 1), key)
    watch.rewrite([*seals[:-1], forged])
    assert any("seal 4" in it and "not signed" in it for it in watch.look())


@pytest.mark.parametrize(
    ("segment", "removed", "words"),
    [
        (Segment(SECOND, 99, 4, "0" * 64), (), "seal 5 of 2026-11-22 12:00 UTC goes on at octet 99, not 14"),
        (Segment(FIRST, 14, 4, "0" * 64), (), "4 octets were added after the day was over and sealed (seal 5"),
        (None, (SECOND,), "2026-11-22: removed when it was 0 days old (seal 5"),
    ],
    ids=["a gap", "a day that was over", "removed too early"],
)  # fmt: skip
def test_an_intruder_who_seals_what_does_not_fit_is_found_out(
    watch: Watch, segment: Segment | None, removed: tuple[str, ...], words: str
) -> None:
    """With the right key: signature and chain are sound."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex((watch.state / "key").read_text()))
    last = watch.seals[-1]
    segments = (segment,) if segment else ()
    forged = replace(
        last, number=5, at=at(DAYS[2], 12), previous=last.digest, segments=segments, removed=removed
    )
    watch.rewrite([*watch.seals, chain.signed(forged, key)])
    assert any(words in it for it in watch.look(watch.pin)), watch.look(watch.pin)
    assert not any("not signed" in it or "does not follow" in it for it in watch.look(watch.pin))


def test_a_chain_made_anew_shows_against_the_pin(watch: Watch) -> None:
    pin = watch.pin
    for path in watch.state.iterdir():
        path.unlink()
    (watch.logs / f"{FIRST}.log.gz").unlink()
    (watch.logs / f"{SECOND}.log").write_text("nothing happened\n")
    for hour in (12, 13, 14, 15, 16):
        watch.seal(at(DAYS[2], hour))
    assert watch.look() == []
    found = watch.look(pin)
    assert any("another key than the one pinned" in it for it in found)
    assert any("seal 4" in it and "not the one that was seen" in it for it in found)


def test_old_files_go_and_that_is_no_change(watch: Watch) -> None:
    watch.seal(at("2026-11-27", 3))
    assert not (watch.logs / f"{FIRST}.log.gz").exists()
    assert (watch.logs / f"{SECOND}.log.gz").exists()
    assert watch.seals[-1].removed == (FIRST,)
    assert watch.look() == []


def test_a_new_chain_begins_with_what_is_not_too_old(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.write(FIRST, "long ago\n")
    watch.write("gateway/2026-11-28", "today\n")
    done = watch.seal(at("2026-11-28", 10))
    assert [it.file for it in done.seal.segments] == ["gateway/2026-11-28"]
    assert not (watch.logs / f"{FIRST}.log").exists()
    assert watch.look() == []


def test_files_that_went_too_early_are_named(watch: Watch) -> None:
    """An intruder may set what watch keeps, and seal it; the site file says otherwise."""
    watch.seal(at("2026-11-23", 3), keep=1)
    (found,) = watch.look()
    assert "gateway, 2026-11-21: removed when it was" in found and "the site file says 5" in found


def test_only_some_days(watch: Watch) -> None:
    _edit_packed(watch)
    assert watch.look(since=DAYS[2]) == []
    assert len(watch.look(since=DAYS[1])) == 1


@pytest.mark.parametrize("step", ["key.next written", "half a seal", "a whole seal", "no lengths"])
def test_killed_at_any_step_it_goes_on(watch: Watch, step: str) -> None:
    lengths = (watch.state / "lengths.json").read_text()
    old_key = (watch.state / "key").read_text()
    if step == "key.next written":
        (watch.state / "key.next").write_text("00" * 32)
    elif step == "no lengths":
        (watch.state / "lengths.json").unlink()
    else:
        watch.write(SECOND, "seven\n")
        watch.seal(at(DAYS[2], 12))
        (watch.state / "lengths.json").write_text(lengths)
        (watch.state / "key").rename(watch.state / "key.next")
        (watch.state / "key").write_text(old_key)
        if step == "half a seal":
            path = watch.state / "chain"
            path.write_text(path.read_text()[:-30])
    watch.write(SECOND, "eight\n")
    watch.seal(at(DAYS[2], 13))
    assert watch.look() == []
    assert chain.lengths(watch.seals)[SECOND] == (watch.logs / f"{SECOND}.log").stat().st_size


def test_it_does_not_seal_with_another_key(watch: Watch) -> None:
    (watch.state / "key").write_text("11" * 32)
    with pytest.raises(ValueError, match="not the key that the last seal names"):
        watch.seal(at(DAYS[2], 13))


def test_what_is_no_seal_is_an_error(watch: Watch) -> None:
    for text in ("", "{}", "[]", '{"segments": 3}', "null"):
        with pytest.raises(ValueError):
            chain.recall(text)
    path = watch.state / "chain"
    path.write_text(path.read_text() + json.dumps({"hello": 1}) + "\n")
    assert any("stands something else" in it for it in watch.look())
