"""What Postfix says: who came, what was refused and why, what was delivered, how, and in which time.

The program's name tells the way: master.cf gives each service one (`syslog_name`), and the roles name them.
"""

import re
from collections.abc import Callable

from mastio import services
from mastio.digest.lines import SKIP, Handler, Program, Reader, seconds
from mastio.digest.origins import came
from mastio.digest.reasons import reason
from mastio.digest.shapes import LONGEST

WAYS = {
    b"postfix/smtpd": "in",
    b"postfix/relay/smtpd": "out",
    b"postfix/submissions/smtpd": "submitted",
    b"postfix/programs/smtpd": "submitted",
    b"postfix/delivery/smtpd": "stored",
    b"postfix/pickup": "local",
    b"postfix/sieve/smtpd": "local",
}
"""Who took a message, and the way that it then is on: from the internet, on its way there, from a user, on
its way into a mailbox, from the machine itself or a user's Sieve script."""
_HOPS = (b"postfix/store/smtp", b"postfix/out/smtp")
"""Who hands a message on within the site."""
_CLIENT = re.compile(rb"(?:client=|from )[^\[\s]*\[([^\]]+)\]")
_ADDRESSES = re.compile(rb" from=<(.*?)>(?: to=<(.*?)>)? proto=")
_PASSING = (b"breaking line", b"host ", b"lost connection", b"enabling PIX", b"replacing")
"""What is said on the way to an outcome."""
_OUTSIDE = b"]:%d: " % services.SMTP.port
"""In the other end's address: what goes to another organisation, not to a machine of the site."""
_QUEUE_ID = re.compile(rb"(?=[A-Za-z]*\d)[0-9A-Za-z]{6,20}: ")
_OF_ONE = re.compile(rb"\[[0-9a-fA-F.:]+\]|<[^>]*> ")
"""In a reason: a server's address, a recipient's."""
_SASL = re.compile(rb"sasl_username=(\S+)")
_BLOCKED = re.compile(rb"blocked using ([\w.-]+)")


def program(tag: bytes, reader: Reader) -> Program | None:
    """The reader of a Postfix program's lines; None for another's."""
    if not tag.startswith(b"postfix"):
        return None
    last = tag.rpartition(b"/")[2]
    make = _MAKERS.get(last)
    return make(tag, reader) if make else Program({}, _leftover(tag, reader))


def _called(tag: bytes) -> str:
    """How what a program says is counted: one that no master.cf of ours names may be called anything."""
    last = tag.rpartition(b"/")[2]
    known = tag in WAYS or tag in _HOPS or tag == b"postfix/" + last
    return (tag.removeprefix(b"postfix/") if known else b"elsewhere/" + last).decode()


def _leftover(tag: bytes, reader: Reader) -> Handler:
    """Lines that are of no known kind: warnings and worse are told, all are compared with known shapes."""
    name = tag.decode("ascii", "replace")

    def handler(text: bytes, line: bytes) -> None:
        if _QUEUE_ID.match(text):
            text = b"QUEUE-ID: " + text.partition(b": ")[2]
        if text.startswith((b"fatal: ", b"panic: ")):
            reader.tally.counts["trouble.Postfix gave up"] += 1
            reader.tally.tops["trouble"][b"%b: %b" % (reader.machine.encode(), text[:160])] += 1
        reader.odd(name, text, line)

    return handler


def _smtpd(tag: bytes, reader: Reader) -> Program:
    way = WAYS.get(tag, "elsewhere")
    public = way == "in"
    live, leftover = reader.live, _leftover(tag, reader)
    name = _called(tag)
    received, reject, refused = (
        f"postfix.received.{name}",
        f"postfix.rejected.{name}",
        f"refused.{way}",
    )

    def queued(text: bytes, line: bytes) -> None:
        qid, _, rest = text.partition(b": ")
        if rest.startswith(b"client="):
            tally = reader.tally
            tally.counts[received] += 1
            live[qid[:LONGEST]] = (way, b"", -1)
            if public:
                tally.tops["sources"][rest[rest.find(b"[") + 1 : rest.find(b"]")]] += 1
            elif found := _SASL.search(rest):
                tally.tops["users"][found[1]] += 1
                came(reader, found[1], rest[rest.find(b"[") + 1 : rest.find(b"]")], text, line)
        elif rest.startswith((b"reject: ", b"milter-reject: ", b"hold: ")):
            turned_away(text, line)
        elif not rest.startswith((b"lost connection", b"filter: ", b"discard: ")):
            leftover(text, line)

    def turned_away(text: bytes, line: bytes) -> None:
        _, _, rest = text.partition(b": ")
        verb, _, rest = rest.partition(b": ")
        if verb == b"reject":
            reader.tally.counts[reject] += 1
        if verb in (b"reject", b"milter-reject"):
            refuse(reader, refused, rest, line)
        elif verb == b"hold":
            reader.tally.counts["held.outgoing"] += 1
            if found := _SASL.search(rest):
                reader.tally.tops["held"][found[1]] += 1
        elif not verb.startswith((b"lost connection", b"abort")):
            leftover(text, line)

    def encrypted(text: bytes, line: bytes) -> None:
        at = text.find(b": TLSv") + 2
        reader.tally.tops["TLS in"][text[at : text.find(b" ", at)]] += 1

    def left(text: bytes, line: bytes) -> None:
        if b" mail=" in text:
            counts = reader.tally.counts
            counts["sessions.mail"] += 1
            if b" starttls=1" in text:
                counts["sessions.tls"] += 1

    def warned(text: bytes, line: bytes) -> None:
        if b"authentication failed" in text:
            tally = reader.tally
            tally.counts[f"login.failed.{'SMTP' if public else 'submission'}"] += 1
            if found := _SASL.search(text):
                tally.tops["login users"][found[1]] += 1
            if public and (client := _CLIENT.search(text.replace(b"warning: ", b"from "))):
                tally.tops["login sources"][client[1]] += 1
        elif way == "out" and b" rate limit exceeded: " in text:
            tally = reader.tally
            tally.counts["trouble.a machine sends too much"] += 1
            who = text[text.find(b" from ") + 6 : text.find(b"[")]
            tally.tops["trouble"][
                b"%b: too much to send from %b" % (reader.machine.encode(), who)
            ] += 1
        else:
            leftover(text, line)

    return Program(
        {
            b"connect from": SKIP,
            b"disconnect": left if public else SKIP,
            b"discarding": SKIP,
            b"lost connection": SKIP,
            b"SSL_accept": SKIP,
            b"NOQUEUE:": turned_away,
            b"warning:": warned,
            **dict.fromkeys(
                (b"Anonymous", b"Trusted TLS", b"Untrusted", b"Verified"),
                encrypted if public else SKIP,
            ),
        },
        queued,
    )


def refuse(reader: Reader, kind: str, rest: bytes, line: bytes) -> None:
    """A refusal: `STAGE from CLIENT: ANSWER; from=<…> to=<…> …`."""
    tally = reader.tally
    where, _, told = rest.partition(b": ")
    answer = told.rpartition(b"; from=")[0] or told
    # Without the address in it, most answers are alike.
    why = reason(answer[:10] + answer.rpartition(b">: ")[2])
    tally.counts[f"{kind}.{why}"] += 1
    tally.tops["refused sources"][where.rpartition(b"[")[2].partition(b"]")[0]] += 1
    if why == "block list" and (found := _BLOCKED.search(answer)):
        tally.tops["block lists"][found[1]] += 1
    if why == "greylisted, to come again" and (found := _ADDRESSES.search(told)):
        reader.then(_greylisted, b"%b %b" % (found[1], found[2] or b""), line[:_CLOCK])
    if why == "no such user" and (found := _ADDRESSES.search(told)):
        tally.tops["unknown users"][found[2] or b""] += 1


def _greylisted(reader: Reader, key: bytes, line: bytes) -> None:
    reader.memory.waiting.setdefault(key[: 2 * LONGEST], seconds(line))


def _arrived(reader: Reader, key: bytes, line: bytes) -> None:
    """A message that was greylisted, perhaps."""
    if since := reader.memory.waiting.pop(key[: 2 * LONGEST], 0):
        reader.tally.counts["greylisted then delivered"] += 1
        reader.tally.times["greylisted"][b"%d" % (seconds(line) - since)] += 1


_CLOCK = 19
"""So much of a line says when it arrived, to the second."""


def _cleanup(tag: bytes, reader: Reader) -> Program:
    live, leftover = reader.live, _leftover(tag, reader)

    def handler(text: bytes, line: bytes) -> None:
        if text.find(b": message-id=", 0, 40) > 0:
            return
        qid, _, rest = text.partition(b": ")
        if rest.startswith((b"milter-reject: ", b"reject: ")):
            if qid not in live and reader.puts_off(line):
                return
            way = live.get(qid, ("in", b"", 0))[0]
            reader.tally.counts["postfix.rejected.cleanup"] += 1
            refuse(reader, f"refused.{way}", rest.partition(b": ")[2], line)
        elif rest == b"removed (canceled)":
            if not live.pop(qid, None):
                reader.puts_off(line)
        elif rest.startswith(b"filter: header X-Mastio-Quarantine"):
            reader.tally.counts["held.quarantine"] += 1
        elif not rest.startswith((b"resent-message-id=", b"milter-header-hold: ")):
            leftover(text, line)

    return Program({}, handler)


def _qmgr(tag: bytes, reader: Reader) -> Program:
    live, leftover = reader.live, _leftover(tag, reader)

    def handler(text: bytes, line: bytes) -> None:
        if text.endswith(b": removed"):
            if not live.pop(text[:-9], None):
                reader.puts_off(line)
            return
        qid, mark, rest = text.partition(b": from=<")
        if not mark:
            leftover(text, line)
            return
        sender, mark, rest = rest.partition(b">, size=")
        if not mark:
            if b", status=expired" in rest or b", status=expired" in sender:
                reader.tally.counts["expired"] += 1
            else:
                leftover(text, line)
            return
        if not (message := live.get(qid)):
            if reader.puts_off(line):
                return
            message = _LOCAL
        way, _, known = message
        if known >= 0:
            return  # tried again
        octets = int(rest[: rest.index(b",", 0, _DIGITS)])
        live[qid[:LONGEST]] = (way, sender[:LONGEST], octets)
        tally = reader.tally
        counts = tally.counts
        counts["mail." + way] += 1
        counts["bytes." + way] += octets
        if way == "in":
            tally.tops["senders"][sender] += 1

    return Program({}, handler)


_DIGITS = 16
"""A size has fewer."""
_LOCAL = ("local", b"", -1)
_NOBODY = ("", b"", -1)
_ENDS = {
    it.encode(): it for it in ("deferred", "bounced", "expired", "deliverable", "undeliverable")
}
"""What becomes of what is not sent (Postfix's `status=`)."""


def _delivering(tag: bytes, reader: Reader) -> Program:
    """smtp, lmtp, pipe, local, virtual, error: `QID: to=<…>, relay=…, delay=…, status=… (…)`."""
    live, memory = reader.live, reader.memory
    leftover = _leftover(tag, reader)
    name = _called(tag)
    outward = name == "smtp"
    sent, octets, to = f"sent.{name}", f"sent bytes.{name}", f"to.{name}"

    def handler(text: bytes, line: bytes) -> None:
        qid, mark, rest = text.partition(b": to=<")
        if not mark:
            rest = text.partition(b": ")[2]
            if not rest.startswith(_PASSING):
                leftover(text, line)
            return
        if not (message := live.get(qid)):
            if reader.puts_off(line):
                return
            message = _NOBODY
        way, sender, size = message
        tally = reader.tally
        at = rest.find(b", status=") + 9
        if rest.startswith(b"sent ", at):
            tally.counts[sent] += 1
            if size > 0:
                tally.counts[octets] += size
            at = rest.index(b" delay=") + 7
            # A store hands users' mail to the gateway by a program of the same name.
            tally.times["hand over" if way == "submitted" else name][
                rest[at : rest.find(b",", at)]
            ] += 1
            recipient = rest[: rest.find(b">")]
            tally.tops[to][recipient] += 1
            if way == "in" and (memory.waiting or reader.ahead):
                reader.then(_arrived, b"%b %b" % (sender, recipient), line[:_CLOCK])
            return
        status = rest[at : rest.index(b" ", at)]
        tally.counts[f"{_ENDS.get(status, 'otherwise')}.{name}"] += 1
        # Which of a server's many addresses, and which message: then most reasons are alike.
        why = _OF_ONE.sub(b"", rest[rest.find(b"(", at) + 1 : -1])
        tally.tops["not delivered"][b"%b: %b" % (status, why[:140])] += 1

    def encrypted(text: bytes, line: bytes) -> None:
        if b"connection established" in text and _OUTSIDE in text:
            at = text.find(b": TLSv") + 2
            reader.tally.tops["TLS out"][text[at : text.find(b" ", at)]] += 1
            reader.tally.tops["TLS proofs"][text.partition(b" ")[0].lower()] += 1

    tls = encrypted if outward else SKIP
    return Program(
        dict.fromkeys((b"Anonymous", b"Trusted TLS", b"Untrusted", b"Verified"), tls),
        handler,
    )


def _postscreen(tag: bytes, reader: Reader) -> Program:
    leftover = _leftover(tag, reader)

    def turned_away(text: bytes, line: bytes) -> None:
        reader.tally.counts["postfix.rejected.postscreen"] += 1
        refuse(reader, "refused.in", text.partition(b": ")[2].partition(b": ")[2], line)

    def abused(text: bytes, line: bytes) -> None:
        reader.tally.counts["refused.in.protocol"] += 1
        if found := re.search(rb" from \[([^\]]+)\]", text):
            reader.tally.tops["refused sources"][found[1]] += 1

    def listed(text: bytes, line: bytes) -> None:
        reader.tally.counts["postscreen.on block lists"] += 1

    return Program(
        {
            **dict.fromkeys(
                (b"CONNECT from", b"PASS OLD", b"PASS NEW", b"ALLOWLISTED", b"WHITELISTED"), SKIP
            ),
            **dict.fromkeys((b"DISCONNECT", b"HANGUP after", b"cache "), SKIP),
            **dict.fromkeys(
                (b"PREGREET", b"COMMAND ", b"NON-SMTP", b"BARE NEWLINE", b"DENYLISTED"), abused
            ),
            b"DNSBL rank"[:8]: listed,
            b"NOQUEUE:": turned_away,
        },
        leftover,
    )


def _pickup(tag: bytes, reader: Reader) -> Program:
    leftover = _leftover(tag, reader)

    def handler(text: bytes, line: bytes) -> None:
        qid, _, rest = text.partition(b": ")
        if rest.startswith((b"uid=", b"sender=")):
            reader.tally.counts["postfix.received.pickup"] += 1
            reader.live[qid[:LONGEST]] = ("local", b"", -1)
        else:
            leftover(text, line)

    return Program({}, handler)


def _bounce(tag: bytes, reader: Reader) -> Program:
    leftover = _leftover(tag, reader)

    def handler(text: bytes, line: bytes) -> None:
        if b"notification: " in text:
            reader.tally.counts["notices"] += 1
        else:
            leftover(text, line)

    return Program({}, handler)


def _quiet(tag: bytes, reader: Reader) -> Program:
    """Programs whose usual lines say nothing: only what is severe is looked at."""
    leftover = _leftover(tag, reader)
    return Program(
        {
            **dict.fromkeys((b"CONNECT to", b"CONNECT from", b"DISCONNECT", b"statistics:"), SKIP),
            **dict.fromkeys((b"Anonymous", b"Trusted TLS", b"Untrusted", b"Verified"), SKIP),
        },
        leftover,
    )


_MAKERS: dict[bytes, Callable[[bytes, Reader], Program]] = {
    b"smtpd": _smtpd,
    b"cleanup": _cleanup,
    b"qmgr": _qmgr,
    **dict.fromkeys(
        (b"smtp", b"lmtp", b"pipe", b"local", b"virtual", b"error", b"discard"), _delivering
    ),
    b"postscreen": _postscreen,
    b"pickup": _pickup,
    b"bounce": _bounce,
    **dict.fromkeys((b"tlsproxy", b"anvil", b"scache"), _quiet),
}
