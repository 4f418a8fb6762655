"""Looks after the machines' logs, on watch: `python3 -m mastio.watch.logbook seal|proof|life`.

`seal` seals what is new, packs and removes what is old (mastio.watch.seal). `proof` reads all that is sealed, as
`mastio logs verify` does, which knows from elsewhere which seals there were. `life` reads what came since the last
time, and only that, for signs of life (mastio.logs.life), for losses (mastio.digest.losses) and for what intrusion
detection says (mastio.watch.intrusion); and it tells whose lines wait at a closed door. What is wrong is told by an
alarm once, and once more when it is well again.
"""

import json
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mastio.context import ALARMS, LOGS
from mastio.digest import losses
from mastio.digest.losses import Loss
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.integrity.place import IDENT, SEALED, Place
from mastio.logs import chain, life, line, measure, reader
from mastio.logs.life import Heard, Sign
from mastio.report.figures import octets
from mastio.roles.inspection import SETTINGS, SITE
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.logbook import STATE
from mastio.roles.watch.doors import SHUT
from mastio.site import plain
from mastio.verify.model import Severity
from mastio.watch import alarm, intrusion, seal
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from mastio.watch.settings import load
from mastio.watch.tail import fresh

_MARKS = re.compile(rf" (?:{'|'.join((life.TAG, *losses.TAGS))})(?:\[\d+\])?: ".encode())
_NAMED = 3
"""How many things a subject names."""
_WAY = 30.0
"""Seconds within which a line is in the log."""
_SEALED = f": {SEALED} ".encode()
_WAITS = "waits"
"""What is wrong with a machine whose door is closed."""
_PAUSE = life.SILENT
"""Seconds without a look after which silence is measured anew: it was watch that slept."""


def news(
    site: str, about: str, before: Mapping[str, str], now: Mapping[str, str], at: float
) -> Alarm | None:
    """The alarm about what has become wrong, or well again; by a name, what is wrong in words."""
    worse = [name for name in now if name not in before]
    better = [name for name in before if name not in now]
    if not worse and not better:
        return None
    words = [f"{name}: {now[name]}" for name in worse]
    words += [f"{name}: well again (it was: {before[name]})" for name in better]
    still = [f"{name}: {said}" for name, said in now.items() if name in before]
    text = "\n".join((*words, *(("", "Still:", *still) if still else ()), ""))
    what = "NOT as they should be" if worse else "well again"
    names = worse or better
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    subject = f"[{site}] logs are {what}: {', '.join(names[:_NAMED])}{more}"
    return Alarm(site, about, Severity.HIGH, subject, text, "failed" if now else alarm.WELL, at)


def signs(logs: Path, machine: str, offsets: dict[str, int]) -> Iterator[Sign | Loss]:
    """The signs of life, and of losses, that came since `offsets`, which is moved on. Only what is new is read."""
    for block in fresh(logs, machine, offsets):
        yield from _within(block)


def _within(data: bytes) -> Iterator[Sign | Loss]:
    end = 0
    while mark := _MARKS.search(data, end):
        start, end = data.rfind(b"\n", 0, mark.start()) + 1, data.find(b"\n", mark.end())
        stamp, _, rest = data[start:end].decode(errors="replace").partition(" ")
        # The tag is the fifth word: nobody else's text is taken for a sign.
        sender, _, text = rest.split(" ", 3)[-1].partition(": ")
        tag = sender.partition("[")[0]
        if tag in losses.TAGS and (lost := losses.loss(tag, text)):
            yield lost
        if tag != life.TAG:
            continue
        try:
            arrived = datetime.fromisoformat(stamp).timestamp()
        except (ValueError, OverflowError):
            continue
        if arrived and (found := life.sign(arrived, text)):
            yield found


def waiting(noted: Mapping[str, Any]) -> dict[str, str]:
    """The machines whose lines wait at a door that watch has closed (`roles/watch/doors.py`), and why, in words."""
    found = {}
    for machine, wrote in noted.get("shut", {}).items():
        left = f"watch's disk has {noted['left'] / noted['total']:.1%} left"
        why = "all doors are closed" if noted["all"] else "its door is closed: it has written most"
        found[machine] = (
            f"its lines wait there, in its queue. {left}, and {why} ({octets(wrote)} not packed yet). "
            "See what it writes, and make room on watch: then they come by themselves"
        )
    return found


def listen(
    logs: Path, state: dict[str, Any], machines: tuple[str, ...], now: float,
    shut: Collection[str] = (),
) -> dict[str, str]:  # fmt: skip
    """What is wrong with the machines' signs, by `machine kind`; `state` is what was known, and becomes what is.

    What was over at once (a clock that was set) is told for a day. Those that are `shut` out cannot be heard: they are
    not silent, and what comes afterwards comes late.
    """
    if now - state.get("looked", 0.0) > _PAUSE:
        state["since"] = now
    offsets = state.setdefault("offsets", {})
    events = {it: at for it, at in state.get("events", {}).items() if now - at < life.REMEMBERED}
    wrong: dict[str, str] = {}
    kept_out: dict[str, float] = state.setdefault("kept out", {})

    def happened(what: str, words: str) -> None:
        # The last of a kind is told: a machine that makes up one with each line fills nothing.
        for it in [it for it in events if it.startswith(f"{what}|")]:
            del events[it]
        events[f"{what}|{words}"] = now

    heard: dict[str, Any] = state.get("heard", {})
    for machine in machines:
        one = Heard(**heard.get(machine, {}))
        lost, off = state.setdefault("lost", {}).setdefault(machine, {}), one.off
        for it in signs(logs, machine, offsets):
            if isinstance(it, Loss):
                if more := losses.grown(lost, it):
                    words = f"{more} lines were thrown away: the queue was full ({it.queue})"
                    happened(f"{machine} lost lines", words)
                continue
            for words in one.take(it):
                happened(f"{machine} clock set", words)
        # Who was silent before its door was closed is so still.
        if machine in shut and (
            machine in kept_out or "silent" not in one.state(now, state["since"])
        ):
            kept_out[machine] = now
        expected = max(state["since"], kept_out.get(machine, 0.0))
        if machine in kept_out:
            came = one.arrived > kept_out[machine] and one.arrived - one.clock <= life.OFF
            if came or now - kept_out[machine] > life.REMEMBERED:
                del kept_out[machine]  # it has caught up, or its clock is what is late
            else:
                one.off = off  # what waited says nothing of its clock
        wrong |= {f"{machine} {kind}": words for kind, words in one.state(now, expected).items()}
        heard[machine] = one.plain()
    for event in events:
        name, _, words = event.partition("|")
        wrong[name] = words
    there = {f"{path.parent.name}/{path.name}" for path in logs.glob("*/*.log")}
    state["offsets"] = {name: at for name, at in offsets.items() if name in there}
    state |= {"heard": heard, "events": events, "looked": now}
    return wrong


def proven(logs: Path, state: Path) -> dict[str, str]:
    """What is on disk otherwise than it was sealed: place → words. Raises OSError."""

    def look() -> dict[str, str]:
        found = chain.gathered(measure.said(logs, state))
        # For how long logs are kept is nothing that watch could prove of itself.
        keep = min((it.keep for it in found.seals), default=0)
        parts = (it.partition(": ") for it in chain.wrong(found, keep))
        return {place: words or "see `mastio logs verify`" for place, _, words in parts}

    # Meanwhile a seal may pack and remove: wrong is what is so in two looks. It is kept waiting by neither.
    first = look()
    again = look() if first else {}
    return {it: again[it] for it in first if it in again}


def references(logs: Path, watch: str, place: Place) -> dict[str, str]:
    """Whether integrity's seal is the one of which the log was told last: who edits a reference and its seal has to lie
    there as well, where what came is sealed."""
    for path in sorted((logs / watch).glob("*.log*"), reverse=True):
        with reader.whole(str(path)) as file:
            lines = [it for it in reader.undamaged(str(path), file) if _SEALED in it]
        for one in reversed(lines):
            found = line.read(one.decode(errors="replace"))
            if found and found.program == IDENT and found.text.startswith(SEALED):
                told = found.text.removeprefix(SEALED).strip().partition(" ")[0]
                if place.seal_digest() in ("", told):
                    return {}
                words = f"their seal is not the one that was logged at {found.written:%Y-%m-%d %H:%M} ({told[:12]}…)"
                return {"integrity's references": words}
    return {}


def main(what: str) -> Exit:
    """Runs one of them; how it went."""
    state, now = Path(STATE), time.time()
    site, settings = plain.recall(Path(SITE).read_text()), load(Path(SETTINGS))
    if what == "seal":
        done = seal.seal(Path(LOGS), state, site.policy.log_days, now)
        wrong = dict(it.partition(": ")[::2] for it in done.odd)
        still = [*wrong]
    elif what == "proof":
        wrong = proven(Path(LOGS), state)
        for pause in (0.0, _WAY):
            time.sleep(pause)
            odd = references(Path(LOGS), settings.machine, Place(Path(INTEGRITY)))
            if not odd:
                break
        wrong |= odd
        still = [*wrong]
    else:
        known = _recall(state / "life.json")
        shut = waiting(_recall(SHUT))
        wrong = listen(Path(LOGS), known, tuple(it.name for it in site.machines), now, shut)
        wrong |= {f"{it} {_WAITS}": words for it, words in shut.items()}
        still = [it for it in wrong if it.partition(" ")[2] in (*life.LASTING, _WAITS)]
        put(state / "life.json", json.dumps(known))
    bell, noted = Bell(Path(ALARMS), site), state / f"{what}-told.json"
    told = _recall(noted)
    # An older version noted only what was wrong.
    if one := news(site.name, f"logs ({what})", told.get("wrong", told), wrong, now):
        bell.raise_(one, now)
    # Verification reads it (L2, L4).
    put(noted, json.dumps({"at": time.time(), "wrong": wrong, "still": still}), 0o644)
    if what == "life":
        heard = _recall(state / "intrusion.json")
        for it in intrusion.look(Path(LOGS), heard, site, now):
            bell.raise_(it, now)
        put(state / "intrusion.json", json.dumps(heard))
    failed = bell.ring(settings, now)
    for words in failed:
        print(words, file=sys.stderr)
    return Exit.UNAVAILABLE if failed else Exit.OK


def _recall(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    if sys.argv[1:] not in (["seal"], ["proof"], ["life"]):
        sys.exit("seal, proof or life?")
    try:
        sys.exit(main(sys.argv[1]))
    except (MastioError, OSError, ValueError) as error:
        sys.exit(f"logbook: {error}")
