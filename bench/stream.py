"""Numbered messages on their way into a site from one machine, whatever happens to that machine meanwhile.

The sender itself (`sender.send`) runs there and dies with it; what became of each message is known here.
"""

import json
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import getsource
from typing import Any

from bench.gateway import letter
from bench.ledger import Promise
from bench.sender import send

from mastio.errors import MastioError
from mastio.transport import Transport

MARK = "X-Chaos"
"""The header field that has the run and the number."""
WAITS = [1, 2, 3, 5, 5, *[8] * 400]
"""Seconds between a sender's tries: it does not give up while the benchmark lasts."""
SESSIONS, CLICKS = 40, 12
"""Connections at a time: of other organisations' mail servers, of users (the webmail's pool of PHP has 24)."""
PATIENCE = 40.0
"""Seconds that a sender waits for an answer; mail servers wait for minutes, people do not."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One numbered message."""

    number: int
    sender: str
    recipient: str
    due: float
    """Seconds after the first."""


@dataclass
class Stream:
    """Messages that set out at one machine, over one way; it goes on when that machine is back."""

    transport: Transport
    machine: str
    first: str
    """Whom it hands them to."""
    way: dict[str, Any]
    mails: Sequence[Mail]
    run: str
    password: str = ""
    patience: float = PATIENCE
    """Seconds that it waits for an answer."""
    promises: dict[int, Promise] = field(default_factory=dict)
    unsure: dict[int, int] = field(default_factory=dict)
    """Messages of which all was sent, and how often."""
    late: dict[int, int] = field(default_factory=dict)
    """Messages whose answer was no longer waited for, and how often."""

    def go(self, began: float, deadline: float) -> list[Promise]:
        """Until each message has its verdict, or the deadline has passed."""
        while (left := [it for it in self.mails if it.number not in self.promises]) and (
            time.monotonic() < deadline
        ):
            try:
                self._pump(left, began, deadline)
            except (MastioError, ValueError):
                time.sleep(1)  # the machine died under it
        return [
            self.promises.get(it.number, Promise(it.number, it.recipient, self.first, 0, "given up", 0, 0))
            for it in self.mails
        ]  # fmt: skip

    def _pump(self, left: Sequence[Mail], began: float, deadline: float) -> None:
        source = (
            f"from __future__ import annotations\nimport json\nfrom typing import Any\n"
            f"{textwrap.dedent(getsource(send))}\nsend(**json.loads(PAYLOAD))\n"
        )
        mails = [[it.sender, it.recipient, self._text(it), began + it.due] for it in left]
        order = {
            **self.way, "mails": mails, "waits": WAITS, "patience": self.patience,
            "sessions": CLICKS if self.password else SESSIONS,
            "password": self.password, "tell": True, "until": deadline,
        }  # fmt: skip
        sent: dict[int, int] = {}
        try:
            for line in self.transport.stream_python(
                self.machine, source, json.dumps(order).encode()
            ):
                what, index, *rest = json.loads(line)
                mail = left[index]
                if what == "late":
                    self.late[mail.number] = self.late.get(mail.number, 0) + 1
                    continue
                if what == "dot":
                    sent[mail.number] = sent.get(mail.number, 0) + 1
                    continue
                code, text, tries, _ = rest
                dots = sent.pop(mail.number, 0) + self.unsure.pop(mail.number, 0)
                # The last one was answered.
                unsure = dots - 1 if code == 250 else dots
                self.promises[mail.number] = Promise(
                    mail.number,
                    mail.recipient,
                    self.first,
                    code,
                    text,
                    tries,
                    unsure,
                    self.late.get(mail.number, 0),
                )
        finally:
            for number, dots in sent.items():
                self.unsure[number] = self.unsure.get(number, 0) + dots

    def _text(self, mail: Mail) -> str:
        text = letter(mail.sender, mail.recipient, 2000)
        return f"{MARK}: {self.run} {mail.number}\n{text}"
