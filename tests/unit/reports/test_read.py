"""Reading reports: what organisations send is understood, what an attacker sends is refused."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mastio.reports import read as reader
from mastio.reports.read import UnreadableError, append, read
from mastio.reports.summary import summarize
from tests.unit.digest.lines import line
from tests.unit.digest.lines import read as digested
from tests.unit.reports.samples import DMARC, TLS, gzipped, mail, zipped


@pytest.mark.parametrize(
    ("attachment", "subtype"),
    [(zipped(DMARC.encode()), "zip"), (gzipped(DMARC.encode()), "gzip"), (DMARC.encode(), "xml")],
)
def test_a_dmarc_report_is_read_however_it_is_packed(attachment: bytes, subtype: str) -> None:
    report = read(mail(attachment, subtype))
    assert (report["kind"], report["org"], report["id"]) == ("dmarc", "outside.test", "r-1")
    assert report["domain"] == "fortress.test" and report["verified"]
    good, bad = report["rows"]
    assert (good["source"], good["count"], good["dkim"]) == ("203.0.113.1", 40, "pass")
    assert (bad["source"], bad["disposition"], bad["spf"]) == ("2001:db8::66", "reject", "fail")


def test_a_tls_report_is_read() -> None:
    report = read(mail(gzipped(TLS.encode()), "tlsrpt+gzip"))
    assert report["kind"] == "tls" and report["begin"] == 1795478400
    (policy,) = report["policies"]
    assert (policy["ok"], policy["failed"]) == (97, 3)
    assert policy["failures"][0]["type"] == "certificate-expired"


def test_what_the_log_is_told_is_what_the_digest_counts() -> None:
    dmarc = read(mail(zipped(DMARC.encode()), "zip"))
    tls = read(mail(gzipped(TLS.encode()), "tlsrpt+gzip"))
    reports = [
        dmarc,
        tls,
        {"kind": "unreadable", "why": "damaged XML"},
        {**dmarc, "verified": False},
    ]
    lines = [json.dumps(reader.figures(it), sort_keys=True) for it in reports]
    assert max(map(len, lines)) < 2000
    whole = digested(*(line("store", f"{reader.IDENT}[7]", it) for it in lines))
    bad = sum(it["count"] for it in dmarc["rows"][1:])
    assert whole.below("reports") == {"dmarc": 2, "tls": 1, "unreadable": 1, "unverified": 1}
    assert whole.count("dmarc.messages") == 2 * (40 + bad) and whole.count("dmarc.passed") == 80
    assert whole.top("dmarc sources") == [("2001:db8::66", 2 * bad)]
    assert (whole.count("tls reports.sessions"), whole.count("tls reports.failed")) == (100, 3)
    assert whole.top("tls failures") == [("certificate-expired", 2)]
    assert whole.top("reporters")[0] == ("outside.test", 3)


def test_a_strange_line_in_their_name_is_no_report() -> None:
    whole = digested(
        *(line("store", reader.IDENT, it) for it in ("{", '{"kid": "tls"}', "[]", '"x"'))
    )
    assert whole.count("reading.unreadable") == 4 and not whole.below("reports")


def test_whose_sender_is_not_proven_is_marked() -> None:
    for verdict in ("dmarc=none", "spf=pass smtp.mailfrom=dmarc=pass@plain.test; dmarc=fail"):
        assert not read(mail(zipped(DMARC.encode()), verdict=verdict))["verified"]


ENTITIES = '<!DOCTYPE f [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><feedback>&b;</feedback>'
OUTSIDE = '<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><feedback>&x;</feedback>'
DEEP = "<a>" * 50 + "</a>" * 50
BOMB = b"<feedback>" + b" " * (reader.LARGEST + 1)


@pytest.mark.parametrize(
    ("attachment", "why"),
    [
        (ENTITIES.encode(), "document type"),
        (OUTSIDE.encode(), "document type"),
        (DEEP.encode(), "nested"),
        (DMARC.encode()[:300], "damaged XML"),
        (b"<html></html>", "no DMARC report"),
        (b'{"policies": []}', "no TLS report"),
        (b"{" + b'"a":[' * 100_000, "damaged JSON"),
        (zipped(BOMB), "more than"),
        (gzipped(BOMB), "more than"),
        (gzipped(DMARC.encode())[:-40], "gzip"),
        (b"\x1f\x8bnonsense", "gzip"),
        (b"PK\x03\x04nonsense", "zip"),
        (zipped(b"a", b"b"), "2 files"),
        (zipped(zipped(DMARC.encode())), "no attachment"),
        (b"\x7fELF", "no attachment"),
    ],
)
def test_what_is_no_report_is_refused(attachment: bytes, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        read(mail(attachment, "octet-stream"))


def test_nonsense_in_fields_becomes_nothing() -> None:
    text = DMARC.replace("203.0.113.1", "localhost").replace(">40<", ">-1e9<")
    text = text.replace("outside.test</org_name>", f"a\n\x85{'b' * 1000}</org_name>")
    report = read(mail(text.encode(), "xml"))
    assert (report["rows"][0]["source"], report["rows"][0]["count"]) == ("", 0)
    assert len(report["org"]) <= 255 and report["org"].isprintable()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_message_is_read_or_refused(data: bytes) -> None:
    for message in (data, mail(data, "octet-stream"), mail(b"{" + data), mail(b"<a>" + data)):
        try:
            read(message)
        except UnreadableError:
            continue


def run(folder: Path, message: bytes) -> int:
    program = [sys.executable, "-I", str(reader.__file__), str(folder)]
    return subprocess.run(program, input=message, check=False, stderr=subprocess.DEVNULL).returncode


def test_the_program_keeps_what_it_read_and_what_it_could_not(tmp_path: Path) -> None:
    assert run(tmp_path, mail(zipped(DMARC.encode()))) == 0
    assert run(tmp_path, b"Subject: hello\n\nworld\n") == 0
    (path,) = tmp_path.glob("*.jsonl")
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["dmarc", "unreadable"]


def test_the_program_wants_another_try_when_it_cannot_write(tmp_path: Path) -> None:
    assert run(tmp_path / "missing", mail(zipped(DMARC.encode()))) == os.EX_TEMPFAIL


def test_a_full_file_grows_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "FULL", 100)
    now = datetime(2026, 11, 24, tzinfo=UTC)
    for _ in range(5):
        append(tmp_path, {"kind": "unreadable", "why": "x"}, now)
    assert (tmp_path / "2026-11.jsonl").stat().st_size < 100


def test_reports_are_summed_up_once_each() -> None:
    dmarc = {**read(mail(zipped(DMARC.encode()))), "received": 1000}
    tls = {**read(mail(TLS.encode(), "json", "dmarc=none")), "received": 1000}
    broken = {"kind": "unreadable", "why": "x", "received": 1000}
    old = {**dmarc, "id": "r-0", "received": 10}
    summary = summarize([old, dmarc, dmarc, tls, broken], since=100)
    assert (summary.reports, summary.unverified, summary.unreadable) == (2, 1, 1)
    domain = summary.domains["fortress.test"]
    assert (domain.messages, domain.passed, dict(domain.failed)) == (43, 40, {"2001:db8::66": 3})
    assert domain.sessions == 100
    assert dict(domain.tls_failures) == {
        "certificate-expired, outside.test": 2,
        "unspecified, outside.test": 1,
    }
