"""Lines as the lab's daemons wrote them, and a reader for a few of them."""

from mastio.digest.lines import Reader
from mastio.digest.memory import Memory
from mastio.digest.summary import Summary, merged
from mastio.digest.tally import Tally

DAY = "2026-11-24"


def line(
    machine: str, tag: str, text: str, clock: str = "21:05:06", level: str = "mail.info"
) -> bytes:
    """A line as watch keeps it."""
    when = f"{DAY}T{clock}.123456+00:00"
    return f"{when} {machine} {when} {level} {tag}: {text}\n".encode()


def read(*lines: bytes, memory: Memory | None = None) -> Summary:
    """What lines say, read in order by the machine that each names."""
    memory, hours = memory or Memory(), dict[str, Tally]()
    readers: dict[str, Reader] = {}
    for one in lines:
        parts = one.split(b" ", 2)
        machine = parts[1].decode("ascii", "replace") if len(parts) > 2 else "gateway"
        if machine not in readers:
            readers[machine] = Reader(machine, memory, hours)
        readers[machine].feed(one.split(b"\n")[:-1])
    return merged(it.frozen() for it in hours.values())


QID, INNER = "4jYw8n1KYyzGpf8", "4jYw8n2q0jzGppW"
MX = "mx.outside.test[203.0.113.100]"
CLIENT = f"{MX}:43489"
"""The same, as the gateway's smtpd names a client."""
STORE = "store.demo.internal[10.77.3.10]:24"
DELIVERED = (
    line("gateway", "postfix/smtpd[7]", f"connect from {CLIENT}"),
    line("gateway", "postfix/smtpd[7]", f"Anonymous TLS connection established from {CLIENT}: TLSv1.3 with cipher X (256/256 bits)"),
    line("gateway", "postfix/smtpd[7]", f"{QID}: client={CLIENT}"),
    line("gateway", "postfix/cleanup[8]", f"{QID}: message-id=<a52d485801fef33e@outside.test>"),
    line("gateway", "rspamd[9]", f"<df07a4>; proxy; rspamd_task_write_log: id: <a52@outside.test>, qid: <{QID}>, ip: 203.0.113.100, "
         "from: <carol@outside.test>, (default: F (no action): [-0.70/15.00] [MIME_GOOD(-0.10){text/plain;}]), len: 308, "
         "time: 482.810ms, dns req: 8, digest: <3a>, rcpts: <alice@fortress.test>", level="mail.debug"),
    line("gateway", "postfix/qmgr[3]", f"{QID}: from=<carol@outside.test>, size=876, nrcpt=1 (queue active)"),
    line("gateway", "postfix/smtpd[7]", f"disconnect from {CLIENT} ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7"),
    line("gateway", "postfix/store/smtp[5]", f"{QID}: to=<alice@fortress.test>, relay={STORE}, delay=0.21, delays=0.09/0.03/0.07/0.03, "
         f"dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {INNER})"),
    line("gateway", "postfix/qmgr[3]", f"{QID}: removed"),
    line("store", "postfix/delivery/smtpd[4]", f"{INNER}: client=unknown[10.77.1.10]"),
    line("store", "postfix/qmgr[3]", f"{INNER}: from=<carol@outside.test>, size=1623, nrcpt=1 (queue active)"),
    line("store", "dovecot", "lmtp(alice@fortress.test)<5><M>: sieve: msgid=<a52>: fileinto action: stored mail into mailbox 'Junk'"),
    line("store", "postfix/lmtp[4]", f"{INNER}: to=<alice@fortress.test>, relay=store.demo.internal[private/dovecot-lmtp], conn_use=2, delay=0.33, "
         "delays=0/0.2/0.05/0.08, dsn=2.0.0, status=sent (250 2.0.0 <alice@fortress.test> nrm Saved)"),
    line("store", "postfix/qmgr[3]", f"{INNER}: removed"),
)  # fmt: skip
"""A message on its whole way."""


def refusal(answer: str, stage: str = "RCPT", qid: str = "NOQUEUE", verb: str = "reject", clock: str = "21:05:06") -> bytes:  # fmt: skip
    """A refusal at the gateway."""
    program = "cleanup" if stage == "END-OF-MESSAGE" else "smtpd"
    text = f"{qid}: {verb}: {stage} from {CLIENT}: {answer}; from=<carol@outside.test> to=<alice@fortress.test> proto=ESMTP helo=<x>"
    return line("gateway", f"postfix/{program}[8]", text, clock)


def packet(
    came: str, went: str, source: str, target: str, port: int, chain: str = "forward"
) -> bytes:
    """A packet that the firewall stopped."""
    return line(
        "firewall", "ulogd[59]", level="local2.notice",
        text=f"mastio {chain}: IN={came} OUT={went} MAC=02:11 SRC={source} DST={target} LEN=44 TOS=00 PREC=0x00 TTL=63 ID=0 DF "
        f"PROTO=TCP SPT=49816 DPT={port} SEQ=3105993911 ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x0 ",
    )  # fmt: skip
