"""A digest as text, page, JSON and mail: what is at the top, and that strangers' words stay words."""

import json
import re
from email import message_from_bytes, policy

from mastio.digest.judge import Verified
from mastio.digest.summary import Novelty, Summary, from_plain
from mastio.report import digest as report
from mastio.report import figures
from mastio.watch import digest as watching
from tests import sites
from tests.unit.digest.lines import DELIVERED, read, refusal
from tests.unit.digest.test_judge import calm, digest, having

SITE = sites.demo_site()
EVIL = "<script>alert(1)</script>\x1b[2J"


def evil() -> Summary:
    summary = calm()
    summary.meet("shapes", "gizmo: *", Novelty(f"store {EVIL}", 1, "2026-11-24T21:00:00"))
    return summary


def test_three_lines_say_whether_something_needs_a_person() -> None:
    first, second, third = report.text(digest(calm())).splitlines()[:3]
    assert first == "Nothing needs a person."
    assert second == "All is as it should be."
    assert third == "Mail: in 500 (0 B), out 0 (0 B), refused 80; delivered in 0.3 s (median), 95 % within 0.3 s, worst 0.3 s."  # fmt: skip
    first, second, _ = report.text(digest(having("trouble.disk full", 2))).splitlines()[:3]
    assert first == "NEEDS A PERSON: 1 to act on."
    assert second == "A disk is full (2 ×)."
    assert report.top_lines(digest(having("trouble.quota", 2)))[0] == "Worth a look: 1."


def test_the_second_line_ends_where_a_reason_does() -> None:
    summary = calm()
    for name in (
        "disk full",
        "read-only disk",
        "out of memory",
        "Postfix gave up",
        "logs lost",
        "a program crashed",
    ):
        summary.counts[f"trouble.{name}"] = 1
    for name in ("clock", "quota", "a service failed"):
        summary.counts[f"trouble.{name}"] = 1
    second = report.text(digest(summary)).splitlines()[1]
    assert second.startswith("Postfix gave up (fatal, panic) (1 ×); ") and re.search(
        r"×\); and \d more\.$", second
    )
    assert len(second) < 230


def test_all_that_happened_is_told() -> None:
    whole = read(*DELIVERED, refusal("554 5.7.1 <t@outside.test>: Relay access denied"))
    told = report.text(digest(whole))
    for words in (
        "carol@outside.test",
        "203.0.113.100",
        "relaying",
        "TLSv1.3, in",
        "gateway → store",
        "of them into Junk",
    ):
        assert words in told, words
    page = report.html(digest(whole))
    for words in ("carol@outside.test", "relaying", "TLSv1.3, in", "of them into Junk"):
        assert words in page, words


def test_strangers_words_stay_words() -> None:
    told, page = report.text(digest(evil())), report.html(digest(evil()))
    assert "\x1b" not in told and "<script>alert" in told
    assert "<script" not in page and "&lt;script&gt;alert" in page


def test_the_page_needs_nothing_else() -> None:
    page = report.html(digest(calm()))
    assert "default-src 'none'" in page and 'name="viewport"' in page and "@media print" in page
    assert not re.findall(r"(?:src|href)=|@import|url\(", page)
    assert page.count('class="series columns"') == 5, "each kind in both charts"
    assert "500 received, 0 sent, 80 refused; most at 2026-11-24 21:00 (580)</desc>" in page
    assert report.html(digest(calm()), mail=True).count("<desc") == 2


def test_json_has_it_all() -> None:
    late = Verified("fast", "passed", "2026-11-24T01:00:00+00:00", True, ())
    data = json.loads(json.dumps(report.data(digest(calm(), verified=(late,)))))
    assert data["needs_a_person"] is True
    assert data["needs"][0]["remedy"] == "mastio verify --scheduled"
    assert from_plain(data["summary"]).count("mail.in") == 500
    assert data["hours"]["2026-11-24T21"]["mail.in"] == 500


def test_the_mail_is_text_with_a_page_beside_it() -> None:
    mail = watching.message(digest(having("trouble.disk full", 2)), SITE, 1_795_000_000.0)
    raw = mail.as_bytes()
    assert max(map(len, raw.split(b"\r\n"))) <= 998, "RFC 5322, 2.1.1"
    again = message_from_bytes(raw, policy=policy.SMTP)
    assert again["Subject"] == "[demo] digest of 2026-11-24: NEEDS A PERSON (1)"
    assert again["To"] == SITE.admin_mail and again["Auto-Submitted"] == "auto-generated"
    kinds = [it.get_content_type() for it in again.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]
    assert "A disk is full" in again.get_body(("plain",)).get_content()
    calm_mail = watching.message(digest(calm()), SITE, 0.0)
    assert calm_mail["Subject"].endswith("all well")


def test_sizes_and_times_are_for_people() -> None:
    assert [figures.octets(it) for it in (999, 1_500, 42_925_405, 3_000_000_000)] == [
        "999 B",
        "1.5 kB",
        "42.9 MB",
        "3.0 GB",
    ]
    assert [figures.span(it) for it in (0.031, 9, 115, 1_200, 90_000)] == [
        "0.031 s",
        "9 s",
        "115 s",
        "20 min",
        "25.0 h",
    ]
