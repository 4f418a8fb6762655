"""The agent's entry: one request in, JSON lines out."""

import json
import os
import signal
from contextlib import suppress

from mastio.agent import apply, firewall
from mastio.agent.machine import Failure, make_home
from mastio.agent.wire import Event


def say(
    step: str, words: str, *, done: bool = False, ok: bool = True, confirm: bool = False
) -> None:
    """Writes a line of progress; nobody listening is no reason to stop half-way."""
    event = Event(step=step, words=words, done=done, ok=ok, confirm=confirm)
    with suppress(OSError):
        os.write(1, json.dumps(event).encode() + b"\n")


def main(payload: bytes) -> None:
    """Does what the request's `op` says."""
    os.umask(0o022)
    request = json.loads(payload)
    # A driver that goes away must not leave the machine between two states.
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    try:
        if request["op"] == "confirm":
            with apply.locked():
                make_home()
                firewall.confirm()
            say("confirm", "", done=True)
        elif request["op"] == "track":
            firewall.track()
            say("track", "", done=True)
        else:
            waits = apply.apply(request, say)
            say("finish", "", done=True, confirm=waits)
    except Failure as error:
        say("failed", str(error), done=True, ok=False)
