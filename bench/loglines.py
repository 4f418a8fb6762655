"""A day of log lines of a busy site, as realistic as a seed can make them.

Each event (a message on its way in, a refusal, a log-in …) is a handful of lines of several machines, as the
lab's own daemons write them. They are written twice, the very same ones: as watch keeps them (a folder for each
machine) and in classic syslog format (one file), which is what the peers read.
"""

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

DAY = "2026-11-23"
_CLASSIC = "Nov 23"
_HOUSE = "fortress.example"
WEBMAIL = "10.77.2.10"
"""Who logs in to the store for others."""
_TLS = (
    "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519MLKEM768 "
    "server-signature ECDSA (prime256v1) server-digest SHA256"
)
_MUTUAL = f"{_TLS} client-signature ECDSA (prime256v1) client-digest SHA256"
_WORDS = (
    "news",
    "info",
    "sales",
    "maria",
    "jan",
    "shop",
    "bounce",
    "office",
    "anna",
    "no-reply",
    "peter",
)
Lines = list[tuple[str, str, str]]
"""Machine, facility.severity and tag, text."""


@dataclass
class World:
    """Who writes to whom, and which numbers were given."""

    chance: random.Random
    queued: int = 0
    users: list[str] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = self.chance
        self.users = [f"{_WORDS[n % 11]}.{n}@{_HOUSE}" for n in range(3_000)]
        self.senders = [f"{_WORDS[n % 11]}{n}@d{n % 1_700}.example.net" for n in range(40_000)]
        self.sources = [
            f"{chance.choice((185, 203, 91, 45))}.{n >> 8 & 255}.{n & 255}.{chance.randrange(254)}"
            for n in range(30_000)
        ]

    def often(self, names: list[str]) -> str:
        """One of them; the first far more often than the last."""
        return names[int(self.chance.random() ** 3 * len(names))]

    def queue_id(self) -> str:
        """As Postfix's long ones: letters and digits, never twice."""
        self.queued += 1
        return f"4jX{self.queued:08X}z"

    def pid(self) -> int:
        """One of the processes that run."""
        return 1_000 + self.chance.randrange(400)


def _store_hop(w: World, qid: str, sender: str, user: str, size: int, took: float) -> Lines:
    inner, p = w.queue_id(), w.pid()
    session = f"{w.chance.getrandbits(64):x}"
    hop = f"store.{_HOUSE}[10.77.3.10]:24"
    return [
        ("gateway", f"mail.info postfix/tlsproxy[{p}]", "CONNECT to [10.77.3.10]:24"),
        ("gateway", f"mail.info postfix/tlsproxy[{p}]", f"Verified TLS connection established to {hop}: {_MUTUAL}"),
        ("store", f"mail.info postfix/delivery/smtpd[{p}]", "connect from unknown[10.77.1.10]"),
        ("store", f"mail.info postfix/delivery/smtpd[{p}]", f"Trusted TLS connection established from unknown[10.77.1.10]: {_MUTUAL}"),
        ("store", f"mail.info postfix/delivery/smtpd[{p}]", f"{inner}: client=unknown[10.77.1.10]"),
        ("store", f"mail.info postfix/inward/cleanup[{p}]", f"{inner}: message-id=<{session}@{sender.partition('@')[2]}>"),
        ("store", "mail.info postfix/qmgr[530]", f"{inner}: from=<{sender}>, size={size + 700}, nrcpt=1 (queue active)"),
        ("store", f"mail.info postfix/delivery/smtpd[{p}]", "disconnect from unknown[10.77.1.10] ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7"),
        ("gateway", f"mail.info postfix/store/smtp[{p}]", f"{qid}: to=<{user}>, relay={hop}, delay={took:.2g}, delays=0.09/0.03/0.07/0.03, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {inner})"),
        ("gateway", "mail.info postfix/qmgr[1690]", f"{qid}: removed"),
        ("store", "mail.info dovecot", f"lmtp({user})<{p}><{session}>: sieve: msgid=<{session}@x>: stored mail into mailbox '{'Junk' if size % 20 == 0 else 'INBOX'}'"),
        ("store", f"mail.info postfix/lmtp[{p}]", f"{inner}: to=<{user}>, relay=store.{_HOUSE}[private/dovecot-lmtp], delay={took / 2:.2g}, delays=0.01/0.02/0.08/0.09, dsn=2.0.0, status=sent (250 2.0.0 <{user}> {session} Saved)"),
        ("store", "mail.info postfix/qmgr[530]", f"{inner}: removed"),
    ]  # fmt: skip


def _packet(w: World, what: str, ways: str, ends: str, ports: str) -> tuple[str, str, str]:
    return (
        "firewall", "local2.notice ulogd[59]",
        f"mastio {what}: {ways} MAC=02:6d:69:ca:7d:14:02:5b:97:7d:9c:6a:08:00 {ends} LEN=44 TOS=00 PREC=0x00 TTL=44 "
        f"ID={w.pid()} PROTO=TCP {ports} SEQ=607306729 ACK=0 WINDOW=1024 SYN URGP=0 MARK=0x0 ",
    )  # fmt: skip


def _let_in(w: World, source: str, port: int) -> tuple[str, str, str]:
    ends = f"SRC={source} DST=10.77.1.10"
    return _packet(w, "accept", "IN=internet OUT=mail", ends, f"SPT={port} DPT=25")


def _opening(w: World, source: str, p: int) -> Lines:
    name = f"mx.d{w.chance.randrange(1_700)}.example.net"
    port = w.chance.randrange(20_000, 60_000)
    found: Lines = [
        _let_in(w, source, port),
        ("gateway", "mail.info postfix/postscreen[1701]", f"CONNECT from [{source}]:{port} to [10.77.1.10]:25"),
        ("gateway", "mail.info postfix/postscreen[1701]", f"PASS OLD [{source}]:{port}"),
        ("gateway", f"mail.info postfix/smtpd[{p}]", f"connect from {name}[{source}]"),
    ]  # fmt: skip
    if port % 10:
        found.append(("gateway", f"mail.info postfix/smtpd[{p}]", f"Anonymous TLS connection established from {name}[{source}]: {_TLS}"))  # fmt: skip
    return found


def _scan(w: World, qid: str, source: str, sender: str, user: str, verdict: str, score: float) -> tuple[str, str, str]:  # fmt: skip
    task = f"{w.chance.getrandbits(24):06x}"
    return (
        "gateway", "mail.debug rspamd[1638]",
        f"<{task}>; proxy; rspamd_task_write_log: id: <{task}@d.example.net>, qid: <{qid}>, ip: {source}, from: <{sender}>, "
        f"(default: {verdict}: [{score:.2f}/15.00] [DMARC_POLICY_ALLOW(-0.50){{example.net;reject;}},R_SPF_ALLOW(-0.20){{+ip4:{source};}},"
        "MIME_GOOD(-0.10){text/plain;},ONCE_RECEIVED(0.10){},ARC_NA(0.00){},FROM_EQ_ENVFROM(0.00){},RCPT_COUNT_ONE(0.00){1;},"
        f"TO_DN_NONE(0.00){{}}]), len: 4309, time: {w.chance.uniform(8, 300):.3f}ms, dns req: 8, digest: <{task}0d00>, "
        f"rcpts: <{user}>, mime_rcpts: <{user}>",
    )  # fmt: skip


def delivered(w: World) -> Lines:
    """A message that is taken, cleaned and put into a mailbox."""
    p, qid, source = w.pid(), w.queue_id(), w.often(w.sources)
    sender, user, size = (
        w.often(w.senders),
        w.often(w.users),
        int(w.chance.lognormvariate(9.5, 1.2)) + 400,
    )
    name = f"mx.{sender.partition('@')[2]}[{source}]"
    return [
        *_opening(w, source, p),
        ("gateway", f"mail.info postfix/smtpd[{p}]", f"{qid}: client={name}"),
        ("gateway", f"mail.info postfix/cleanup[{p}]", f"{qid}: message-id=<{w.queued:x}.{p}@{sender.partition('@')[2]}>"),
        _scan(w, qid, source, sender, user, "F (no action)", -0.7),
        ("gateway", "mail.info postfix/qmgr[1690]", f"{qid}: from=<{sender}>, size={size}, nrcpt=1 (queue active)"),
        ("gateway", f"mail.info postfix/smtpd[{p}]", f"disconnect from {name} ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7"),
        *_store_hop(w, qid, sender, user, size, w.chance.lognormvariate(-1.4, 0.9)),
    ]  # fmt: skip


def judged(w: World) -> Lines:
    """A message that the filter greylists or refuses."""
    p, qid, source, sender, user = (
        w.pid(),
        w.queue_id(),
        w.often(w.sources),
        w.often(w.senders),
        w.often(w.users),
    )
    verdict, answer = w.chance.choice((
        ("F (soft reject)", "4.7.1 Try again later: greylisted for 300 s"),
        ("F (soft reject)", "4.7.1 Try again later: greylisted for 300 s"),
        ("T (reject)", "5.7.1 Message refused: spam or malware"),
        ("T (reject)", "5.7.1 Message refused: it contains malware"),
        ("F (reject)", "5.7.1 Message refused: it has a file of type .js"),
    ))  # fmt: skip
    name = f"mx.{sender.partition('@')[2]}[{source}]"
    return [
        *_opening(w, source, p),
        ("gateway", f"mail.info postfix/smtpd[{p}]", f"{qid}: client={name}"),
        ("gateway", f"mail.info postfix/cleanup[{p}]", f"{qid}: message-id=<{w.queued:x}.{p}@x>"),
        _scan(w, qid, source, sender, user, verdict, 9.1),
        ("gateway", f"mail.info postfix/cleanup[{p}]", f"{qid}: milter-reject: END-OF-MESSAGE from {name}: {answer}; from=<{sender}> to=<{user}> proto=ESMTP helo=<mx.example.net>"),
        ("gateway", f"mail.info postfix/cleanup[{p}]", f"{qid}: removed (canceled)"),
        ("gateway", f"mail.info postfix/smtpd[{p}]", f"disconnect from {name} ehlo=1 mail=1 rcpt=1 data=0/1 quit=1 commands=4/5"),
    ]  # fmt: skip


def refused(w: World) -> Lines:
    """Recipients that do not exist, relaying, senders without a domain, block lists."""
    p, source, sender, user = w.pid(), w.often(w.sources), w.often(w.senders), w.often(w.users)
    answer = w.chance.choice((
        f"550 5.1.1 <x{user}>: Recipient address rejected: User unknown",
        f"550 5.1.1 <x{user}>: Recipient address rejected: User unknown",
        "554 5.7.1 <t@outside.example>: Relay access denied",
        f"450 4.1.8 <{sender}>: Sender address rejected: Domain not found",
        f"554 5.7.1 Service unavailable; Client host [{source}] blocked using zen.spamhaus.org",
    ))  # fmt: skip
    name = f"unknown[{source}]"
    return [
        *_opening(w, source, p),
        ("gateway", f"mail.info postfix/smtpd[{p}]", f"NOQUEUE: reject: RCPT from {name}: {answer}; from=<{sender}> to=<x{user}> proto=ESMTP helo=<mx.example.net>"),
        ("gateway", f"mail.info postfix/smtpd[{p}]", f"disconnect from {name} ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"),
    ]  # fmt: skip


def knocked(w: World) -> Lines:
    """What never gets past postscreen."""
    source, port = w.often(w.sources), w.chance.randrange(20_000, 60_000)
    return [
        _let_in(w, source, port),
        ("gateway", "mail.info postfix/postscreen[1701]", f"CONNECT from [{source}]:{port} to [10.77.1.10]:25"),
        ("gateway", "mail.info postfix/postscreen[1701]", f"PREGREET 11 after 0.1 from [{source}]:{port}: EHLO User\\r\\n"),
        ("gateway", "mail.info postfix/postscreen[1701]", f"HANGUP after 0.5 from [{source}]:{port} in tests after SMTP handshake"),
        ("gateway", "mail.info postfix/postscreen[1701]", f"DISCONNECT [{source}]:{port}"),
    ]  # fmt: skip


def sent(w: World) -> Lines:
    """A user's message to the internet: sent, bounced, or put off first."""
    p, first, qid, user, to = (
        w.pid(),
        w.queue_id(),
        w.queue_id(),
        w.often(w.users),
        w.often(w.senders),
    )
    size = int(w.chance.lognormvariate(9.5, 1.2)) + 400
    domain = to.partition("@")[2]
    target = w.often(w.sources)
    mx = f"mx.{domain}[{target}]"
    relay = f"gateway.{_HOUSE}[10.77.1.10]:587"
    tries: Lines = []
    outcome = w.chance.random()
    if outcome < 0.1:
        tries = [
            ("gateway", f"mail.info postfix/smtp[{p}]", f"{qid}: to=<{to}>, relay=none, delay=30, delays=0.1/0/30/0, dsn=4.4.1, status=deferred (connect to {mx}:25: Connection timed out)"),
            ("gateway", "mail.info postfix/qmgr[1690]", f"{qid}: from=<{user}>, size={size + 500}, nrcpt=1 (queue active)"),
        ]  # fmt: skip
    status = (
        "bounced (host said: 550 5.1.1 no such user)" if outcome > 0.97 else "sent (250 2.0.0 Ok)"
    )
    return [
        ("store", f"mail.info postfix/submissions/smtpd[{p}]", "connect from unknown[10.77.2.10]"),
        ("store", f"mail.info postfix/submissions/smtpd[{p}]", f"{first}: client=unknown[10.77.2.10], sasl_method=PLAIN, sasl_username={user}"),
        ("store", f"mail.info postfix/outward/cleanup[{p}]", f"{first}: message-id=<{w.queued:x}@{_HOUSE}>"),
        ("store", "mail.info postfix/qmgr[530]", f"{first}: from=<{user}>, size={size}, nrcpt=1 (queue active)"),
        ("gateway", f"mail.info postfix/relay/smtpd[{p}]", f"Trusted TLS connection established from store.{_HOUSE}[10.77.3.10]: {_MUTUAL}"),
        ("gateway", f"mail.info postfix/relay/smtpd[{p}]", f"{qid}: client=store.{_HOUSE}[10.77.3.10]"),
        ("gateway", f"mail.info postfix/cleanup[{p}]", f"{qid}: message-id=<{w.queued:x}@{_HOUSE}>"),
        ("gateway", "mail.info postfix/qmgr[1690]", f"{qid}: from=<{user}>, size={size + 500}, nrcpt=1 (queue active)"),
        ("store", f"mail.info postfix/smtp[{p}]", f"{first}: to=<{to}>, relay={relay}, delay=0.22, delays=0.1/0.02/0.07/0.02, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {qid})"),
        ("store", "mail.info postfix/qmgr[530]", f"{first}: removed"),
        *tries,
        _packet(w, "accept", "IN=mail OUT=internet", f"SRC=10.77.1.10 DST={target}", f"SPT={w.chance.randrange(32_768, 61_000)} DPT=25"),
        ("gateway", f"mail.info postfix/smtp[{p}]", f"Verified TLS connection established to {mx}:25: {_TLS}"),
        ("gateway", f"mail.info postfix/smtp[{p}]", f"{qid}: to=<{to}>, relay={mx}:25, delay={w.chance.lognormvariate(0, 1):.2g}, delays=0.02/0.04/0.07/0.01, dsn=2.0.0, status={status}"),
        ("gateway", "mail.info postfix/qmgr[1690]", f"{qid}: removed"),
    ]  # fmt: skip


def read(w: World) -> Lines:
    """Somebody reads mail, or guesses at a password."""
    user, p, session, source = (
        w.often(w.users),
        w.pid(),
        f"{w.chance.getrandbits(64):x}",
        w.often(w.sources),
    )
    if w.chance.random() < 0.15:
        return [
            ("webmail", "mail.info roundcube", f"Failed login for {user} from {source} in session {session} (error: 0)"),
            ("store", "mail.info dovecot", f"imap-login: Login aborted: Logged out (auth failed, 1 attempts in 3 secs) (auth_failed): user=<{user}>, method=PLAIN, rip={WEBMAIL}, lip=10.77.3.10, TLS, session=<{session}>"),
        ]  # fmt: skip
    return [
        ("webmail", "mail.info roundcube", f"Successful login for {user} (ID: {p}) from {source} in session {session}"),
        ("webmail", "local7.info nginx", f'{source} "POST /?_task=mail HTTP/2.0" 200 4389 0.127s "Mozilla/5.0"'),
        ("store", "mail.info dovecot", f"imap-login: Logged in: user=<{user}>, method=PLAIN, rip={WEBMAIL}, lip=10.77.3.10, mpid={p}, TLS, session=<{session}>"),
        ("store", "mail.info dovecot", f"imap({user})<{p}><{session}>: Disconnected: Logged out in=108 out=23381 deleted=0 expunged=0 trashed=0 hdr_count=0 hdr_bytes=0 body_count=13 body_bytes=22028"),
    ]  # fmt: skip


def stopped(w: World) -> Lines:
    """A packet that the firewall stops."""
    source, port = (
        w.often(w.sources),
        w.chance.choice((22, 23, 445, 3389, 8080, w.chance.randrange(65_536))),
    )
    return [
        _packet(w, "input", "IN=internet OUT=", f"SRC={source} DST=203.0.113.1", f"SPT=35133 DPT={port}"),
    ]  # fmt: skip


def service(w: World) -> Lines:
    """systemd at work."""
    number = w.pid()
    return [
        ("gateway", "daemon.info systemd[1]", "Starting mastio-recipients.service - Recipients..."),
        ("gateway", "daemon.info systemd[1]", f"mastio-recipients.service: Consumed {number}ms CPU time."),
        ("gateway", "daemon.info systemd[1]", "Finished mastio-recipients.service - Recipients."),
    ]  # fmt: skip


EVENTS: tuple[tuple[Callable[[World], Lines], int], ...] = (
    (delivered, 30), (judged, 10), (refused, 16), (knocked, 14), (sent, 5), (read, 10), (stopped, 12),
    (service, 3),
)  # fmt: skip
"""What happens, and how often beside the others."""


def write(folder: Path, number: int, seed: int) -> int:
    """Writes at least `number` lines: `FOLDER/ours/<machine>/<day>.log` and `FOLDER/mail.log`; how many."""
    world = World(random.Random(seed))
    events = [event for event, often in EVENTS for _ in range(often)]
    done = 0
    with ExitStack() as open_files:
        ours: dict[str, BinaryIO] = {}
        for machine in ("firewall", "gateway", "store", "webmail"):
            path = folder / "ours" / machine / f"{DAY}.log"
            path.parent.mkdir(parents=True)
            ours[machine] = open_files.enter_context(path.open("wb", buffering=1 << 20))
        classic = open_files.enter_context((folder / "mail.log").open("wb", buffering=1 << 20))
        while done < number:
            now = 86_399.9 * done / number
            clock = f"{int(now) // 3600:02}:{int(now) // 60 % 60:02}:{int(now) % 60:02}"
            micro = f"{int(now * 1e6) % 1_000_000:06}"
            when, short = f"{DAY}T{clock}.{micro}+00:00", f"{_CLASSIC} {clock}"
            for machine, tag, text in world.chance.choice(events)(world):
                ours[machine].write(f"{when} {machine} {when} {tag}: {text}\n".encode())
                classic.write(f"{short} {machine} {tag.partition(' ')[2]}: {text}\n".encode())
                done += 1
    return done
