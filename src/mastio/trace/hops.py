"""From log lines to hops: what each machine's Postfix, filter and Dovecot say about each queue id.

Formats: Postfix 3.10 (postlogd(8), trivial but stable for twenty years), Rspamd's rspamd_task_write_log,
Pigeonhole's LMTP lines, the quarantine's own, Roundcube 1.6's line for each message sent.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from mastio.logs import line as lines
from mastio.logs.line import Line

_ID = r"([0-9A-Za-z]{10,20})"
_QUEUED = re.compile(rf"^{_ID}: (.*)$", re.DOTALL)
_CLIENT = re.compile(r"^client=([^,\[]*)\[([^\]]*)\](?::(\d+))?(?:.*?\bsasl_username=([^, ]+))?")
_DELIVERY = re.compile(
    r"^to=<([^>]*)>,(?: orig_to=<([^>]*)>,)? relay=([^,]*),.*? delay=([\d.]+),.*? "
    r"dsn=([\d.]+), status=(\w+) \((.*)\)$"
)
_NEXT = re.compile(rf"queued as {_ID}")
_REJECT = re.compile(
    r"(?:milter-)?reject: [A-Z-]+(?: [A-Z]+)? from ([^\[]*)\[([^\]]*)\](?::(\d+))?: (.*?);"
    r"(?:.*?)from=<([^>]*)>(?:,? to=<([^>]*)>)?"
)
_CONTENT = re.compile(
    r"reject: (header|body|mime header) .* from ([^\[ ]*)\[([^\]]*)\](?::\d+)?; "
    r"from=<([^>]*)> to=<([^>]*)> .*?: ([45]\..*)$"
)
"""header_checks(5)."""
_SCAN = re.compile(
    r"write_log: id: <([^>]*)>, qid: <([^>]*)>,.*?\(default: . \(([^)]*)\): "
    r"\[(-?[\d.]+|nan)/(-?[\d.]+|nan)\] \[(.*?)\]\), len:"
)
_RCPTS = re.compile(r", rcpts: <([^>]*)>")
_FORCED = re.compile(r'forced: ([a-z ]+) "([^"]*)"')
_SYMBOL = re.compile(r"([A-Z][A-Z0-9_]+)\(")
_MARKED = re.compile(r"\bATTACHMENTS\([^)]*\)\{[^}]*?\bmark: ([^}]*?);?\}")
"""What the filter lets pass with a mark, and why."""
_FILED = re.compile(r"^(?:lmtp|deliver)\(([^)]*)\).*?msgid=(<[^>]*>): (.*)$", re.DOTALL)
_FOLDER = re.compile(r"stored mail into mailbox '([^']*)'")
_WRITTEN = re.compile(
    r"^User (\S+) \[([^\]]+)\]; Message (<[^>]*>) for .*?; .*?queued as " + _ID + "$"
)
"""Roundcube's log of what it sent (`smtp_log`)."""
_BANNED = re.compile(r"^banned ([0-9a-f.:]+/\d+) for (\d+) seconds: (.*)$")
_EXPIRED = re.compile(rf"^expired: {_ID} .*?(: the disk is nearly full)?$")
"""postsuper(1) has deleted it for mastio-held, whose unit logs nothing so slight."""
_ANEW = re.compile(rf" orig_id={_ID}$")
"""pickup(8), of what postsuper(1) has queued anew."""
_TLS = re.compile(r"TLS connection established from [^\[]*\[([^\]]*)\](?::(\d+))?: (\S+) ")
_SCREEN = re.compile(r"^PASS (NEW|OLD) \[([^\]]*)\](?::(\d+))?")
_PASSAGE = re.compile(r"^mastio accept: .*? SRC=(\S+) DST=(\S+) .* SPT=(\d+) DPT=(\d+) ")
_SERVER = re.compile(r"\[([^\]]+)\]:(\d+)")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try to pass a message on for one recipient."""

    at: datetime
    agent: str
    """Postfix's name of the way, as `store/smtp`, `smtp`, `lmtp` or `pipe`."""
    to: str
    original: str
    """The address before aliases; empty when it is the same."""
    relay: str
    dsn: str
    status: str
    text: str
    next: str
    """Its queue id where it went, when that is known."""

    @property
    def server(self) -> tuple[str, str]:
        """Address and port of the server that was asked, or that did not answer; empty when they are not known."""
        words = self.text if self.text.startswith("connect to ") else ""
        found = _SERVER.search(self.relay) or _SERVER.search(words)
        return (found[1], found[2]) if found else ("", "")


@dataclass(frozen=True, slots=True)
class Scan:
    """What the filter said."""

    at: datetime
    action: str
    score: str
    limit: str
    symbols: frozenset[str]
    reason: str
    """Why the verdict was forced; empty when the score decided."""
    recipients: tuple[str, ...]
    marked: str = ""
    """What is attached that the site's policy marks."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A no, for now (4xx) or for good (5xx)."""

    at: datetime
    machine: str
    program: str
    client: str
    text: str
    sender: str
    recipient: str
    door: tuple[str, str] = ("", "")
    """The client's address and port, when they are known."""

    @property
    def for_now(self) -> bool:
        """Whether the client may come again."""
        return self.text.startswith("4")


@dataclass(frozen=True, slots=True)
class Filing:
    """What Dovecot did with a message for one mailbox."""

    at: datetime
    machine: str
    user: str
    message: str
    folder: str
    """Empty when it could not be stored, or is no folder's."""
    text: str


@dataclass(frozen=True, slots=True)
class Ban:
    """A client that the firewall was told to keep out."""

    at: datetime
    machine: str
    client: str
    """A network."""
    seconds: int
    why: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A connection that the firewall has let in from outside, or out."""

    at: datetime
    machine: str
    source: str
    target: str
    source_port: str
    target_port: str

    @property
    def door(self) -> tuple[str, str]:
        """Where it began."""
        return self.source, self.source_port

    @property
    def server(self) -> tuple[str, str]:
        """Where it went to."""
        return self.target, self.target_port


@dataclass(frozen=True, slots=True)
class Written:
    """A message that somebody wrote in the webmail."""

    at: datetime
    """When the store had taken it."""
    machine: str
    message: str
    user: str
    address: str
    """Where the browser was."""
    next: str
    """Its queue id on the store."""


@dataclass(slots=True)
class Hop:
    """One machine's part in a message's way."""

    machine: str
    queue: str
    began: datetime
    program: str = ""
    message: str = ""
    client: str = ""
    address: str = ""
    process: str = ""
    user: str = ""
    """Who logged in to submit it."""
    sender: str | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    scan: Scan | None = None
    refused: Refusal | None = None
    turned_away: list[Refusal] = field(default_factory=list)
    """Recipients who were refused, while others were not."""
    held: datetime | None = None
    held_why: str = ""
    held_for: str = ""
    held_content: bool = False
    """For what is in it, and not for how much its user sends."""
    released: datetime | None = None
    again: str = ""
    """Its queue id after its release, where that is another."""
    deleted: datetime | None = None
    expired: str = ""
    """Why it was deleted though no administrator said so."""
    ended: datetime | None = None
    notice: str = ""
    """The queue id of the notice that went to the sender."""
    quarantine: str = ""
    """Why it is to be held back from the mailbox."""
    tls: str = ""
    screened: datetime | None = None
    screened_how: str = ""
    port: str = ""
    """The client's."""

    @property
    def door(self) -> tuple[str, str]:
        """The client's address and port, when they are known."""
        return self.address, self.port

    @property
    def recipients(self) -> tuple[str, ...]:
        """Whom it is for, as far as the lines tell."""
        told = [it.to for it in self.deliveries]
        if self.scan:
            told += self.scan.recipients
        if self.refused and self.refused.recipient:
            told.append(self.refused.recipient)
        if self.held_for:
            told.append(self.held_for)
        return tuple(dict.fromkeys(told))


@dataclass(slots=True)
class Told:
    """Everything that some lines tell."""

    hops: dict[str, Hop] = field(default_factory=dict)
    """By queue id; ids of one site's machines do not meet (they are times)."""
    refusals: list[Refusal] = field(default_factory=list)
    """Said before there was a queue id."""
    filings: list[Filing] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    bans: list[Ban] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    _tls: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _screen: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)

    def _hop(self, line: Line, queue: str) -> Hop:
        return self.hops.setdefault(queue, Hop(line.machine, queue, line.written))

    def take(self, line: Line) -> None:
        """One more line."""
        if line.program.startswith("postfix/"):
            self._postfix(line, line.program.removeprefix("postfix/"))
        elif line.program == "rspamd":
            self._rspamd(line)
        elif line.program == "mastio-held" and (match := _EXPIRED.match(line.text)):
            hop = self._hop(line, match[1])
            hop.deleted = line.written
            hop.expired = "the disk was nearly full" if match[2] else "nobody released it"
        elif line.program == "roundcube" and (match := _WRITTEN.match(line.text)):
            user, address, message, queue = match.groups()
            self.written.append(Written(line.written, line.machine, message, user, address, queue))
        elif line.program == "mastio-offences" and (match := _BANNED.match(line.text)):
            self.bans.append(Ban(line.written, line.machine, match[1], int(match[2]), match[3]))
        elif line.program == "ulogd" and (match := _PASSAGE.match(line.text)):
            self.passages.append(Passage(line.written, line.machine, *match.groups()))
        elif line.program == "dovecot" and (match := _FILED.match(line.text)):
            folder = _FOLDER.search(match[3])
            if folder or any(word in match[3] for word in ("failed", "discard", "redirect")):
                name = folder[1] if folder else ""
                self.filings.append(
                    Filing(line.written, line.machine, match[1], match[2], name, match[3])
                )

    def _postfix(self, line: Line, program: str) -> None:
        if match := _SCREEN.match(line.text):
            # Also without its port: so an older line names its client.
            for port in (match[3] or "", ""):
                self._screen[match[2], port] = (line.written, match[1])
            return
        if match := _TLS.search(line.text):
            self._tls[line.program + line.process, match[1], match[2] or ""] = match[3]
            return
        if line.text.startswith("NOQUEUE: "):
            if match := _REJECT.search(line.text):
                self.refusals.append(_refusal(line, match))
            return
        match = _QUEUED.match(line.text)
        if not match:
            return
        hop, text = self._hop(line, match[1]), match[2]
        if found := _CLIENT.match(text):
            hop.client, hop.address, hop.port, hop.user = (it or "" for it in found.groups())
            hop.program, hop.process, hop.began = program, line.process, line.written
            hop.tls = self._tls.get((line.program + line.process, *hop.door), "")
            if hop.door in self._screen:
                hop.screened, hop.screened_how = self._screen[hop.door]
        elif text.startswith("uid="):
            hop.program = "pickup"
            if found := _ANEW.search(text):
                self._hop(line, found[1]).again = match[1]
        elif text.startswith(("message-id=", "resent-message-id=")):
            hop.message = text.partition("=")[2]
        elif text.startswith("from=<"):
            hop.sender = text[len("from=<") :].partition(">")[0]
        elif found := _DELIVERY.match(text):
            to, original, relay, _, dsn, status, words = found.groups()
            after = _NEXT.search(words) if status == "sent" else None
            hop.deliveries.append(
                Delivery(line.written, program, to, original or "", relay, dsn, status, words,
                         after[1] if after else "")
            )  # fmt: skip
        elif found := _REJECT.search(text):
            if " RCPT from " in text:
                hop.turned_away.append(_refusal(line, found))
            else:
                hop.refused = _refusal(line, found)
            hop.sender = hop.sender or found[5]
        elif found := _CONTENT.match(text):
            hop.sender = hop.sender or found[4]
            hop.refused = Refusal(
                line.written, line.machine, line.program, f"{found[2]}[{found[3]}]",
                f"{found[6]} ({found[1]})", found[4], found[5],
            )  # fmt: skip
        elif text.startswith(("hold: ", "milter-header-hold: ")):
            self._hold(hop, line, text)
        elif text.startswith("filter: header X-Mastio-Quarantine: "):
            hop.quarantine = text.partition("Quarantine: ")[2].rpartition(" from ")[0]
        elif text.startswith("sender ") and "notification: " in text:  # not the store's own copy
            hop.notice = text.rpartition(" ")[2]
        elif program == "postsuper":
            self._postsuper(hop, line, text)
        elif text.startswith("removed"):
            hop.ended = line.written

    def _hold(self, hop: Hop, line: Line, text: str) -> None:
        hop.held, hop.held_content = line.written, text.startswith("milter-header-hold: ")
        if hop.held_content:
            hop.held_why = text.partition("X-Mastio-Held: ")[2].partition(" from ")[0]
        else:
            hop.held_why = text.partition(": <")[2].partition(">: ")[2].partition(";")[0]
        hop.sender, hop.held_for = _after(text, "from=<"), _after(text, " to=<")

    def _postsuper(self, hop: Hop, line: Line, text: str) -> None:
        if text.startswith("removed"):
            hop.deleted = line.written
        elif ("hold" in text and "releas" in text) or text.startswith("requeued"):
            hop.released = line.written
        elif "hold" in text:
            hop.held = line.written

    def _rspamd(self, line: Line) -> None:
        match = _SCAN.search(line.text)
        if not match or match[2] in ("", "undef"):
            return
        hop = self._hop(line, match[2])
        forced = _FORCED.search(line.text)
        people = _RCPTS.search(line.text)
        marked = _MARKED.search(match[6])
        hop.scan = Scan(
            line.written, match[3], match[4], match[5], frozenset(_SYMBOL.findall(match[6])),
            forced[2] if forced else "", tuple(people[1].split(",")) if people else (),
            marked[1] if marked else "",
        )  # fmt: skip
        hop.message = hop.message or f"<{match[1]}>"


def _after(text: str, word: str) -> str:
    return text.partition(word)[2].partition(">")[0]


def _refusal(line: Line, match: re.Match[str]) -> Refusal:
    name, address, port, text, sender, recipient = match.groups()
    return Refusal(
        line.written, line.machine, line.program, f"{name}[{address}]", text, sender,
        recipient or "", (address, port or ""),
    )  # fmt: skip


def told(texts: Iterable[str]) -> Told:
    """What the lines tell, in the order in which they were written."""
    parsed = [it for it in map(lines.read, texts) if it is not None]
    # What was on its way when a connection broke is sent again (0032): the same line, arrived twice.
    once = {(it.machine, it.written, it.program, it.process, it.text): it for it in parsed}
    everything = Told()
    for line in sorted(once.values(), key=lambda it: it.written):
        everything.take(line)
    return everything
