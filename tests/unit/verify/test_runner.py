"""The runner: a finding for everything, whatever happens, in bounded time."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

from mastio.errors import MastioError
from mastio.report.verify import headline
from mastio.site.model import Accepted
from mastio.verify import runner
from mastio.verify.model import Check, Finding, Place, Run, Verdict
from mastio.verify.probes import host
from mastio.verify.vantage import Ground, Vantage
from tests import sites
from tests.unit.verify.fakes import Here, Says, check, ground


def _run(a_ground: Ground, *checks: Check, limit: float | None = None) -> Run:
    return runner.run(a_ground, checks, lambda finding, done, total: None, limit)


def good(_: Vantage) -> Iterator[str]:
    yield from ()


def bad(vantage: Vantage) -> Iterator[str]:
    yield f"{vantage.name} is wrong"


def unable(_: Vantage) -> Iterator[str]:
    raise MastioError("nobody answers")
    yield ""


def broken(_: Vantage) -> Iterator[str]:
    raise KeyError("a bug")
    yield ""


def slow(vantage: Vantage) -> Iterator[str]:
    vantage.output("sleep", "30")
    yield ""


def verdicts(run: Run) -> set[Verdict]:
    return {it.verdict for it in run.findings}


def test_nothing_wrong_is_passed_at_every_vantage() -> None:
    run = _run(ground(), check(good))
    assert verdicts(run) == {Verdict.PASSED} and run.verdict is Verdict.PASSED
    assert [it.vantage for it in run.findings] == [it.name for it in sites.demo_site().machines]


def test_a_fault_is_failed_and_said() -> None:
    run = _run(ground(), check(bad), check(good, name="Z2"))
    assert run.verdict is Verdict.FAILED
    assert run.findings[0].seen == ("firewall is wrong",)


def test_what_cannot_be_asked_is_never_green_and_has_words() -> None:
    for function, words in ((unable, "nobody answers"), (broken, "a bug")):
        run = _run(ground(), check(function))
        assert verdicts(run) == {Verdict.UNKNOWN} and run.verdict is Verdict.UNKNOWN
        assert words in run.findings[0].seen[0] and "Traceback" not in run.findings[0].seen[0]


def test_a_fault_seen_before_the_look_was_cut_short_counts() -> None:
    def half(vantage: Vantage) -> Iterator[str]:
        yield "one is open"
        raise MastioError("then it went away")

    assert verdicts(_run(ground(), check(half))) == {Verdict.FAILED}


def test_a_machine_that_is_down_spoils_its_own_findings_alone() -> None:
    run = _run(ground(Here("store")), check(good))
    by_name = {it.vantage: it for it in run.findings}
    assert by_name["store"].verdict is Verdict.UNKNOWN
    assert "store cannot be reached" in by_name["store"].seen[0]
    assert by_name["watch"].verdict is Verdict.PASSED


def test_without_a_machine_outside_its_checks_are_not_run() -> None:
    run = _run(ground(outside=False), check(bad, (Place.OUTSIDE,)))
    assert verdicts(run) == {Verdict.NOT_RUN} and run.verdict is Verdict.NOT_RUN
    assert "verify.outside" in run.findings[0].seen[0]


def test_a_check_has_its_time_and_no_more() -> None:
    start = time.monotonic()
    run = _run(ground(), check(slow, seconds=0.5))
    assert verdicts(run) == {Verdict.UNKNOWN} and time.monotonic() - start < 10


def test_the_whole_run_has_its_time_and_no_more() -> None:
    start = time.monotonic()
    run = _run(ground(), *(check(slow, name=f"Z{n}") for n in range(6)), limit=1)
    assert verdicts(run) == {Verdict.UNKNOWN} and len(run.findings) == 30
    assert time.monotonic() - start < 10


def test_who_names_a_check_of_the_full_set_gives_it_its_time() -> None:
    left: list[float] = []

    def look(vantage: Vantage) -> Iterator[str]:
        left.append(vantage.left())
        yield from ()

    _run(ground(), replace(check(look, seconds=500), full=True))
    _run(ground(), check(look, seconds=500))
    assert max(left[:5]) > 400 and max(left[5:]) < 130


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []

    def tell(finding: Finding, done: int, total: int) -> None:
        seen.append((done, total))

    runner.run(ground(), [check(good)], tell)
    assert seen == [(number, 5) for number in range(1, 6)]


def test_a_failure_is_accepted_until_its_day_and_not_longer() -> None:
    today = date.today()
    for days, verdict in ((1, Verdict.ACCEPTED), (-2, Verdict.FAILED)):
        known = Accepted("Z1", "the vendor mends it", today + timedelta(days=days))
        run = _run(ground(site=replace(sites.demo_site(), accepted=(known,))), check(bad))
        assert verdicts(run) == {verdict}
        assert "the vendor mends it" in run.findings[0].seen[-1]


def test_some_findings_are_accepted_and_others_are_not() -> None:
    def both(vantage: Vantage) -> Iterator[str]:
        yield "KRNL-5820: core dumps"
        yield "AUTH-9262: no PAM module"

    for only, verdict in (
        (("KRNL-5820",), Verdict.FAILED),
        (("KRNL-5820", "AUTH-9262"), Verdict.ACCEPTED),
    ):
        known = Accepted("Z1", "it is a container", date.today() + timedelta(days=1), only)
        run = _run(ground(site=replace(sites.demo_site(), accepted=(known,))), check(both))
        assert verdicts(run) == {verdict}
        shown = run.findings[0].seen
        assert ("KRNL-5820: core dumps" in shown) is (verdict is Verdict.ACCEPTED)
        assert "it is a container" in shown[-1]


def test_a_run_of_what_is_accepted_alone_is_no_run_of_nothing() -> None:
    known = Accepted("Z1", "for now", date.today() + timedelta(days=1))
    run = _run(ground(site=replace(sites.demo_site(), accepted=(known,))), check(bad))
    assert run.verdict is Verdict.PASSED and headline(run).startswith("All green: 5 accepted")


def test_the_same_question_is_asked_once() -> None:
    a_ground = ground()
    vantage = Vantage("store", a_ground, time.monotonic() + 10)
    first = vantage.ask(host.exists, ["/", "/nowhere"])
    assert first == ["/"]
    a_ground.transport = Here("store")
    assert vantage.ask(host.exists, ["/", "/nowhere"]) == first


def test_a_probes_error_is_its_words() -> None:
    vantage = Vantage("store", ground(), time.monotonic() + 10)
    try:
        vantage.ask(host.text, "/nowhere")
    except MastioError as error:
        assert "No such file" in error.message and "Traceback" not in error.message
    else:
        raise AssertionError("it must say that it could not look")


def test_what_is_seen_can_be_printed_whatever_a_machine_says() -> None:
    says = ground(Says(json.dumps({"error": "\ud800\x1b[2J\n\u2713 all green"})))

    def asks(vantage: Vantage) -> Iterator[str]:
        yield from vantage.ask(host.deleted)

    for finding in _run(says, check(asks)).findings:
        assert finding.verdict is Verdict.UNKNOWN
        assert finding.seen == ("\\ud800\\x1b[2J\\n\u2713 all green",)
    odd = ground(Says(json.dumps({"answer": ["sshd", "a\nb"]})))
    assert _run(odd, check(asks)).findings[0].seen == ("sshd", r"a\nb")


def test_who_must_be_alone_runs_last() -> None:
    order: list[str] = []

    def quiet(vantage: Vantage) -> Iterator[str]:
        time.sleep(0.2)
        order.append("other")
        yield from ()

    def shuts_out(vantage: Vantage) -> Iterator[str]:
        order.append("alone")
        yield from ()

    checks = (check(shuts_out, alone=True), check(quiet, name="Z2"))
    assert verdicts(_run(ground(), *checks)) == {Verdict.PASSED}
    assert order == ["other"] * (len(order) // 2) + ["alone"] * (len(order) // 2)
