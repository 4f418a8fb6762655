"""What a plan says: kinds, reasons, diffs, drift; and what people and programs get to read."""

import json
from dataclasses import replace

from mastio.agent.wire import Node, Seen, UnitFact
from mastio.errors import MastioError
from mastio.order import order
from mastio.plan import Kind, MachinePlan, Verb, diff, request
from mastio.report import plan as report
from mastio.services import Transport
from mastio.site.model import Address
from mastio.state import Check, Command, Directory, File, HostState, Link, Listener, Unit, User
from tests import sites
from tests.simulated import asked, blank, settled

CONF = File("/etc/probe/conf", "one\ntwo\n")
KEY = File("/etc/probe/key", "hush-hush-hush", mode=0o600, secret=True)
UNIT = Unit("probe.service", reads=("/etc/probe",))
STATE = HostState(files=(CONF, KEY), units=(UNIT,), removed=("/etc/default-site",))


def node(seen: Seen, path: str, **changes: object) -> Seen:
    """`seen` with a path changed by hand."""
    changed: Node = {**seen["nodes"][path], **changes}  # type: ignore[typeddict-item]
    return {**seen, "nodes": {**seen["nodes"], path: changed}}


def fact(seen: Seen, name: str, **changes: str) -> Seen:
    """`seen` with a unit in another condition."""
    changed: UnitFact = {**seen["units"][name], **changes}  # type: ignore[typeddict-item]
    return {**seen, "units": {**seen["units"], name: changed}}


def verbs(plan: MachinePlan) -> list[str]:
    return [action.verb for action in plan.units]


def test_a_changed_file_shows_its_diff_and_restarts_its_readers() -> None:
    changed = replace(STATE, files=(replace(CONF, content="one\n2\n"), KEY))
    plan = diff(changed, asked(settled(STATE), changed))
    (change,) = plan.paths
    assert change.kind is Kind.CHANGE
    assert change.diff.splitlines()[-3:] == [" one", "-two", "+2"]
    assert not change.drift
    (action,) = plan.units
    assert action.verb == Verb.RESTART
    assert action.reason == "/etc/probe/conf changed"


def test_a_secret_shows_only_that_it_differs() -> None:
    changed = replace(STATE, files=(CONF, replace(KEY, content="other-secret")))
    plan = diff(changed, asked(settled(STATE), changed))
    assert plan.paths[0].notes == ("secret content differs",)
    assert plan.paths[0].diff == ""


def test_a_file_that_another_keeps_is_put_there_once_and_with_the_one_beside_it() -> None:
    """As a certificate that is renewed between two applies, and goes when its key does."""
    kept = File("/var/lib/probe/chain", "interim\n", beside=KEY.path)
    state = replace(STATE, files=(CONF, KEY, kept))
    assert kept.path in [it.path for it in diff(state, asked(blank(), state)).paths]
    settled_ = asked(settled(state), state)
    renewed = node(settled_, kept.path, digest="another's")
    assert diff(state, renewed).empty
    for changes in ({"mode": 0o666}, {"owner": "daemon"}, {"kind": "absent"}):
        found = diff(state, node(renewed, kept.path, **changes))
        assert [it.path for it in found.paths] == [kept.path], changes
    with_key = replace(state, files=(CONF, replace(KEY, content="the-next-key"), kept))
    seen = node(asked(settled(state), with_key), kept.path, digest="another's")
    assert {it.path for it in diff(with_key, seen).paths} == {KEY.path, kept.path}


def test_a_missing_newline_at_the_end_does_not_garble_the_diff() -> None:
    changed = replace(STATE, files=(replace(CONF, content="one\n2"), KEY))
    seen = node(asked(settled(STATE), changed), CONF.path, content="one\ntwo")
    assert diff(changed, seen).paths[0].diff.splitlines()[-2:] == ["-two", "+2"]


def test_packed_data_is_told_by_its_digest() -> None:
    changed = replace(STATE, files=(replace(CONF, content="one\n" + "x" * 5000), KEY))
    seen = node(asked(settled(STATE), changed), CONF.path, content="one\n" + "y" * 5000)
    *_, removed, added = diff(changed, seen).paths[0].diff.splitlines()
    assert removed.startswith("-(5000 characters, SHA-256 ") and removed[1:] != added[1:]
    assert len(added) < 80


def test_owner_and_mode_are_compared() -> None:
    seen = node(settled(STATE), KEY.path, mode=0o644, owner="bin")
    (change,) = diff(STATE, seen).paths
    assert change.notes == ("owner bin:root -> root:root", "mode 0644 -> 0600")
    assert change.drift


def test_a_change_by_hand_is_told_from_a_change_of_the_site() -> None:
    seen = node(settled(STATE), CONF.path, digest="0" * 64, content="by hand\n")
    plan = diff(STATE, seen)
    assert plan.paths[0].drift
    assert any("changed on the machine" in text for _, text in report.lines("m", plan))


def test_what_left_the_site_goes() -> None:
    plan = diff(HostState(), asked(settled(STATE), HostState()))
    assert [(change.path, change.kind) for change in plan.paths] == [
        (KEY.path, Kind.REMOVE), (CONF.path, Kind.REMOVE),
    ]  # fmt: skip
    assert verbs(plan) == [Verb.RETIRE]


def test_a_directory_becomes_a_link_and_says_so() -> None:
    former = HostState(directories=(Directory("/etc/x", mode=0o700),))
    state = HostState(links=(Link("/etc/x", "/etc/y"),))
    (change,) = diff(state, asked(settled(former), state)).paths
    assert change.notes == ("directory becomes link", "-> /etc/y")


def test_units_are_reloaded_when_they_can_but_not_for_their_own_definition() -> None:
    unit = replace(UNIT, reload=True)
    drop_in = File("/etc/systemd/system/probe.service.d/mastio.conf", "[Service]\n")
    state = HostState(files=(CONF, drop_in), units=(unit,))
    changed = replace(state, files=(replace(CONF, content="new\n"), drop_in))
    assert verbs(diff(changed, asked(settled(state), changed))) == [Verb.RELOAD]
    changed = replace(state, files=(CONF, replace(drop_in, content="[Unit]\n")))
    assert verbs(diff(changed, asked(settled(state), changed))) == [Verb.RESTART]


def test_what_a_unit_reads_are_prefixes_of_paths_not_only_folders() -> None:
    reader = HostState(
        files=(File("/etc/probe.d/conf", "one\n"), File("/etc/other.d/conf", "one\n")),
        units=(Unit("probe.service", reads=("/etc/probe",)),),
    )
    read, other = reader.files
    for file, verb in ((read, [Verb.RESTART]), (other, [])):
        files = tuple(replace(it, content="two\n") if it is file else it for it in reader.files)
        changed = replace(reader, files=files)
        plan = diff(changed, asked(settled(reader), changed))
        assert verbs(plan) == verb, file.path


def test_a_template_s_file_defines_its_instances() -> None:
    template = File("/etc/systemd/system/probe@.service", "[Service]\n")
    state = HostState(files=(template,), units=(Unit("probe@1.service"),))
    changed = replace(state, files=(replace(template, content="[Unit]\n"),))
    assert verbs(diff(changed, asked(settled(state), changed))) == [Verb.RESTART]


def test_units_that_stopped_are_started_and_oneshots_are_left_alone() -> None:
    state = replace(STATE, units=(UNIT, Unit("job.service", oneshot=True)))
    seen = fact(settled(state), "probe.service", active="failed")
    seen = fact(seen, "job.service", active="inactive")
    plan = diff(state, seen)
    assert [(action.name, action.verb) for action in plan.units] == [("probe.service", "start")]
    assert plan.units[0].reason == "is failed"


def test_a_unit_that_was_never_started_with_its_files_restarts() -> None:
    seen = settled(STATE)
    forgotten = {**seen, "record": {**seen["record"], "units": {}}, "unfinished": True}
    plan = diff(STATE, forgotten)
    assert verbs(plan) == [Verb.RESTART]
    assert plan.finish == "the last apply was interrupted"


def test_masking_and_unmasking() -> None:
    masked = replace(STATE, units=(replace(UNIT, masked=True),))
    assert verbs(diff(masked, asked(settled(STATE), masked))) == [Verb.MASK]
    back = diff(STATE, asked(settled(masked), STATE))
    assert verbs(back) == [Verb.UNMASK, Verb.ENABLE, Verb.RESTART]


def test_commands_run_when_what_they_read_changes_or_their_file_is_missing() -> None:
    job = Command("map", ("postmap", CONF.path), (CONF.path,), "/etc/probe/conf.lmdb")
    state = replace(STATE, commands=(job,))
    seen = settled(state)
    assert diff(state, seen).empty
    assert diff(state, node(seen, job.creates, kind="absent")).commands[0].reason == (
        "/etc/probe/conf.lmdb is missing"
    )
    changed = replace(state, files=(replace(CONF, content=""), KEY))
    assert diff(changed, asked(seen, changed)).commands[0].reason == "/etc/probe/conf changed"


def test_only_the_checks_of_changed_files_run() -> None:
    checks = (Check("a", ("true",), ("/etc/probe",)), Check("b", ("true",), ("/etc/other",)))
    state = replace(STATE, checks=checks)
    changed = replace(state, files=(replace(CONF, content=""), KEY))
    seen = asked(settled(state), changed)
    plan = diff(changed, seen)
    assert plan.checks == ("a",)
    assert [check["name"] for check in order(changed, seen, plan)["checks"]] == ["a"]


def test_a_package_s_unwanted_default_goes_in_the_same_apply() -> None:
    state = replace(STATE, packages=("nginx",))
    seen = asked(settled(STATE), state)
    work = order(state, seen, diff(state, seen))
    assert [(put["path"], put["kind"]) for put in work["puts"]] == [("/etc/default-site", "absent")]


def test_users_are_made_or_join_groups() -> None:
    state = HostState(users=(User("new"), User("old", groups=("mail", "extra"))))
    seen = {**asked(blank(), state), "users": {"old": ["mail"]}}
    plan = diff(state, seen)
    assert [(user.verb, user.name, user.reason) for user in plan.users] == [
        ("create", "new", "missing"), ("join", "old", "not in extra"),
    ]  # fmt: skip
    assert [user["create"] for user in order(state, seen, plan)["users"]] == [True, False]


def test_running_rules_that_nobody_confirmed_are_loaded_again() -> None:
    state = HostState(firewall="table inet a {}\n")
    seen = settled(state)
    assert diff(state, seen).empty
    change = diff(state, {**seen, "running": "else"}).firewall
    assert change is not None
    assert change.drift


def test_the_ruleset_replaces_whatever_runs() -> None:
    state = HostState(firewall="table inet a {}\n")
    seen = asked(blank(), state)
    work = order(state, seen, diff(state, seen))
    assert work["firewall"] == "flush ruleset\ntable inet a {}\n"


def test_a_deaf_listener_is_told_but_changes_nothing() -> None:
    address: Address = sites.PUBLIC6
    state = HostState(listeners=(Listener(address, 25, Transport.TCP),))
    seen = {**settled(state), "silent": request(state)["listeners"]}
    plan = diff(state, seen)
    assert plan.empty
    (_, title), (_, text) = report.lines("m", plan)
    assert title == "m · 0 changes"
    assert "[2001:db8:113::1]:25/tcp — nothing listens" in text


def test_the_report_reads_well_and_is_json_too() -> None:
    plan = diff(STATE, asked(blank(), STATE))
    text = [line for _, line in report.lines("store", plan)]
    assert text[0] == "store · 4 changes"
    assert "  + file      /etc/probe/conf — root:root 0644" in text
    assert "      +one" in text
    assert "  + file      /etc/probe/key — secret content; root:root 0600" in text
    assert "  ↻ restart   probe.service — /etc/probe/conf and 1 more changed" in text
    assert json.loads(json.dumps(report.data(plan)))["changes"] == 4
    assert report.data(MastioError("away", hint="look")) == {"error": "away", "hint": "look"}
    assert report.summary({"store": plan, "web": MachinePlan()}) == "4 changes on 1 of 2 machines."
    assert report.summary({"web": MachinePlan()}) == "Nothing to do on 1 machine."
    assert not [line for _, line in report.lines("store", plan, diffs=False) if "+one" in line]
