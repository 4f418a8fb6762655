"""What an administrator asks of watch to get things back: `python3 -m mastio.watch.restoring WHAT`, JSON on stdin.

| | |
|---|---|
| `archives` | of `machine`: name and time of each |
| `choose` | the newest, or the newest begun by `at` |
| `mailbox` | what `archive` has of `user`, and the UIDVALIDITY of its folders |
| `search` | the paths of messages of `user` whose Message-ID is `id` |
| `homes` | who has a mailbox in it |
| `paths` | all files in it |
| `on_hold` | of a gateway: what was on hold in its queue, one line each |
| `bring` | sends `paths` to `machine` as the archive has them, for `ticket`; `exact`: just these files |

Each prints lines of JSON. Nothing can be brought without a ticket, which an administrator has drawn on the machine.
"""

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import IO, Any

from mastio.errors import Exit, MastioError
from mastio.hearing import Complaints
from mastio.restoring.maildir import validity_of
from mastio.roles.backup.door import FOLDER as HERE
from mastio.roles.restore import SETTINGS
from mastio.roles.store import VMAIL
from mastio.transport import last_line
from mastio.watch.archives import Archives, choose, reading

_HEAD = 1 << 18
"""Octets of a message in which its Message-ID is looked for."""
_CHUNK = 1 << 20
_EACH = 64 << 20
"""Octets between two words about how far it is."""
QUEUE = f"{HERE}/dumps/queue.json".lstrip("/")
"""What postqueue(1), -j, said on a gateway, in its archives."""


def home(user: str) -> str:
    """Where a mailbox lies in the archive."""
    name, _, domain = user.rpartition("@")
    return f"{VMAIL.lstrip('/')}/{domain}/{name}"


def mailbox(archives: Archives, order: dict[str, Any]) -> dict[str, Any]:
    """What there is of a user."""
    entries = archives.entries(order["archive"], [home(order["user"])])
    lists = [path for path, _ in entries if path.endswith("/dovecot-uidlist")]
    known = archives.text(order["archive"], lists)
    return {
        "home": home(order["user"]),
        "entries": entries,
        "validity": {path: validity_of(text) for path, text in known.items()},
    }


def search(archives: Archives, order: dict[str, Any]) -> Iterator[str]:
    """The paths of the messages with that Message-ID (RFC 5322, 3.6.4)."""
    wanted = order["id"].strip().strip("<>")
    with (
        archives.tar(order["archive"], [home(order["user"])]) as stream,
        tarfile.open(fileobj=stream, mode="r|") as files,
    ):
        for it in files:
            if it.isfile() and it.name.split("/")[-2] in ("cur", "new"):
                inner = files.extractfile(it)
                head = BytesHeaderParser().parsebytes(inner.read(_HEAD) if inner else b"")
                if str(head.get("Message-ID", "")).strip().strip("<>") == wanted:
                    yield it.name


def bring(archives: Archives, ssh: list[str], order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Sends, and says how far it is."""
    receiver = subprocess.Popen(
        [*ssh, "receive", order["ticket"]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    complaints = Complaints(receiver)
    assert receiver.stdin  # noqa: S101 — it is PIPE
    sent, failed = 0, None
    try:
        with archives.tar(order["archive"], order["paths"], exact=order["exact"]) as stream:
            for sent in _copied(stream, receiver.stdin):
                yield {"sent": sent}
    except BrokenPipeError:
        pass  # the receiver says why
    except MastioError as error:
        failed = error
    finally:
        with suppress(BrokenPipeError):
            receiver.stdin.close()
        code = receiver.wait()
    # borg's pipe breaks when the receiver gives up: that one knows why.
    if code:
        raise MastioError(
            f"{archives.machine} did not take it: {last_line(complaints.end()) or code}",
            code=Exit.UNAVAILABLE,
        )
    if failed:
        raise failed
    yield {"sent": sent}


def _copied(source: IO[bytes], target: IO[bytes]) -> Iterator[int]:
    sent = told = 0
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        sent += len(chunk)
        if sent - told >= _EACH:
            told = sent
            yield sent
    yield sent


def on_hold(archives: Archives, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Whose mail was on hold, for whom, and since when: the messages themselves are not archived."""
    for text in archives.text(order["archive"], [QUEUE]).values():
        for it in map(json.loads, text.splitlines()):
            if it["queue_name"] == "hold":
                people = [to["address"] for to in it["recipients"]]
                yield {"sender": it["sender"], "recipients": people, "arrived": it["arrival_time"]}


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def run(what: str, order: dict[str, Any]) -> None:
    """One of them; MastioError says why not."""
    with reading(order["machine"]) as archives:
        _answer(what, order, archives)


def _answer(what: str, order: dict[str, Any], archives: Archives) -> None:
    match what:
        case "archives":
            say({"archives": [{"name": it.name, "at": it.at} for it in archives.all()]})
        case "choose":
            one = choose(archives.all(), order["at"], order["machine"])
            say({"name": one.name, "at": one.at})
        case "mailbox":
            say(mailbox(archives, order))
        case "search":
            say({"paths": [*search(archives, order)]})
        case "homes":
            say({"homes": archives.homes(order["archive"], VMAIL.lstrip("/"))})
        case "paths":
            say({"paths": [path for path, _ in archives.entries(order["archive"], [])]})
        case "on_hold":
            for found in on_hold(archives, order):
                say(found)
        case "bring":
            ssh = json.loads(Path(SETTINGS).read_text())["ssh"]
            for event in bring(archives, ssh[order["machine"]], order):
                say(event)


def main(what: str) -> int:
    """The exit code."""
    try:
        run(what, json.load(sys.stdin))
    except (MastioError, OSError, ValueError, KeyError, tarfile.TarError) as error:
        message, hint, code = f"{type(error).__name__}: {error}", "", Exit.FAILED
        if isinstance(error, MastioError):
            message, hint, code = error.message, error.hint, error.code
        say({"error": message, "hint": hint, "code": code})
        print(message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    known = ("archives", "choose", "mailbox", "search", "homes", "paths", "on_hold", "bring")
    if sys.argv[1:] not in [[it] for it in known]:
        sys.exit(f"one of: {', '.join(known)}")
    sys.exit(main(sys.argv[1]))
