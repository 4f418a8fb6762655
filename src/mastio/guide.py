"""Where the operations guide says what to do: the page of each check and each kind of alarm, below the repository.

>>> of_check("N1")
'docs/operations/N1.md'
>>> of_alarm("backup age store")
'docs/operations/alarm-backup-age.md'
"""

FOLDER = "docs/operations"
ALARMS = frozenset((
    "verify", "verification by itself", "integrity", "measuring", "intrusion", "updates", "updating", "logs",
    "backup", "backup session", "backup growth", "backup damage", "backup age", "backup copy age", "backup tidying",
    "drill restore", "drills", "certificate renewal", "certificate days", "certificate shown",
    "disk", "units", "memory", "queue", "held", "names",
))  # fmt: skip
"""What alarms are about, without the machine's name."""


def of_check(check: str) -> str:
    """A check's page."""
    return f"{FOLDER}/{check}.md"


def kind(about: str) -> str:
    """The kind of an alarm, by what it is about; "" when it is none that is known."""
    fits = [it for it in ALARMS if about == it or about.startswith(f"{it} ")]
    return max(fits, key=len, default="")


def of_alarm(about: str) -> str:
    """An alarm's page; the index, for one that has none of its own."""
    found = kind(about)
    return f"{FOLDER}/alarm-{found.replace(' ', '-')}.md" if found else f"{FOLDER}/README.md"
