"""Laws of plan and apply, over generated states and a simulated machine."""

from hypothesis import given
from hypothesis import strategies as st

from mastio.order import order
from mastio.plan import diff
from mastio.report import plan as report
from mastio.state import Check, Command, Directory, File, HostState, Link, Unit, User
from tests.simulated import asked, blank, carry_out, settled

NAMES = st.sampled_from([f"/etc/{name}" for name in ("a", "b", "a.d/x", "a.d/y", "c/d/e", "f")])
CONTENT = st.text("xy\n", max_size=8)
SECRET = "hush-hush-hush"
READS = st.lists(st.sampled_from(["/etc", "/etc/a", "/etc/a.d", "/etc/f"]), max_size=2).map(tuple)
MODES = st.sampled_from([0o600, 0o640, 0o644])


@st.composite
def states(draw: st.DrawFn) -> HostState:
    """A state whose paths are distinct, with units and commands that read some of them."""
    paths = draw(st.lists(NAMES, unique=True))
    split = draw(st.integers(0, len(paths)))
    files = tuple(
        File(path, SECRET + draw(CONTENT), mode=draw(MODES), secret=True)
        if draw(st.booleans())
        else File(path, draw(CONTENT), mode=draw(MODES), group=draw(st.sampled_from(["root", "x"])))
        for path in paths[:split]
    )
    rest = paths[split:]
    units = draw(st.lists(st.sampled_from(["u.service", "v.timer", "w@1.service"]), unique=True))
    commands = draw(st.lists(st.sampled_from(["one", "two"]), unique=True))
    return HostState(
        packages=tuple(draw(st.lists(st.sampled_from(["p", "q"]), unique=True))),
        users=tuple(User(name, groups=("g",)) for name in draw(st.sets(st.just("user")))),
        files=files,
        links=tuple(Link(path, draw(CONTENT) + "t") for path in rest[::3]),
        directories=tuple(Directory(path, mode=draw(MODES)) for path in rest[1::3]),
        removed=tuple(rest[2::3]),
        units=tuple(
            Unit(
                name, draw(READS), reload=draw(st.booleans()), masked=draw(st.booleans()),
                oneshot=draw(st.booleans()),
            )
            for name in units
        ),
        commands=tuple(
            Command(name, ("run", name), draw(READS), f"/var/{name}") for name in commands
        ),
        checks=(Check("all", ("true",), ("/etc",)),),
        firewall=draw(st.sampled_from(["", "table inet a {}\n", "table inet b {}\n"])),
    )  # fmt: skip


@given(states())
def test_a_machine_that_is_as_desired_needs_nothing(state: HostState) -> None:
    assert diff(state, settled(state)).empty


@given(states(), states())
def test_any_state_leads_to_any_other_in_one_apply(former: HostState, state: HostState) -> None:
    seen = settled(state, settled(former))
    assert diff(state, seen).empty
    kept = {item.path for item in (*state.files, *state.links, *state.directories)}
    there = {path for path, node in seen["nodes"].items() if node["kind"] != "absent"}
    derived = {job.creates for job in (*former.commands, *state.commands)}
    assert there - derived - {"/etc/nftables.conf"} == kept


@given(states(), states())
def test_whatever_reads_a_changed_file_starts_anew(former: HostState, state: HostState) -> None:
    seen = asked(settled(former), state)
    plan = diff(state, seen)
    changed = {change.path for change in plan.paths}
    started = {action.name for action in plan.units if action.verb in ("restart", "reload")}
    for unit in state.units:
        if not unit.masked and any(
            path == root or path.startswith(f"{root}/") for path in changed for root in unit.reads
        ):
            assert unit.name in started


@given(states(), states())
def test_no_secret_is_ever_shown(former: HostState, state: HostState) -> None:
    plan = diff(state, asked(settled(former), state))
    text = "\n".join(line for _, line in report.lines("m", plan))
    assert SECRET not in text + repr(plan) + repr(state) + str(report.data(plan))


@given(states(), states())
def test_an_apply_killed_after_the_switch_still_restarts(
    former: HostState, state: HostState
) -> None:
    before = asked(settled(former), state)
    plan = diff(state, before)
    work = order(state, before, plan)
    # What the agent has done by then: the record forgot what concerns the change, the paths moved.
    waiting = {
        name for verb in ("restart", "reload", "start") for name in work["verbs"].get(verb, [])
    }
    record = before["record"]
    units = {name: held for name, held in record["units"].items() if name not in waiting}
    killed = {
        **before,
        "nodes": carry_out(before, {**work, "verbs": {}, "commands": []}, state)["nodes"],
        "record": {
            **record,
            "units": units,
            "manifest": {**record["manifest"], **work["record"]["manifest"]},
        },
        "unfinished": True,
    }
    again = diff(state, asked(killed, state))
    started = {action.name for action in again.units if action.verb not in ("enable", "unmask")}
    assert waiting <= started
    assert not again.empty


def test_a_blank_machine_has_everything_to_do() -> None:
    state = HostState(packages=("p",), files=(File("/etc/a", "x"),), units=(Unit("u.service"),))
    plan = diff(state, asked(blank(), state))
    assert plan.packages == ("p",)
    assert [action.verb for action in plan.units] == ["enable", "restart"]
