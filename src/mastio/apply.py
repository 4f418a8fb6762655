"""Drives the agents: observe and apply on all machines at once, each independent of the others.

    with site_lock(folder):
        found = plan_all(transport, states)            # machine → Planned, or why there is none
        outcomes = apply_all(transport, ready, on_event)

A machine that cannot be reached is reported while the others go on. A machine with nothing to do
costs one round trip. A machine at work is never cut short: Ctrl-C waits for the machines to end; a
second one leaves them to themselves, and they still end, or go back, on their own. Where somebody
listens for Ctrl-C already, it is theirs.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import TypeVar, cast

from mastio import files
from mastio.agent import bundle
from mastio.agent.wire import Event, Order, Seen
from mastio.errors import Exit, MastioError
from mastio.order import order
from mastio.plan import MachinePlan, diff, request
from mastio.state import HostState
from mastio.transport import Transport, last_line

OBSERVE_TIMEOUT = 60.0
CONFIRM_TIMEOUT = 20.0
CONFIRM_TRIES = 2
LOCK_FILE = ".lock"

OnEvent = Callable[[str, Event], None]
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Planned:
    """A machine that answered: its desired state, what was seen, and what separates the two."""

    state: HostState
    seen: Seen
    plan: MachinePlan


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an apply ended on one machine. `words` are the agent's when it failed."""

    ok: bool
    words: str
    seconds: float
    code: Exit = Exit.OK


@contextmanager
def site_lock(folder: Path) -> Iterator[None]:
    """Keeps a second apply away from the same site; MastioError (LOCKED) when one is at work.

    The kernel lets go when the holder ends, however it ends (flock(2)): there are no stale locks.
    """
    try:
        file = (folder / LOCK_FILE).open("a+", encoding="ascii")
    except OSError as error:
        raise MastioError(
            f"{folder}: cannot lock the site: {error.strerror}", code=Exit.CANT_CREATE
        ) from None
    with file:
        try:
            files.hold(file)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise MastioError(
                f"another mastio apply (pid {holder}) is at work on {folder}",
                hint="wait until it ends, then run this again",
                code=Exit.LOCKED,
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def observe(transport: Transport, machine: str, state: HostState) -> Seen:
    """What is on the machine, in one round trip; MastioError when it does not answer."""
    question = json.dumps(request(state)).encode()
    result = transport.run_python(machine, bundle.observer(), question, OBSERVE_TIMEOUT)
    if result.code:
        raise MastioError(
            f"{machine}: looking around failed: {last_line(result.stderr) or result.code}",
            hint="the machine needs Debian 13 with python3, and root to log in",
        )
    return cast(Seen, json.loads(result.stdout))


def plan_all(
    transport: Transport, states: Mapping[str, HostState]
) -> dict[str, Planned | MastioError]:
    """Observes all machines at once and compares; for a machine that did not answer, the error."""

    def plan_one(machine: str) -> Planned:
        seen = observe(transport, machine, states[machine])
        return Planned(states[machine], seen, diff(states[machine], seen))

    results: SimpleQueue[tuple[str, Planned | MastioError]] = SimpleQueue()
    _start_all(states, lambda machine: results.put((machine, _caught(plan_one, machine))))
    found = dict(results.get() for _ in states)
    return {machine: found[machine] for machine in states}


def apply_all(
    transport: Transport, planned: Mapping[str, Planned], on_event: OnEvent
) -> dict[str, Outcome]:
    """Applies all plans at once. `on_event` is called in this thread, as the machines report.

    Only the main thread may call it: it listens for Ctrl-C (signal(3)).
    """
    news: SimpleQueue[tuple[str, Event | Outcome | None]] = SimpleQueue()

    def apply_one(machine: str) -> None:
        one = planned[machine]
        if one.plan.empty:
            news.put((machine, Outcome(True, "nothing to do", 0.0)))
            return
        work = order(one.state, one.seen, one.plan)
        first = not one.seen["record"]["firewall"]
        outcome = carry_out(
            transport, machine, work, lambda name, event: news.put((name, event)), first=first
        )
        news.put((machine, outcome))

    outcomes: dict[str, Outcome] = {}
    patient = True
    with _on_interrupt(lambda: news.put(("", None))):
        _start_all(planned, apply_one)
        while len(outcomes) < len(planned):
            machine, item = news.get()
            if isinstance(item, Outcome):
                outcomes[machine] = item
            elif item:
                on_event(machine, item)
            else:
                _interrupted(sorted(planned.keys() - outcomes.keys()), patient, on_event)
                patient = False
    return {machine: outcomes[machine] for machine in planned}


def _interrupted(left: list[str], patient: bool, on_event: OnEvent) -> None:
    names = ", ".join(left)
    if not patient:
        raise MastioError(
            f"left while still at work: {names}; each ends or goes back by itself",
            hint="`mastio plan` shows where they stand, `mastio apply` goes on from there",
            code=Exit.INTERRUPTED,
        )
    words = f"waiting for {names} to end; Ctrl-C again to leave"
    on_event("", Event(step="interrupt", words=words, done=False, ok=True, confirm=False))


@contextmanager
def _on_interrupt(tell: Callable[[], None]) -> Iterator[None]:
    """Has Ctrl-C call `tell` instead of raising KeyboardInterrupt just anywhere, unless somebody listens already."""
    if callable(now := signal.getsignal(signal.SIGINT)) and now is not signal.default_int_handler:
        yield
        return
    former = signal.signal(signal.SIGINT, lambda *_: tell())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def carry_out(
    transport: Transport, machine: str, work: Order, on_event: OnEvent, *, first: bool = False
) -> Outcome:
    """Has one agent carry out `work`, and confirms its firewall over a new connection.

    `first`: no rules of ours were ever confirmed there.
    """
    begin = monotonic()
    try:
        if first and work["firewall"]:
            transport = _tracked(transport, machine)
        last = _converse(transport, machine, work, on_event)
        if last["ok"] and last["confirm"]:
            last = _confirm(transport.fresh(), machine)
    except MastioError as error:
        words = f"{error.message}\n→ {error.hint}" if error.hint else error.message
        return Outcome(False, words, monotonic() - begin, error.code)
    code = Exit.OK if last["ok"] else Exit.FAILED
    return Outcome(last["ok"], last["words"], monotonic() - begin, code)


def _converse(transport: Transport, machine: str, work: Order, on_event: OnEvent) -> Event:
    payload = json.dumps(work).encode()
    last: Event | None = None
    try:
        for line in transport.stream_python(machine, bundle.applier(), payload):
            event = cast(Event, json.loads(line))
            if event["done"]:
                last = event
            else:
                on_event(machine, event)
    except MastioError:
        # What breaks after the last word changes nothing.
        if last is None:
            raise
    if last:
        return last
    raise MastioError(
        f"{machine}: the agent ended without a word", hint="`mastio apply` goes on from there"
    )


def _tracked(transport: Transport, machine: str) -> Transport:
    """A new conversation, which the machine's kernel follows: the rules to come will know it."""
    fresh = transport.fresh()
    if fresh is not transport:
        # Without nft there it goes on as it is; packages bring it.
        order = json.dumps({"op": "track"}).encode()
        transport.run_python(machine, bundle.applier(), order, CONFIRM_TIMEOUT)
    return fresh


def _confirm(transport: Transport, machine: str) -> Event:
    payload = json.dumps({"op": "confirm"}).encode()
    reason = ""
    for _ in range(CONFIRM_TRIES):
        try:
            result = transport.run_python(machine, bundle.applier(), payload, CONFIRM_TIMEOUT)
        except MastioError as error:
            reason = error.message
            continue
        if result.code == 0:
            return cast(Event, json.loads(result.stdout))
        reason = last_line(result.stderr)
    raise MastioError(
        f"{machine}: the new firewall was not confirmed ({reason}); the former one returns by itself",
        hint="does the new ruleset let ssh in from here?",
    )


def _caught(function: Callable[[Key], Value], key: Key) -> Value | MastioError:
    try:
        return function(key)
    except MastioError as error:
        return error
    except Exception as error:  # a thread's error must reach the one who waits for it
        return MastioError(f"{key}: {type(error).__name__}: {error}")


def _start_all(machines: Mapping[str, object], function: Callable[[str], None]) -> None:
    # Daemon threads: whoever presses Ctrl-C twice is not made to wait for them.
    for machine in machines:
        Thread(target=function, args=(machine,), daemon=True).start()
