#!/usr/bin/python3 -I
"""Reads a message that carries a report, from standard input, and appends what it says to a file.

    take-report FOLDER < message          (run by Postfix's pipe(8) on the store)

FOLDER/YYYY-MM.jsonl gets one line of JSON, sorted keys: a DMARC report, a TLS report, or why there was none. The
log gets a line with the figures (`figures`), which the digest counts. Standard library only. Strangers write these
messages, so: nothing is unpacked beyond `LARGEST`, no XML document may declare types or entities, and every field
is checked and cut.
"""

import email
import email.policy
import fcntl
import io
import ipaddress
import json
import os
import re
import resource
import sys
import syslog
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from xml.parsers import expat

LARGEST = 16 * 1024 * 1024
"""Of an unpacked report, in bytes; real ones are below 1 MiB."""
ROWS = 5000
"""Rows of a report that are kept."""
FULL = 64 * 1024 * 1024
"""A month's file grows no further, in bytes."""
KEPT_DAYS = 400
IDENT = "mastio-reports"
"""The program's name in the log."""
_TOLD = 5
"""Sources, and kinds of failure, that the log is told of."""
_DEEPEST = 20
_LONGEST = 255
_MOST = 10**12

Report = dict[str, Any]


class UnreadableError(Exception):
    """The message carries no report that can be read, and why."""


def read(message: bytes) -> Report:
    """The report in a message. Raises UnreadableError."""
    mail = email.message_from_bytes(message, policy=email.policy.default)
    why = "no attachment that could be a report"
    for part in mail.walk():
        if part.is_multipart():
            continue
        try:
            data = unpacked(_payload(part))
            start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            if start == b"<":
                return {**dmarc(data), "verified": _verified(mail)}
            if start == b"{":
                return {**tls(data), "verified": _verified(mail)}
        except UnreadableError as error:
            why = str(error)
    raise UnreadableError(why)


def _payload(part: Any) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _verified(mail: EmailMessage) -> bool:
    """Whether the gateway found that the author's domain sent it; foreign claims it has taken out.

    A result of its own, after a semicolon: a sender may be called dmarc=pass@example.org.
    """
    found = mail.get_all("Authentication-Results", [])
    return any(re.search(r";\s*dmarc=pass\b", str(it)) for it in found)


def unpacked(data: bytes) -> bytes:
    """The content of a zip or gzip file, or the data itself; never more than LARGEST."""
    if data[:2] == b"\x1f\x8b":
        return _gunzipped(data)
    if data[:4] == b"PK\x03\x04":
        return _unzipped(data)
    return _limited(data)


def _limited(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise UnreadableError(f"more than {LARGEST} bytes")
    return data


def _gunzipped(data: bytes) -> bytes:
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = inflater.decompress(data, LARGEST + 1)
    except zlib.error:
        raise UnreadableError("a damaged gzip file") from None
    if len(plain) <= LARGEST and not inflater.eof:
        raise UnreadableError("a gzip file that is cut off")
    return _limited(plain)


def _unzipped(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.infolist()
            if len(names) != 1:
                raise UnreadableError(f"a zip archive with {len(names)} files")
            with archive.open(names[0]) as stream:
                return _limited(stream.read(LARGEST + 1))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError):
        raise UnreadableError("a damaged or encrypted zip archive") from None


# --- DMARC


class _Elements:
    """An XML document's texts, by path; expat with everything off that a report does not need."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.text: list[str] = []
        self.fields: dict[str, str] = {}
        self.rows: list[dict[str, str]] = []
        self.row: dict[str, str] | None = None
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text.append
        self.parser.StartDoctypeDeclHandler = self.refuse
        self.parser.EntityDeclHandler = self.refuse
        self.parser.ExternalEntityRefHandler = self.refuse

    def refuse(self, *_: object) -> int:
        raise UnreadableError("XML with a document type or entities")

    def start(self, name: str, _: object) -> None:
        self.path.append(name.rpartition(":")[2])
        self.text.clear()
        if len(self.path) > _DEEPEST:
            raise UnreadableError("XML nested too deeply")
        if self.path == ["feedback", "record"]:
            self.row = {}

    def end(self, _: str) -> None:
        place, text = "/".join(self.path[1:]), "".join(self.text).strip()
        self.text.clear()
        if self.row is None:
            self.fields.setdefault(place, text)
        elif place == "record":
            if len(self.rows) < ROWS:
                self.rows.append(self.row)
            self.row = None
        else:
            self.row.setdefault(place, text)
        self.path.pop()


def dmarc(data: bytes) -> Report:
    """The aggregate report (RFC 9990, RFC 7489 appendix C). Raises UnreadableError."""
    found = _Elements()
    try:
        found.parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise UnreadableError("damaged XML") from None
    fields = found.fields
    if "report_metadata/report_id" not in fields or "policy_published/domain" not in fields:
        raise UnreadableError("XML, but no DMARC report")
    return {
        "kind": "dmarc",
        "org": clean(fields.get("report_metadata/org_name")),
        "id": clean(fields["report_metadata/report_id"]),
        "domain": clean(fields["policy_published/domain"]).lower(),
        "begin": number(fields.get("report_metadata/date_range/begin")),
        "end": number(fields.get("report_metadata/date_range/end")),
        "rows": [
            {
                "source": address(row.get("record/row/source_ip")),
                "count": number(row.get("record/row/count")),
                "disposition": clean(row.get("record/row/policy_evaluated/disposition")),
                "dkim": clean(row.get("record/row/policy_evaluated/dkim")),
                "spf": clean(row.get("record/row/policy_evaluated/spf")),
                "from": clean(row.get("record/identifiers/header_from")).lower(),
            }
            for row in found.rows
        ],
    }


# --- TLS


def tls(data: bytes) -> Report:
    """The TLS report (RFC 8460, 4). Raises UnreadableError."""
    try:
        report = json.loads(data)
    except (ValueError, RecursionError):
        raise UnreadableError("damaged JSON") from None
    policies = report.get("policies")
    if not isinstance(policies, list) or "report-id" not in report:
        raise UnreadableError("JSON, but no TLS report")
    span = _table(report.get("date-range"))
    return {
        "kind": "tls",
        "org": clean(report.get("organization-name")),
        "id": clean(report["report-id"]),
        "begin": moment(span.get("start-datetime")),
        "end": moment(span.get("end-datetime")),
        "policies": [_policy(_table(it)) for it in policies[:ROWS]],
    }


def _policy(result: dict[str, Any]) -> Report:
    policy, counts = _table(result.get("policy")), _table(result.get("summary"))
    details = result.get("failure-details")
    return {
        "domain": clean(policy.get("policy-domain")).lower(),
        "type": clean(policy.get("policy-type")),
        "ok": number(counts.get("total-successful-session-count")),
        "failed": number(counts.get("total-failure-session-count")),
        "failures": [
            {
                "type": clean(it.get("result-type")),
                "mx": clean(it.get("receiving-mx-hostname")),
                "source": address(it.get("sending-mta-ip")),
                "count": number(it.get("failed-session-count")),
            }
            for it in map(_table, details[:ROWS] if isinstance(details, list) else ())
        ],
    }


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# --- fields


def clean(value: object) -> str:
    """Text of one printable line, cut to a sane length; "" for anything else."""
    if not isinstance(value, str):
        return ""
    return "".join(it if it.isprintable() else " " for it in value)[:_LONGEST].strip()


def number(value: object) -> int:
    """A count or a time, 0 when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return 0
    if isinstance(value, str) and not re.fullmatch(r"\s*[0-9]{1,15}\s*", value):
        return 0
    return min(max(int(value), 0), _MOST)


def address(value: object) -> str:
    """An IP address, "" when it is none."""
    try:
        return str(ipaddress.ip_address(clean(value)))
    except ValueError:
        return ""


def moment(value: object) -> int:
    """Seconds since 1970 of an ISO 8601 time, 0 when it is none."""
    try:
        found = datetime.fromisoformat(clean(value))
        return max(int(found.replace(tzinfo=found.tzinfo or UTC).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0


# --- figures for the log


def figures(report: Report) -> Report:
    """What a report comes to. Every field was checked and cut: the line's size has a bound."""
    short: Report = {
        key: report[key] for key in ("kind", "org", "verified", "why") if key in report
    }
    if report["kind"] == "dmarc":
        rows = report["rows"]
        bad = [it for it in rows if "pass" not in (it["dkim"], it["spf"])]
        messages, failed = (sum(it["count"] for it in some) for some in (rows, bad))
        return {**short, "domain": report["domain"], "messages": messages, "failed": failed,
                "sources": _most((it["source"], it["count"]) for it in bad)}  # fmt: skip
    if report["kind"] == "tls":
        policies = report["policies"]
        failed = sum(it["failed"] for it in policies)
        types = ((it["type"], it["count"]) for policy in policies for it in policy["failures"])
        return {
            **short,
            "sessions": failed + sum(it["ok"] for it in policies),
            "failed": failed,
            "types": _most(types),
        }
    return short


def _most(counted: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in counted:
        found[name] = found.get(name, 0) + count
    return dict(sorted(found.items(), key=lambda it: (-it[1], it[0]))[:_TOLD])


# --- the program


def append(folder: Path, report: Report, now: datetime) -> None:
    """Adds a line to the month's file, unless that is full; months long past go."""
    path = folder / f"{now:%Y-%m}.jsonl"
    line = json.dumps({**report, "received": int(now.timestamp())}, sort_keys=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_size + len(line) < FULL:
            stream.write(f"{line}\n")
    for old in _old(folder, now):
        old.unlink(missing_ok=True)


def _old(folder: Path, now: datetime) -> Iterator[Path]:
    for path in folder.glob("*.jsonl"):
        if now.timestamp() - path.stat().st_mtime > KEPT_DAYS * 86400:
            yield path


def main(folder: str) -> None:
    """One message. Exit code 75 (EX_TEMPFAIL) makes Postfix try again later, as pipe(8) says."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    os.umask(0o027)
    try:
        report = read(sys.stdin.buffer.read())
    except UnreadableError as error:
        report = {"kind": "unreadable", "why": str(error)}
    except (MemoryError, RecursionError, LookupError, ValueError, AttributeError, TypeError):
        report = {"kind": "unreadable", "why": "a message that cannot be read"}
    try:
        append(Path(folder), report, datetime.now(UTC))
    except OSError as error:
        print(f"{folder}: {error.strerror}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    syslog.openlog(IDENT, syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_INFO, json.dumps(figures(report), sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])
