"""What the other programs say: the filter, the virus scanner, mailboxes, log-ins, the firewall, bans, services."""

import json
import re
from collections.abc import Callable

from mastio.digest import intrusion, losses, units
from mastio.digest.lines import SKIP, Program, Reader, seconds
from mastio.digest.memory import learning
from mastio.digest.origins import came
from mastio.nft import ACCEPT
from mastio.reports import read

INTERNET = b"internet"
"""The interface towards the internet: every machine's is called as its zone."""
_USER = re.compile(rb"user=<([^>]*)>")
_PROXIED = re.compile(
    rb"[a-z]+-login: proxy\(([^ ,()]+),[^ ,()]+\): Started proxying to remote host \([\d.]+ secs\): "
    rb"user=<\1>, .*?\brip=([^,]+),"
)
"""The proxy for mail programs says so when the store has let somebody in: by SMTP too, where the store says nothing."""
_WEBMAIL = re.compile(
    rb"(Successful|Failed) login for (.*) from (\S+) in session \S+(?: \(error: -?\d+\))?$"
)
_SSH_FAILED = re.compile(rb" user .*? (\S+) port \d+ \[preauth\]$")
_SSH_IN = re.compile(rb"Accepted \S+ for (\S+) from (\S+) port")
_PACKET = re.compile(
    rb"mastio (\w+): IN=(\S*) OUT=(\S*) .*?SRC=(\S+) DST=(\S+) .*?PROTO=(\S+)(?: SPT=\d+ DPT=(\d+))?"
)
_ACTIONS = ("no action", "greylist", "add header", "rewrite subject", "soft reject", "reject", "quarantine",
            "discard")  # fmt: skip
_VERDICTS = {it.encode(): f"filter.{it}" for it in _ACTIONS}
"""What Rspamd does with a message → what is counted."""
_FLOWS = 1_000
"""How many ends of conversations are remembered: there are a few, unless somebody writes such lines himself."""
_BANNED = re.compile(rb"banned (\S+) for \d+ seconds: (.*)")
_FOUND = re.compile(rb": (\S+?)(?:\([0-9a-f]+:\d+\))? FOUND$")


def program(tag: bytes, reader: Reader) -> Program | None:
    """The reader of a program's lines; None when it is of no interest but for new shapes."""
    make = _MAKERS.get(tag)
    return make(tag.decode(), reader) if make else None


def _rspamd(name: str, reader: Reader) -> Program:
    def handler(text: bytes, line: bytes) -> None:
        head = text[8:64]
        if b"rspamd_task_write_log" in head:
            if b"; proxy; " not in head:
                return  # asked for by hand, or learning
            at = text.find(b"(default: ")
            verdict = text[text.find(b"(", at + 1) + 1 : text.find(b")", at)]
            reader.tally.counts[_VERDICTS.get(verdict, "filter.another verdict")] += 1
            at = text.rfind(b", time: ")
            reader.tally.times["filter in ms"][text[at + 8 : text.find(b"ms", at)]] += 1
        elif b"slow asynchronous rule" not in head and b"rspamd_task_process" not in head:
            # What begins with a task's number and a module is told apart by what follows.
            reader.odd(name, text[text.find(b"; ") + 2 :], line)

    return Program({}, handler)


def _clamd(name: str, reader: Reader) -> Program:
    def handler(text: bytes, line: bytes) -> None:
        if found := _FOUND.search(text):
            reader.tally.counts["viruses"] += 1
            reader.tally.tops["viruses"][found[1]] += 1
        else:
            reader.odd(name, text, line)

    return Program({}, handler)


def _dovecot(name: str, reader: Reader) -> Program:
    def handler(text: bytes, line: bytes) -> None:
        counts = reader.tally.counts
        if text.startswith(b"lmtp("):
            if b"stored mail into mailbox " in text:
                counts["mailbox.Junk" if text.endswith(b"'Junk'") else "mailbox.others"] += 1
            elif b"uota exceeded" in text:
                counts["trouble.quota"] += 1
                reader.tally.tops["over quota"][text[5 : text.find(b")")]] += 1
            elif b"onnect from local" not in text:
                reader.odd(f"{name}/lmtp", text.partition(b": ")[2], line)
        elif (at := text.find(b"-login: ", 0, 24)) > 0:
            # What was typed as a name stands further on.
            if text.startswith(b"Logged in: ", at + 8):
                counts["login.good.mailbox"] += 1
                # Most are the webmail's, one for each click: an address that counts as nobody's ends it soon.
                at = text.find(b", rip=") + 6
                address = text[at : text.find(b",", at)]
                if reader.memory.origins.of(address) and (found := _USER.search(text)):
                    came(reader, found[1], address, text, line)
            elif text.startswith(b"proxy(", at + 8):
                if found := _PROXIED.match(text):
                    came(reader, found[1], found[2], text, line)
                elif b"): Disconnected" not in text:
                    reader.odd(f"{name}/login", text.partition(b": ")[2], line)
            elif b"(auth_failed)" in text:
                counts["login.failed.mailbox"] += 1
                if found := _USER.search(text):
                    reader.tally.tops["login users"][found[1]] += 1
            elif b"Login aborted: " not in text:
                reader.odd(f"{name}/login", text.partition(b": ")[2], line)
        elif not text.startswith((b"imap(", b"managesieve(", b"auth(", b"auth-worker(")):
            reader.odd(name, text, line)

    return Program({}, handler)


def _roundcube(name: str, reader: Reader) -> Program:
    def handler(text: bytes, line: bytes) -> None:
        found = _WEBMAIL.match(text)
        if not found:
            sent = text.startswith(b"User ") and b"]; Message <" in text
            if not sent and not text.startswith(b"IMAP Error: Login failed"):
                reader.odd(name, text, line)
            return
        tally = reader.tally
        if found[1] == b"Successful":
            tally.counts["login.good.webmail"] += 1
            came(reader, found[2].partition(b" (ID: ")[0], found[3], text, line)
        else:
            tally.counts["login.failed.webmail"] += 1
            # What was typed as a name may be anything, a password too: it is not repeated.
            tally.tops["login sources"][found[3]] += 1

    return Program({}, handler)


def _sshd(name: str, reader: Reader) -> Program:
    def handler(text: bytes, line: bytes) -> None:
        tally = reader.tally
        if found := _SSH_IN.match(text):
            tally.counts["login.good.ssh"] += 1
            came(reader, b"ssh " + found[1], found[2], text, line)
        elif text.endswith(b"[preauth]"):
            if found := _SSH_FAILED.search(text):
                tally.counts["login.failed.ssh"] += 1
                tally.tops["login sources"][found[1]] += 1
        elif text.startswith((b"error: ", b"fatal: ")):
            reader.odd(name, text, line)

    return Program({}, handler)


def _stopped(
    reader: Reader, group: str, name: str, addresses: bytes, text: bytes, line: bytes
) -> None:
    """A conversation inside that a firewall stopped; news when it is the first such one."""
    if reader.memory.scanning(seconds(line)):
        # Thousands of ports of watch's own would push out of the top what others tried.
        reader.tally.counts["scanned"] += 1
        return
    reader.tally.tops["drops inside"][addresses] += 1
    flows = reader.memory.flows
    if flows.new(reader.machine, group, name):
        reader.news("flows", f"{group} {name}", text, line)
        reader.filled(flows, group)


def _begun(reader: Reader, flow: str, text: bytes, line: bytes) -> None:
    """A conversation with the outside that was let begin; news when there never was one between the two."""
    memory, hour = reader.memory, line[:13].decode("ascii", "replace")
    memory.begun_since = memory.begun_since or hour
    if memory.begun.new(reader.machine, "", flow):
        if not learning(memory.begun_since, hour):
            reader.news("begun", flow, text, line)
        reader.filled(memory.begun, "")


def _ulogd(name: str, reader: Reader) -> Program:
    here = reader.machine.encode()
    flows: dict[bytes, bytes] = {}
    """What stands in a line about the ends of a conversation → how it is told."""

    def accepted(text: bytes, line: bytes) -> None:
        # There is one for each connection: no expression goes through it, once its flow is known.
        at = text.find(b" DPT=")
        key = text[: text.find(b" ", text.find(b" OUT=") + 1)] + text[at : text.find(b" ", at + 1)]
        flow = flows.get(key)
        if flow is None:
            found = _PACKET.match(text)
            if not found:
                reader.tally.counts["reading.unreadable"] += 1
                return
            _, came, went, _, _, protocol, number = found.groups()
            flow = b"%b > %b %b" % (came or here, went or here, _port(protocol, number))
            if len(flows) >= _FLOWS:
                flows.clear()
            flows[key] = flow
            reader.then(_begun, flow.decode("ascii", "replace"), text, line)
        tally = reader.tally
        tally.counts["accepted"] += 1
        tally.tops["accepted"][flow] += 1

    def dropped(text: bytes, line: bytes) -> None:
        found = _PACKET.match(text)
        if not found:
            reader.tally.counts["reading.unreadable"] += 1
            return
        tally = reader.tally
        chain, came, went, source, target, protocol, number = found.groups()
        port = _port(protocol, number)
        pair = b"%b > %b" % (came or here, went or here)
        tally.counts["dropped"] += 1
        tally.tops["drops"][pair] += 1
        tally.tops["drops by rule"][b"%b: %b" % (here, chain)] += 1
        if came == INTERNET:
            tally.tops["drop sources"][source] += 1
            tally.tops["drop ports"][port] += 1
        elif chain in (b"forward", b"input", b"output"):
            tally.counts["dropped inside"] += 1
            group, name = pair.decode("ascii", "replace"), port.decode("ascii", "replace")
            addresses = b"%b > %b %b" % (source, target, port)
            reader.then(_stopped, group, name, addresses, text, line)

    kinds = (b"mastio i", b"mastio o", b"mastio f", b"mastio n", b"mastio s", b"mastio l")
    return Program(
        {
            **dict.fromkeys(kinds, dropped),
            b"mastio %b" % ACCEPT.encode(): accepted,
            b"registering": SKIP,
        },
        lambda text, line: reader.odd(name, text, line),
    )


def _port(protocol: bytes, number: bytes | None) -> bytes:
    return protocol.lower() + (b"/" + number if number else b"")


def _offences(name: str, reader: Reader) -> Program:
    def handler(text: bytes, line: bytes) -> None:
        if found := _BANNED.match(text):
            reader.tally.counts["bans"] += 1
            reader.tally.tops["bans"][found[1]] += 1
            reader.tally.tops["bans for"][found[2]] += 1
        else:
            reader.odd(name, text, line)

    return Program({}, handler)


def _quarantine(name: str, reader: Reader) -> Program:
    """The store's quarantine, and what the gateway holds on its way out."""
    kind = "leaving" if name == "mastio-held" else "quarantine"

    def handler(text: bytes, line: bytes) -> None:
        verb = text.partition(b":")[0]
        if verb in (b"held", b"deleted", b"released", b"expired"):
            reader.tally.counts[f"{kind}.{verb.decode()}"] += 1
        else:
            reader.odd(name, text, line)

    return Program({}, handler)


def _reports(name: str, reader: Reader) -> Program:
    """What other organisations report of our mail: `reports.read.figures`, one line for each report."""

    def handler(text: bytes, line: bytes) -> None:
        tally = reader.tally
        try:
            report = json.loads(text)
            kind, org = report["kind"], report.get("org", "")
            failed, messages, sessions = (
                read.number(report.get(it)) for it in ("failed", "messages", "sessions")
            )
            counted = report.get("sources") or report.get("types") or {}
            names = [(str(what).encode(), read.number(number)) for what, number in counted.items()]
        except (KeyError, TypeError, AttributeError):
            raise ValueError("not as the reports' reader writes") from None
        counts = tally.counts
        if kind not in ("dmarc", "tls"):
            counts["reports.unreadable"] += 1
            return
        counts[f"reports.{kind}"] += 1
        if not report.get("verified"):
            counts["reports.unverified"] += 1
        tally.tops["reporters"][str(org).encode()] += 1
        if kind == "dmarc":
            counts["dmarc.messages"] += messages
            counts["dmarc.passed"] += messages - failed
        else:
            counts["tls reports.sessions"] += sessions
            counts["tls reports.failed"] += failed
        for what, number in names:
            tally.tops["dmarc sources" if kind == "dmarc" else "tls failures"][what] += number

    return Program({}, handler)


def _quota(name: str, reader: Reader) -> Program:
    """`ADDRESS has passed 90 % of its quota`: the store's Dovecot says so when a message makes it so."""

    def handler(text: bytes, line: bytes) -> None:
        reader.tally.tops["nearly full"][text.partition(b" ")[0]] += 1

    return Program({}, handler)


def _losses(name: str, reader: Reader) -> Program:
    """A queue that has thrown lines away says so each minute, with all since its start: what grows is counted.

    What journald could not hand on counts each time.
    """

    def handler(text: bytes, _: bytes) -> None:
        if one := losses.loss(name, text.decode("utf-8", "replace")):
            reader.then(_lost, one)

    return Program({}, handler)


def _lost(reader: Reader, one: losses.Loss) -> None:
    if more := losses.grown(reader.memory.lost.setdefault(reader.machine, {}), one):
        reader.tally.counts["trouble.logs lost"] += more
        what = f"{reader.machine}: log lines thrown away, the queue was full ({one.queue[:80]})"
        reader.tally.tops["trouble"][what.encode()] += more


def _nginx(name: str, reader: Reader) -> Program:
    def handler(text: bytes, line: bytes) -> None:
        at = text.find(b'" ')
        status = text[at + 2 : at + 5]
        if at < 0 or not status.isdigit():
            reader.odd(name, text, line)
            return
        reader.tally.counts["web"] += 1
        if status >= b"500":
            reader.tally.counts["web.failed"] += 1

    return Program({}, handler)


def _silent(name: str, reader: Reader) -> Program:
    """Lines that are somebody's words, or that others tell as well."""
    return Program({}, SKIP)


_MAKERS: dict[bytes, Callable[[str, Reader], Program]] = {
    b"rspamd": _rspamd,
    b"clamd": _clamd,
    b"dovecot": _dovecot,
    b"roundcube": _roundcube,
    b"sshd": _sshd,
    b"sshd-session": _sshd,
    b"ulogd": _ulogd,
    b"mastio-offences": _offences,
    b"mastio-quarantine": _quarantine,
    b"mastio-held": _quarantine,
    read.IDENT.encode(): _reports,
    b"mastio-quota": _quota,
    **dict.fromkeys((it.encode() for it in losses.TAGS), _losses),
    b"systemd": units.systemd,
    b"mastio-pulse": units.pulse,
    b"nginx": _nginx,
    intrusion.TAG.encode(): intrusion.program,
    **dict.fromkeys((b"learnd", b"mastio-learn", b"mastio-sieve-send"), _silent),
}
