"""What watch's parts have found by themselves, as Prometheus reads it: integrity, updates, backups, open alarms, and
what today's logs say of mail, the filter and the doors.

Beside `metrics`, which has what a look at the machines says. What is counted from logs begins anew at midnight (UTC): a
counter may (prometheus.io/docs/concepts/metric_types), and `rate()` knows it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mastio.digest.summary import Summary
from mastio.status.metrics import Row, family
from mastio.verify.model import Severity

_COUNTED = (
    ("mail_messages_total", "mail", "way", "Messages by the way that they took."),
    ("mail_delivered_total", "sent", "hop", "Deliveries by who made them."),
    ("mail_deferred_total", "deferred", "hop", "Deliveries that were put off."),
    ("mail_bounced_total", "bounced", "hop", "Deliveries that failed for good."),
    ("mail_refused_total", "refused.in", "reason", "What was refused at the door, and why."),
    ("filter_verdicts_total", "filter", "verdict", "What the filter said."),
    ("logins_failed_total", "login.failed", "door", "Log-ins that failed."),
    ("log_lines_total", "lines", "machine", "Log lines that arrived."),
)
_ALONE = (
    ("viruses_total", "viruses", "Viruses found."),
    ("greylisted_total", "refused.in.greylisted, to come again", "Mail that was told to come again."),
    ("bans_total", "bans", "Clients that were banned."),
    ("packets_dropped_total", "dropped", "Packets from outside that the firewalls stopped."),
)  # fmt: skip


def exposition(
    site: str, integrity: Mapping[str, Any], updates: Mapping[str, Any], backups: Mapping[str, Any],
    alarms: Iterable[str], today: Summary, now: float,
) -> str:  # fmt: skip
    """All of it; `alarms` has the severity of each that is open. What a part keeps (its file's JSON) may be empty:
    then it has said nothing yet.
    """
    measured = {name: it for name, it in integrity.get("machines", {}).items() if it}
    updated = {name: it for name, it in updates.get("machines", {}).items() if it}
    archived = backups.get("machines", {})
    severities = {str(it): 0 for it in Severity} | Counter(alarms)
    families: list[tuple[str, str, list[Row], str]] = [
        ("integrity_age_seconds", "Since the machine was measured.",
         [_row(name, now - it["measured"]) for name, it in measured.items() if it["measured"]], "gauge"),
        ("integrity_differences", "What differs from the reference, and nobody accepted.",
         [_row(name, it["differences"]) for name, it in measured.items()], "gauge"),
        ("integrity_tampered", "Whether the machine cannot be measured any more.",
         [_row(name, bool(it["tampered"])) for name, it in measured.items()], "gauge"),
        ("updates_age_seconds", "Since the machine was updated and well.",
         [_row(name, now - it["good"]) for name, it in updated.items() if it["good"]], "gauge"),
        ("updates_waiting", "Security updates that are not installed.",
         [_row(name, len(it.get("waiting") or ())) for name, it in updated.items()], "gauge"),
        ("reboot_required", "Whether an update waits for a reboot.",
         [_row(name, bool(it.get("reboot"))) for name, it in updated.items()], "gauge"),
        ("backup_age_seconds", "Since the newest archive of the machine was begun.",
         [_row(name, now - it["newest"]) for name, it in archived.items() if it["newest"]], "gauge"),
        ("backup_octets", "Octets that the machine's archives take on watch.",
         [_row(name, it["octets"]) for name, it in archived.items()], "gauge"),
        ("backup_bad", "Whether a backup was refused, failed, or archives are damaged.",
         [_row(name, bool(it["refused"] or it["damaged"] or it["last"].get("error"))) for name, it in archived.items()],
         "gauge"),
        ("alarms_open", "Alarms that are not well again.",
         [({"severity": name}, count) for name, count in severities.items()], "gauge"),
    ]  # fmt: skip
    for name, prefix, label, words in _COUNTED:
        rows: list[Row] = [
            ({label: it}, count) for it, count in sorted(today.below(prefix).items())
        ]
        families.append((name, f"{words} Today (UTC).", rows, "counter"))
    for name, what, words in _ALONE:
        families.append((name, f"{words} Today (UTC).", [({}, today.count(what))], "counter"))
    return "".join(line for it in families for line in family(site, *it))


def _row(machine: str, value: float) -> Row:
    return {"machine": machine}, float(value)
