"""Integrity on watch: what is news, what is overdue, and what apply and accept take over."""

import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from mastio.errors import MastioError
from mastio.integrity import database
from mastio.integrity.difference import Difference, Kind
from mastio.integrity.expected import of_apply
from mastio.integrity.place import Last, Place, Verdict
from mastio.plan import MachinePlan
from mastio.state import File, HostState
from mastio.transport import Transport
from mastio.verify.probes import host, state
from mastio.verify.vantage import Vantage
from mastio.watch import alarm as alarms
from mastio.watch import judging, measuring
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from mastio.watch.measuring import Measurer, Seen, TamperedError, answered
from tests import sites
from tests.unit.integrity.samples import row, text
from tests.unit.watch.test_schedule import SETTINGS

SITE = sites.demo_site()
FACTS: dict[str, list[str]] = {
    it: [] for it in ("listener", "deleted", "key", "suid", "unit", "account")
}
ONE = Difference("/x", Kind.ADDED, "a file")


class Fake:
    """Machines that are what a test says; nothing is called."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}
        self.facts: dict[str, list[str]] = {}
        self.fails: MastioError | None = None
        self.broken: dict[str, Exception] = {}

    def see(self, machine: str, *, deep: bool = False) -> Seen:
        if error := self.broken.get(machine, self.fails):
            raise error
        rows = database.parse(text(*self.rows.get(machine, [row("/etc/a")])))
        return Seen(rows, json.loads(json.dumps({**FACTS, **self.facts})), {"p": "1"}, 1.0, 0.5)


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Work(judging.Work):
    """One run, and what it told."""

    def __init__(self, place: Place, fake: Fake) -> None:
        self.told: list[Alarm] = []
        super().__init__(place, SITE, cast(Measurer, fake), lambda _: None, self.told.append)


Run = Callable[..., Work]


@pytest.fixture
def run(place: Place, fake: Fake) -> Run:
    def run(what: str, *arguments: Any, **more: Any) -> Work:
        work = Work(place, fake)
        getattr(work, what)(*arguments, **more)
        return work

    return run


def settle(*machines: str, state: HostState | None = None) -> dict[str, Any]:
    one = of_apply(state or HostState(), MachinePlan())
    return {"by": "me", "machines": {it: json.loads(json.dumps(one)) for it in machines}}


def test_a_first_apply_takes_the_reference_and_then_all_is_clean(run: Run, place: Place) -> None:
    assert run("settle", settle("store")).now["store"].verdict is Verdict.CLEAN
    work = run("check", ["store"], deep=False)
    assert work.now["store"].verdict is Verdict.CLEAN and work.told == []
    assert place.broken() == ()
    assert (
        json.loads((place.folder / "status.json").read_text())["machines"]["store"]["verdict"]
        == "clean"
    )


def test_a_machine_without_a_reference_is_never_green(run: Run) -> None:
    last = run("check", ["store"], deep=False).now["store"]
    assert last.verdict is Verdict.UNKNOWN and "no reference" in last.why and not last.tampered


def test_a_planted_file_is_told_once_and_that_it_is_gone_too(run: Run, fake: Fake) -> None:
    run("settle", settle("store"))
    fake.rows["store"] = [row("/etc/a"), row("/usr/bin/evil", perm="104755")]
    (alarm,) = run("check", ["store"], deep=False).told
    assert alarm.verdict == "failed" and alarm.subject.startswith("[demo] store: changed")
    assert "/usr/bin/evil: new SUID" in alarm.text
    assert run("check", ["store"], deep=False).told == []
    del fake.rows["store"]
    (alarm,) = run("check", ["store"], deep=False).told
    assert alarm.well and "well again" in alarm.subject


def test_what_comes_to_an_open_alarm_is_told_again(
    run: Run, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the bell: its subject is the same, and the same is told once a day."""
    mails: list[Alarm] = []
    monkeypatch.setattr(alarms, "mail", lambda one, *_: mails.append(one))
    bell, planted = Bell(tmp_path / "alarms", SITE), [row("/etc/a")]
    run("settle", settle("store"))
    for name in ("/etc/one", "/etc/two"):
        planted.append(row(name))
        fake.rows["store"] = planted
        for _ in range(2):
            for it in run("check", ["store"], deep=False).told:
                bell.raise_(it, time.time())
            bell.ring(SETTINGS, time.time())
    assert ["/etc/two" in it.text for it in mails] == [False, True]
    assert mails[0].subject == mails[1].subject


def test_apply_takes_over_its_own_file_and_not_the_one_beside_it(run: Run, fake: Fake) -> None:
    run("settle", settle("store"))
    fake.rows["store"] = [row("/etc/a", "new"), row("/etc/evil")]
    work = run("settle", settle("store", state=HostState(files=(File("/etc/a", "new"),))))
    assert [it.what for it in work.now["store"].differences] == ["/etc/evil"]
    (alarm,) = work.told
    assert "/etc/evil" in alarm.text and "/etc/a:" not in alarm.text


def test_accepting_takes_over_what_was_seen_and_is_logged(
    run: Run, fake: Fake, place: Place
) -> None:
    run("settle", settle("store"))
    fake.rows["store"] = [row("/etc/a", "y"), row("/etc/b")]
    fake.facts = {"listener": ["tcp 0.0.0.0 port 4444 (nc)"]}
    run("check", ["store"], deep=False)
    order = {"machine": "store", "what": ["/etc/b"], "why": "ticket 1", "by": "alice@desk"}
    with pytest.raises(MastioError, match="nothing differs at /etc/c"):
        run("accept", {**order, "what": ["/etc/c"]})
    # It changes once more before it is accepted: what was seen counts.
    fake.rows["store"] = [row("/etc/a", "y"), row("/etc/b", "evil")]
    left = run("accept", order).now["store"].differences
    assert [it.what for it in left] == ["/etc/a", "tcp 0.0.0.0 port 4444 (nc)"]
    assert (
        place.entries()[0][-1]["by"] == "alice@desk" and place.entries()[0][-1]["why"] == "ticket 1"
    )
    found = run("check", ["store"], deep=False).now["store"].differences
    assert {it.what for it in found} == {"/etc/a", "/etc/b", "tcp 0.0.0.0 port 4444 (nc)"}
    assert run("accept", {**order, "what": []}).now["store"].verdict is Verdict.CLEAN
    assert run("check", ["store"], deep=False).now["store"].verdict is Verdict.CLEAN


def test_an_edited_reference_is_told_and_neither_used_nor_sealed_again(
    run: Run, fake: Fake, place: Place
) -> None:
    run("settle", settle("store", "gateway"))
    path = place.folder / "store/reference.json"
    path.write_text(path.read_text().replace('"me"', '"evil"'))
    work = run("check", ["store", "gateway"], deep=False)
    assert work.now["store"].tampered and "edited on watch" in work.now["store"].why
    assert work.now["gateway"].verdict is Verdict.CLEAN
    (alarm,) = work.told
    assert (
        alarm.about == "integrity store"
        and alarm.subject == "[demo] store: integrity cannot be measured any more"
    )
    run("settle", settle("store", "gateway"))
    assert place.broken() == ("store/reference.json",)
    run("renew", {"by": "me", "why": "looked into it", "machines": ["store"]})
    assert place.broken() == ()
    assert run("check", ["store"], deep=False).now["store"].verdict is Verdict.CLEAN


def test_a_machine_that_refuses_is_told_and_one_that_is_away_is_not(run: Run, fake: Fake) -> None:
    run("settle", settle("store"))
    fake.fails = MastioError("store cannot be reached")
    work = run("check", ["store"], deep=False)
    assert work.now["store"].verdict is Verdict.UNKNOWN and work.told == []
    fake.fails = TamperedError("store refused: not the tools that apply has named")
    assert run("check", ["store"], deep=False).told
    assert run("check", ["store"], deep=False).told == []


def test_a_timer_looks_twice_since_an_apply_may_be_at_work(
    run: Run, fake: Fake, place: Place
) -> None:
    run("settle", settle("store"))
    fake.rows["store"] = [row("/etc/a", "new")]
    work = run("check", ["store"], deep=False, patient=True)
    assert work.doubtful == ["store"] and work.told == []
    last = place.last("store")
    assert last and last.verdict is Verdict.CLEAN, "nothing is said yet"
    # The apply has its last word: no alarm, and none that all is well again.
    done = run("settle", settle("store", state=HostState(files=(File("/etc/a", "new"),))))
    assert done.told == []
    assert run("check", work.doubtful, deep=False).told == []
    # An intruder has none.
    fake.rows["store"] = [row("/etc/a", "evil")]
    work = run("check", ["store"], deep=False, patient=True)
    assert run("check", work.doubtful, deep=False).told
    assert run("check", ["store"], deep=False, patient=True).doubtful == []


def test_differences_outlive_a_while_in_which_nobody_could_look(run: Run, fake: Fake) -> None:
    run("settle", settle("store"))
    fake.rows["store"] = [row("/etc/b")]
    run("check", ["store"], deep=False)
    fake.fails = MastioError("store cannot be reached")
    assert run("check", ["store"], deep=False).now["store"].differences
    fake.fails = None
    assert run("check", ["store"], deep=False).told == []


def packed(said: bytes) -> bytes:
    """Without the time: what a test is called by must be the same in each of pytest's processes."""
    return gzip.compress(said, mtime=0)


HEAD, WHOLE = b'{"code": 0, "words": "", "cpu": 0.5}\n', packed(text().encode())


def test_a_measurement_is_rows_and_what_they_cost() -> None:
    assert answered("store", HEAD + WHOLE) == ({}, 0.5)


@pytest.mark.parametrize(
    "said",
    [
        b"", b"x\n", b"[]\n", b"[" * 100_000 + b"\n", HEAD, HEAD + b"x", HEAD + WHOLE[:-9],
        # A block of a kind that there is not (RFC 1951, 3.2.3).
        HEAD + WHOLE[:10] + b"\xff" + WHOLE[11:],
        HEAD + packed(b"no database"), HEAD + packed(b"\xff"),
        *(
            head + b"\n" + WHOLE
            for head in (
                b'{"code": 0, "words": ""}', b'{"code": 0, "words": "", "cpu": {}}', b'{"words": "", "cpu": 1}',
                b'{"code": 0, "words": "", "cpu": NaN}', b'{"code": 1e999, "words": "", "cpu": 1}',
                b'{"code": null, "words": "", "cpu": 1}', b'{"code": 0, "words": "", "cpu": 1' + b"0" * 400 + b"}",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_no_measurement_is_refused_whatever_a_machine_sends(said: bytes) -> None:
    with pytest.raises(TamperedError, match="the answer is no measurement"):
        answered("store", said)


def test_a_few_octets_do_not_become_more_than_watch_can_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "_MOST", 1000)
    assert answered("store", HEAD + WHOLE)[0] == {}
    with pytest.raises(TamperedError, match="more than 1000 octets"):
        answered("store", HEAD + gzip.compress(b"\0" * 1001))
    monkeypatch.setattr(measuring, "_PATHS", 100)
    with pytest.raises(TamperedError, match="more than 100 paths"):
        answered("store", HEAD + gzip.compress(b"\n" * 101))


def test_a_measurement_without_end_is_no_machine_that_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").touch()
    monkeypatch.setattr(measuring, "CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(Vantage, "ask", lambda *_: {})
    flood = {"store": ["sh", "-c", "exec cat /dev/zero"]}
    with pytest.raises(TamperedError, match="store answers with more than 8,388,608 octets"):
        Measurer(SITE, cast(Transport, None), flood, {}).see("store")


def test_why_aide_gave_up_is_told() -> None:
    with pytest.raises(TamperedError, match=r"AIDE gave up \(17\): no"):
        answered("store", b'{"code": 17, "words": "no", "cpu": 0}\n')
    with pytest.raises(TamperedError, match=r"AIDE gave up \(1\): \['x'\]"):
        answered("store", b'{"code": 1, "words": ["x"], "cpu": 0}\n')


def test_what_probes_answer_is_not_taken_for_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[Any, Any] = {
        state.facts: [{"key": [], "suid": [], "unit": [], "account": []}, {"p": 1}],
        host.listeners: [], host.deleted: [], host.digest: "d",
    }  # fmt: skip
    monkeypatch.setattr(Vantage, "ask", lambda self, function, *_: answers[function])
    measurer = Measurer(SITE, cast(Transport, None), {}, {})
    assert measurer._facts("store", deep=False) == (FACTS, {"p": "1"}, "d")
    for function, wrong in (
        (host.deleted, [1]),
        (host.listeners, [["tcp"]]),
        (state.facts, [{}, {}]),
    ):
        with monkeypatch.context() as foul, pytest.raises(ValueError):
            foul.setitem(answers, function, wrong)
            measurer._facts("store", deep=False)


@pytest.mark.parametrize("error", [KeyError("cpu"), TypeError("x"), OverflowError(), MemoryError()])
@pytest.mark.parametrize("patient", [True, False])
def test_what_one_machine_answers_ends_nothing_for_the_others(
    run: Run, fake: Fake, place: Place, error: Exception, patient: bool
) -> None:
    run("settle", settle("store", "gateway"))
    fake.broken, fake.rows["gateway"] = {"store": error}, [row("/etc/evil")]
    work = run("check", ["store", "gateway"], deep=False, patient=patient)
    alarms = {it.about: it for it in work.told}
    foul = alarms.pop("integrity store")
    assert foul.subject == "[demo] store: integrity cannot be measured any more"
    assert type(error).__name__ in foul.text
    assert [*alarms] == ([] if patient else ["integrity gateway"])
    assert work.doubtful == (["gateway"] if patient else [])
    known = json.loads((place.folder / "status.json").read_text())["machines"]["store"]
    assert known["verdict"] == Verdict.UNKNOWN and known["tampered"]


def test_what_differs_is_told_before_it_is_kept_as_known(
    run: Run, fake: Fake, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped in between tells it the next time."""
    run("settle", settle("store"))
    fake.rows["store"] = [row("/etc/evil")]
    with monkeypatch.context() as stopped:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        stopped.setattr(Place, "keep_seen", stop)
        with pytest.raises(KeyboardInterrupt):
            run("check", ["store"], deep=False)
    last = place.last("store")
    assert last and last.verdict is Verdict.CLEAN
    assert len(run("check", ["store"], deep=False).told) == 1
    assert run("check", ["store"], deep=False).told == []


def test_nothing_is_accepted_on_a_machine_that_cannot_be_measured(
    run: Run, fake: Fake, place: Place
) -> None:
    run("settle", settle("store"))
    order = {"machine": "store", "what": [], "why": "it told me to", "by": "me"}
    fake.broken = {"store": TamperedError("store: measuring broke: 1")}
    (alarm,) = run("check", ["store"], deep=False).told
    assert "nothing can be accepted" in alarm.text and "--why" not in alarm.text
    with pytest.raises(MastioError, match="store could not be measured: store: measuring broke"):
        run("accept", order)
    last = place.last("store")
    assert last and last.verdict is Verdict.UNKNOWN and last.tampered
    assert len(place.entries()[0]) == 1, "the first apply's alone"
    fake.broken, fake.rows["store"] = {}, [row("/etc/a"), row("/etc/b")]
    (alarm,) = run("check", ["store"], deep=False).told
    assert "accept --why" in alarm.text
    assert [it.well for it in run("accept", order).told] == [True]


def late(place: Place, now: float, since: float) -> list[str]:
    """The machines that are overdue, by their alarms."""
    found = judging.overdue(place, SITE, now, since)
    assert [it.about for it in found] == [f"measuring {it.name}" for it in SITE.machines]
    return [it.subject for it in found if not it.well]


def test_silence_is_told_and_that_somebody_measures(place: Place) -> None:
    now = 1_000_000.0
    for machine in SITE.machines:
        place.keep_last(machine.name, Last(now, Verdict.CLEAN, measured=now))
    assert late(place, now + 3600, 0) == []
    place.keep_last("store", Last(now, Verdict.UNKNOWN, "no route", measured=now - 4 * 3600))
    assert late(place, now, 0) == ["[demo] store: integrity has not been measured"]


def test_nothing_measured_at_all_is_overdue_as_well(place: Place) -> None:
    now = time.time()
    assert late(place, now, now) == []
    assert len(late(place, now, now - 4 * 3600)) == len(SITE.machines)


def news(former: Last | None, last: Last) -> str:
    before: Mapping[str, Last | None] = {"store": former}
    return "".join(it.subject for it in judging.news("demo", before, {"store": last}, 1.0))


def test_the_first_time_what_differs_is_news() -> None:
    differs = Last(1.0, Verdict.DIFFERS, "", (ONE,))
    assert "changed" in news(None, differs) and news(differs, differs) == ""
    assert news(None, Last(1.0, Verdict.CLEAN)) == ""
