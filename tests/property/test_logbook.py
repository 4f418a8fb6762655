"""Laws of signs of life: whatever a machine's log says, it is read to its end, and what is remembered has a bound."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mastio.digest import losses
from mastio.logs import life
from mastio.watch.logbook import listen
from tests.unit.watch.test_logbook import DAY, NOW, stamp, write

NUMBERS = st.one_of(
    st.sampled_from(["9" * 4300, "9" * 5000, "1e999", "-1", "nan", "١", ""]),
    st.integers(0, 10**13).map(str),
    st.floats(0, 1e13).map(lambda it: f"{it:.3f}"),
)
BOOTS = st.text("0123456789abcdef-", min_size=7, max_size=9)
SIGNS = st.builds("boot={} seq={} up={} clock={}".format, BOOTS, NUMBERS, NUMBERS, NUMBERS)
COUNTERS = st.builds(
    "{}: origin=core.queue x discarded.full={} discarded.nf={}".format,
    st.text("Qq ", min_size=1, max_size=9), NUMBERS, NUMBERS,
)  # fmt: skip
LINES = st.one_of(
    st.tuples(st.just(life.TAG), SIGNS),
    st.tuples(st.just(losses.COUNTERS), COUNTERS),
    st.tuples(st.just(losses.MISSED), NUMBERS.map("Forwarding to syslog missed {} messages.".format)),
    st.tuples(st.sampled_from([life.TAG, *losses.TAGS]), st.text(max_size=50)),
)  # fmt: skip
STAMPS = st.one_of(
    st.floats(0, 600).map(lambda it: stamp(NOW + it)), st.text("0123456789T:-", max_size=20)
)


@given(st.lists(st.tuples(STAMPS, LINES), max_size=30))
@settings(deadline=None)
def test_what_a_machine_says_stops_nobody(said: list[tuple[str, tuple[str, str]]]) -> None:
    state: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        logs = Path(made)
        write(logs, "gateway", 1, NOW - 60)
        with (logs / "gateway" / f"{DAY}.log").open("ab") as file:
            for when, (tag, text) in said:
                words = f"{when} gateway {when} daemon.notice {tag}: {text}".replace("\n", " ")
                file.write(f"{words}\n".encode())
        write(logs, "store", 1, NOW)
        listen(logs, state, ("gateway", "store"), NOW + 601)
        assert state["offsets"][f"gateway/{DAY}.log"] == file_size(logs)
        assert listen(logs, state, ("gateway", "store"), NOW + 602).keys() <= {
            f"{machine} {kind}"
            for machine in ("gateway", "store")
            for kind in ("silent", "gap", "clock", "clock set", "lost lines")
        }
    assert state["heard"]["store"]["number"] == 1
    assert len(state["heard"]["gateway"]["missing"]) <= life.MISSING
    assert len(state["events"]) <= 2
    json.dumps(state, allow_nan=False)


def file_size(logs: Path) -> int:
    return (logs / "gateway" / f"{DAY}.log").stat().st_size
