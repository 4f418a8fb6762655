"""Where the operations guide says what to do: a path below the repository for each check and each kind of alarm.

>>> of_check("N1", "Network")
'docs/operations/network.md#n1'
>>> of_alarm("backup age store")
'docs/operations/backup.md#alarm-backup-age'
"""

FOLDER = "docs/operations"
ALARMS = {
    "verify": "verification", "verification by itself": "verification",
    "integrity": "integrity", "measuring": "integrity",
    "updates": "updates", "updating": "updates",
    "logs": "logs", "intrusion": "integrity",
    "backup": "backup", "backup session": "backup", "backup growth": "backup", "backup damage": "backup",
    "backup age": "backup", "backup copy age": "backup", "backup tidying": "backup",
    "drill restore": "backup", "drills": "backup",
    "certificate renewal": "certificates", "certificate days": "certificates", "certificate shown": "certificates",
    "disk": "machines", "units": "machines", "memory": "machines", "queue": "machines", "names": "machines",
}  # fmt: skip
"""What alarms are about, without the machine's name → their page."""


def of_check(check: str, family: str) -> str:
    """A check's place; its family has a page."""
    return f"{FOLDER}/{family.lower().replace(' ', '-')}.md#{check.lower()}"


def kind(about: str) -> str:
    """The kind of an alarm, by what it is about; "" when it is none that is known."""
    fits = [it for it in ALARMS if about == it or about.startswith(f"{it} ")]
    return max(fits, key=len, default="")


def of_alarm(about: str) -> str:
    """An alarm's place; the folder, for one that has none of its own."""
    found = kind(about)
    anchor = found.replace(" ", "-")
    return f"{FOLDER}/{ALARMS[found]}.md#alarm-{anchor}" if found else f"{FOLDER}/README.md"
