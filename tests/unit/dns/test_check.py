"""Comparing with DNS: each verdict comes when it must, and only then."""

import pytest

from mastio.dns.check import Answer, Verdict, canonical, compare
from mastio.dns.records import Record, text

SPF = Record("a.test", "TXT", text("v=spf1 ip4:192.0.2.1 -all"))
MX = Record("a.test", "MX", "10 mx.a.test.")


def verdict(record: Record, answer: Answer) -> Verdict:
    (finding,) = compare([record], {(record.owner, record.type): answer})
    return finding.verdict


def test_what_is_as_it_should_be() -> None:
    assert verdict(MX, Answer(("10 MX.a.test.",))) is Verdict.SAME


def test_what_is_not_there() -> None:
    assert verdict(MX, Answer()) is Verdict.MISSING


def test_what_is_different() -> None:
    assert verdict(MX, Answer(("10 other.test.",))) is Verdict.DIFFERENT


def test_what_is_too_much() -> None:
    assert verdict(MX, Answer(("10 mx.a.test.", "20 other.test."))) is Verdict.EXTRA


def test_what_cannot_be_told() -> None:
    assert verdict(MX, Answer(failure="SERVFAIL")) is Verdict.FAILED


def test_somebodys_own_text_is_not_in_the_way_but_a_second_spf_is() -> None:
    mine = SPF.data
    assert verdict(SPF, Answer((mine, '"some-verification=1"'))) is Verdict.SAME
    assert verdict(SPF, Answer((mine, '"v=spf1 +all"'))) is Verdict.EXTRA


@pytest.mark.parametrize("cut", [1, 100, 254])
def test_where_a_long_text_is_cut_does_not_matter(cut: int) -> None:
    value = "v=DKIM1; p=" + "A" * 300
    other = f'"{value[:cut]}" "{value[cut : cut + 250]}" "{value[cut + 250 :]}"'
    assert canonical("TXT", other) == canonical("TXT", text(value)) == value


def test_two_records_of_one_name_are_one_question() -> None:
    keys = [Record("_25._tcp.mx.a.test", "TLSA", f"3 1 1 {digit * 64}") for digit in "ab"]
    answer = Answer(tuple(it.data.upper() for it in reversed(keys)), secure=True)
    (finding,) = compare(keys, {("_25._tcp.mx.a.test", "TLSA"): answer})
    assert finding.verdict is Verdict.SAME and finding.secure
