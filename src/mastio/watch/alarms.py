"""What an administrator asks of the alarms: `python3 -m mastio.watch.alarms list`, or `answer` with JSON on stdin.

Both print JSON: `open`, the book of what is wrong, by what it is about; `stuck`, the ways by which alarms wait.
"""

import json
import sys
from pathlib import Path

from mastio.context import ALARMS
from mastio.roles.inspection import SITE
from mastio.site import plain
from mastio.watch import book
from mastio.watch.bell import Bell

UNKNOWN = 3
"""The exit code when nothing of that name is open."""


def main(what: str) -> int:
    """The exit code."""
    bell = Bell(Path(ALARMS), plain.recall(Path(SITE).read_text()))
    if what == "answer":
        order = json.load(sys.stdin)
        try:
            bell.answer(order["about"], order["words"])
        except KeyError:
            return UNKNOWN
    json.dump({"open": book.plain(bell.book), "stuck": bell.stuck}, sys.stdout)
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["list"], ["answer"]):
        sys.exit("list or answer?")
    try:
        sys.exit(main(sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(f"alarms: {error}")
