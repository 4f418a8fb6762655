"""The report: text, JSON, JUnit, the page, and what changed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from mastio.flows import expand
from mastio.report import page
from mastio.report import verify as text
from mastio.verify import history
from mastio.verify.model import Cell, Finding, Run, Verdict
from tests import sites
from tests.unit.verify.fakes import check
from tests.unit.verify.test_runner import good

EVIL = "<script>alert(1)</script> & more"
TCP = (("tcp", 24),)
CELLS = (
    Cell("gateway", "store", "10.77.3.10", TCP, (*TCP, ("tcp", 3306)), (), 65535),
    Cell("gateway", "webmail", "10.77.2.10", (), (), (), 65535),
)
FINDINGS = (
    Finding(check(good, name="Z1"), "gateway", Verdict.FAILED, (EVIL,), CELLS, 1.5),
    Finding(check(good, name="Z1"), "store", Verdict.PASSED),
    Finding(check(good, name="Z2"), "store", Verdict.UNKNOWN, ("no route",)),
    Finding(check(good, name="Z3"), "outside", Verdict.NOT_RUN, ("nobody there",)),
    Finding(check(good, name="Z4"), "store", Verdict.ACCEPTED, ("known",)),
)
RUN = Run("demo", datetime(2026, 1, 2, 3, 4, tzinfo=UTC), 12.5, True, FINDINGS)
GREEN = replace(RUN, findings=(FINDINGS[1],))


def test_the_terminal_gets_failures_first_with_what_to_do() -> None:
    said = [words for _, words in text.lines(RUN)]
    assert said[0] == "failed" and EVIL in said[2] and "→ Mend & go." in said[3]
    assert said[-1].startswith("FAILED: 1 passed") and "1 failed" in said[-1]
    assert [words for _, words in text.lines(GREEN)] == ["All green: 1 passed (full set, 12.5 s)"]


def test_the_same_words_from_several_places_are_said_once() -> None:
    alike = tuple(replace(FINDINGS[0], vantage=name) for name in ("store", "watch"))
    said = [words for _, words in text.lines(replace(RUN, findings=alike))]
    assert sum(EVIL in words for words in said) == 1
    assert any("store, watch:" in words for words in said)


def test_json_is_json() -> None:
    data = json.loads(json.dumps(text.data(RUN)))
    assert data["verdict"] == "failed" and len(data["findings"]) == 5
    assert data["findings"][0]["remedy"] and not data["findings"][1]["remedy"]


def test_junit_counts_every_kind() -> None:
    suite = ElementTree.fromstring(text.junit(RUN))
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "1", "skipped": "2",
    }  # fmt: skip


class Page(HTMLParser):
    """What an accessibility check looks at first."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.wrong: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        if tag == "th" and not found.get("scope"):
            self.wrong.append("a header cell without scope")
        if tag in ("script", "link", "iframe", "object", "img", "form"):
            self.wrong.append(f"<{tag}>")
        if tag == "svg" and found.get("role") != "img":
            self.wrong.append("a picture that is not announced")
        if any(name in ("src", "href", "srcset") for name in found):
            self.wrong.append(f"<{tag}> leads elsewhere")
        self.ids += [str(found["id"])] if "id" in found else []
        self.labels += str(found.get("aria-labelledby", "")).split()


def html(run: Run, *before: Run) -> str:
    return page.html(run, expand(sites.demo_site()), tuple(history.past(it) for it in before))


def test_the_page_is_self_contained_and_can_be_heard() -> None:
    content = html(RUN, GREEN)
    found = Page(content)
    assert not [it for it in found.wrong if it != "<a> leads elsewhere"]
    assert found.headings[0] == 1 and found.headings.count(1) == 1
    assert all(
        after - one <= 1 for one, after in zip(found.headings, found.headings[1:], strict=False)
    )
    assert set(found.labels) <= set(found.ids)
    assert '<html lang="en">' in content and "http-equiv" in content
    assert "url(" not in content and "@import" not in content


def test_the_page_shows_what_was_seen_as_text() -> None:
    content = html(RUN)
    assert EVIL not in content and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in content
    assert "Title &lt;Z1&gt;" in content and "Mend &amp; go." in content


def test_the_matrix_shows_expected_against_seen() -> None:
    content = html(RUN)
    assert "3306/tcp answers, must not (10.77.3.10)" in content
    assert "delivery" in content and "closed" in content
    assert "131,070 ports were tried" in content


def test_the_page_is_the_same_for_the_same_run() -> None:
    assert html(RUN, GREEN) == html(RUN, GREEN)


def test_changes_are_told_against_the_last_look_at_each(tmp_path: Path) -> None:
    earlier = replace(GREEN, began=RUN.began - timedelta(hours=1))
    red = replace(RUN, findings=(replace(FINDINGS[1], verdict=Verdict.FAILED),))
    assert history.load(tmp_path) == ()
    history.save(tmp_path, earlier)
    before = history.load(tmp_path)
    assert before == (history.past(earlier),)
    (change,) = history.changes(red, before)
    assert (change.key, change.was, change.now) == ("Z1@store", Verdict.PASSED, Verdict.FAILED)
    assert history.changes(GREEN, before) == ()
    assert "was <span" in html(red, earlier) and "Nothing has changed" in html(GREEN, earlier)


def test_half_a_file_in_the_history_is_left_out(tmp_path: Path) -> None:
    history.save(tmp_path, RUN)
    (tmp_path / history.FOLDER / "2020.json").write_text('{"began": ')
    assert len(history.load(tmp_path)) == 1
