"""What the gateway's filter does with real mail: the SpamAssassin corpus, half learned, half judged.

All goes by SMTP from the lab's internet through the real gateway into the real store. The first half is
the past: a gateway that knows nothing takes what it takes, then users say of each message what it was.
The second half is judged. Each correspondent of the corpus has an address of its own in the lab, so who wrote
before has a history. But all come from one well-kept host (PTR, SPF and HELO agree) and the lab has no
block lists: spam gets the benefit of every doubt about its origin, so the figures say what content,
Bayes and history do.

Greylisting is shortened to a few seconds in the lab while it runs (production: see the site's policy), so
that the second try of a sender that retries is seen as well. Spam is counted twice: sent by robots that
never retry, and by servers that do; in the past, only robots sent it. Rspamd's memory is put aside and
brought back at the end.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from bench import retries
from bench.common import fail, mailbox, maildir, must, remote, running, say, table
from bench.corpus import Letter, letters
from bench.gateway import GATEWAY, STORE, no_limits, ours
from bench.sender import send

from mastio import services
from mastio.cli.common import App
from mastio.lab import outside
from mastio.roles.store import holding

WAIT = 4
"""Greylisting's delay in the benchmark, in seconds."""
GREYLIST, VALKEY = "/etc/rspamd/mastio/rules.json", "/var/lib/valkey"
CONTROLLER = "/run/rspamd/controller.sock"
SESSIONS = 8
_DELAY = re.compile(rb'"greylist_delay": *\d+')


def learn(lessons: list[Any]) -> dict[str, int]:
    """Teach Rspamd by its controller, as learnd does; `lessons` are [is spam, text]. Its answers, counted."""
    import collections
    import http.client
    import socket
    from concurrent.futures import ThreadPoolExecutor

    def one(lesson: list[Any]) -> str:
        spam, text = lesson
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect("/run/rspamd/controller.sock")
        path = "/learnspam" if spam else "/learnham"
        connection.request("POST", path, text.encode("latin-1"), {"Learn-Type": "bulk"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return str(answer.status)

    with ThreadPoolExecutor(4) as pool:
        return dict(collections.Counter(pool.map(one, lessons)))


def sorted_mail(folder: str, quarantine: str, began: float) -> dict[str, Any]:
    """Where each numbered message lies, "" for the inbox, "held" in quarantine, and what Rspamd gave it.

    The quarantine still has what earlier runs left there: what came before `began` is not of this one.
    """
    import pathlib
    import re

    found = {}
    for path in (*pathlib.Path(folder).glob("**/*"), *pathlib.Path(quarantine).glob("new/*")):
        if path.parent.name not in ("new", "cur") or not path.is_file():
            continue
        if path.stat().st_mtime >= began:
            head = path.read_bytes().partition(b"\n\n")[0].decode("latin-1")
            number = re.search(r"^X-Bench: (\d+)", head, re.M)
            score = re.search(r"^X-Spam-Status: .*score=(\S+)", head, re.M)
            if number:
                name = path.parent.parent.name
                place = name if name.startswith(".") else ""
                if path.is_relative_to(quarantine):
                    place = "held"
                found[number[1]] = [place, float(score[1]) if score else 0.0]
    return found


@contextmanager
def blank_filter(app: App) -> Iterator[None]:
    """Rspamd with an empty memory and short greylisting; afterwards as it was."""
    transport = app.transport()

    def run(*argv: str, stdin: bytes = b"") -> bytes:
        return must(transport, GATEWAY, *argv, stdin=stdin).stdout

    before = run("cat", GREYLIST)
    run("systemctl", "stop", "rspamd", "valkey-server")
    run("mv", VALKEY, f"{VALKEY}.aside")
    try:
        run("install", "-d", "-o", "valkey", "-g", "valkey", "-m", "750", VALKEY)
        run("tee", GREYLIST, stdin=_DELAY.sub(b'"greylist_delay": %d' % WAIT, before))
        run("systemctl", "start", "valkey-server", "rspamd")
        # systemd calls it started before its workers listen.
        wait = f"import os, time\nwhile not os.path.exists({CONTROLLER!r}):\n    time.sleep(0.2)"
        run("timeout", "60", "python3", "-c", wait)
        yield
    finally:
        run("systemctl", "stop", "rspamd", "valkey-server")
        run("tee", GREYLIST, stdin=before)
        run("rm", "-rf", VALKEY)
        run("mv", f"{VALKEY}.aside", VALKEY)
        run("systemctl", "start", "valkey-server", "rspamd")


def deliver(app: App, recipient: str, batch: list[Letter]) -> dict[int, Any]:
    """One try for each; number → [code, text, …]."""
    way = ours(app, recipient)
    mails = [[f"{it.sender}@{outside.DOMAIN}", recipient, it.text] for it in batch]
    sent = remote(
        way.transport, way.client, send, address=way.address, port=services.SMTP.port,
        source=way.source, name=way.name, mails=mails, sessions=SESSIONS, waits=[],
    )  # fmt: skip
    return {it.number: outcome for it, outcome in zip(batch, sent["outcomes"], strict=True)}


def tried(
    app: App, recipient: str, mails: list[Letter], *, robots: bool
) -> tuple[dict[int, Any], dict[int, Any]]:
    """What came of each first try, and of the second of those that were asked to come again.

    `robots` send the spam: they never come again.
    """
    first: dict[int, Any] = {}
    for start in range(0, len(mails), 500):
        first |= deliver(app, recipient, mails[start : start + 500])
    lost = [it for it in mails if first[it.number][0] == 0]
    if lost:
        fail(f"{len(lost)} messages got no answer, such as {first[lost[0].number]}")
    delayed = [it for it in mails if 400 <= first[it.number][0] < 500 and not (robots and it.spam)]
    say(f"  answers: {dict(Counter(it[0] for it in first.values()))}")
    time.sleep(WAIT + 1)
    return first, deliver(app, recipient, delayed) if delayed else {}


def settled(app: App, folder: str, count: int, began: float) -> dict[str, Any]:
    """What lies in the mailbox, as soon as `count` messages do."""
    seen, end = -1, 0.0
    while True:
        found: dict[str, Any] = remote(
            app.transport(),
            STORE,
            sorted_mail,
            folder=folder,
            quarantine=holding.FOLDER,
            began=began,
        )
        if len(found) >= count:
            return found
        if len(found) > seen:
            seen, end = len(found), time.monotonic() + 90
        if time.monotonic() > end:
            fail(f"{len(found)} of {count} accepted messages are in the mailbox or held")
        time.sleep(2)


@click.command()
@click.option("--messages", default=0, help="Use that many only; 0: the whole corpus.")
@click.option("--seed", default=1, show_default=True, help="Decides which half is learned.")
@click.option("--cache", default="", help="Where the corpus is kept.")
@click.option("--site", default="", help="The site's folder; its lab must be up.")
def main(messages: int, seed: int, cache: str, site: str) -> None:
    """Print caught spam, false positives, and what greylisting delays."""
    app = running(site)
    folder = cache or os.environ.get("MASTIO_BENCH_CACHE", "/var/cache/mastio/bench")
    corpus = letters(Path(folder), seed)[: messages or None]
    half, began = len(corpus) // 2, time.time()
    lessons, judged = corpus[:half], corpus[half:]
    with mailbox(app) as recipient, blank_filter(app), no_limits(app, ours(app, recipient).source):
        say(f"the past: {len(lessons)}")
        past = tried(app, recipient, lessons, robots=True)
        say("learning them")
        answers: Counter[str] = Counter()
        for start in range(0, half, 500):
            part = [[it.spam, it.text] for it in lessons[start : start + 500]]
            answers.update(remote(app.transport(), GATEWAY, learn, lessons=part))
        say(f"  the controller's answers: {dict(answers)}")
        say(f"judging {len(judged)}")
        first, second = tried(app, recipient, judged, robots=False)
        last = [*(past[0] | past[1]).values(), *(first | second).values()]
        places = settled(
            app, f"{maildir(recipient)}/Maildir", sum(it[0] == 250 for it in last), began
        )
    report(judged, first, second, places)
    wait = app.site().policy.greylist_delay
    click.echo(
        f"\nfor how long, in minutes: simulated, from servers' retry schedules and a delay of {wait} s\n"
        + table(("who sends", "median", "longest"), retries.table(wait))
    )


def report(
    judged: list[Letter], first: dict[int, Any], second: dict[int, Any], places: dict[str, Any]
) -> None:
    """The tables."""

    def share(part: int, whole: int) -> str:
        return f"{part} ({100 * part / max(1, whole):.2f} %)"

    rows = []
    for name, kind in (("ham", False), ("spam", True)):
        those = [it for it in judged if it.spam is kind]
        delayed = [it for it in those if it.number in second]
        still = [it for it in delayed if 400 <= second[it.number][0] < 500]
        refused = [
            it for it in those if 500 <= (second.get(it.number) or first[it.number])[0] < 600
        ]
        inbox = [it for it in those if places.get(str(it.number), ["?"])[0] == ""]
        at_once = [it for it in inbox if it.number not in second]
        junk = [it for it in those if places.get(str(it.number), [""])[0] == ".Junk"]
        held = [it for it in those if places.get(str(it.number), [""])[0] == "held"]
        cells = (refused, junk, held, delayed, still, at_once, inbox)
        rows.append((name, len(those), *(share(len(it), len(those)) for it in cells)))
    heads = (
        "",
        "judged",
        "refused",
        "Junk",
        "held",
        "delayed",
        "delayed again",
        "inbox at once",
        "inbox",
    )
    click.echo(table(heads, rows))
    ham = [it for it in judged if not it.spam]
    wrong = [
        it
        for it in ham
        if places.get(str(it.number), ["?"])[0] != ""
        and not 400 <= (second.get(it.number) or [0])[0] < 500
    ]
    click.echo(
        f"\nfalse positives (ham refused or in Junk)  {share(len(wrong), len(ham))}\n"
        f"ham delayed                               {share(sum(it.number in second for it in ham), len(ham))}\n"
        "spam in the inbox: `inbox at once` from robots that never retry, `inbox` from senders that do"
    )
    say(
        "refused: "
        + str(Counter(text for code, text, *_ in first.values() if code != 250).most_common(8))
    )


if __name__ == "__main__":
    main()
