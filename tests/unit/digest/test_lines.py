"""What lines count for: each kind as its daemon writes it, and nothing that raises."""

import json
from datetime import datetime

import pytest

from mastio.digest.lines import Reader
from mastio.digest.memory import Memory
from mastio.digest.summary import Novelty
from mastio.digest.tally import Tally
from tests.unit.digest.lines import DAY, DELIVERED, INNER, MX, QID, line, packet, read, refusal


def test_a_message_on_its_whole_way() -> None:
    found = read(*DELIVERED)
    expected = {
        "mail.in": 1, "bytes.in": 876, "sent.store/smtp": 1, "sent bytes.store/smtp": 876, "mail.stored": 1,
        "sent.lmtp": 1, "sent bytes.lmtp": 1623, "mailbox.Junk": 1, "filter.no action": 1, "sessions.mail": 1,
        "sessions.tls": 1, "postfix.received.smtpd": 1, "lines.gateway": 9, "lines.store": 5,
    }  # fmt: skip
    assert expected.items() <= found.counts.items()
    assert found.count("reading.unreadable") == 0 and not found.news
    assert found.top("senders") == [("carol@outside.test", 1)]
    assert found.top("to.lmtp") == [("alice@fortress.test", 1)]
    assert found.top("sources") == [("203.0.113.100", 1)]
    assert found.top("TLS in") == [("TLSv1.3", 1)]
    assert found.time("store/smtp").number == 1
    assert found.time("store/smtp").worst == pytest.approx(0.21)
    assert found.time("filter in ms").worst == pytest.approx(482.81)


def test_users_mail_on_its_way_out() -> None:
    gateway = "gateway.demo.internal[10.77.1.10]:587"
    tls = "Verified TLS connection established to {}: TLSv1.3 with cipher X"
    sent = "{}: to=<carol@outside.test>, relay={}, delay={}, delays=0/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 Ok)"
    found = read(
        line("store", "postfix/submissions/smtpd[4]", f"{QID}: client=unknown[10.77.2.10], sasl_method=PLAIN, sasl_username=alice@fortress.test"),
        line("store", "postfix/qmgr[3]", f"{QID}: from=<alice@fortress.test>, size=700, nrcpt=1 (queue active)"),
        line("store", "postfix/smtp[3]", tls.format(gateway)),
        line("store", "postfix/smtp[3]", sent.format(QID, gateway, "0.22")),
        line("gateway", "postfix/relay/smtpd[4]", f"{INNER}: client=store.demo.internal[10.77.3.10]"),
        line("gateway", "postfix/qmgr[3]", f"{INNER}: from=<alice@fortress.test>, size=900, nrcpt=1 (queue active)"),
        line("gateway", "postfix/smtp[3]", tls.format(f"{MX}:25")),
        line("gateway", "postfix/smtp[3]", sent.format(INNER, f"{MX}:25", "1.5")),
        line("gateway", "postfix/smtp[3]", f"{INNER}: to=<x@y>, relay=none, delay=3, delays=0/0/0/0, dsn=4.4.1, status=deferred (connect to {MX}:25: Connection timed out)"),
    )  # fmt: skip
    assert (
        found.counts.items()
        >= {
            "mail.submitted": 1,
            "mail.out": 1,
            "bytes.out": 900,
            "sent.smtp": 2,
            "deferred.smtp": 1,
        }.items()
    )
    assert found.top("users") == [("alice@fortress.test", 1)]
    assert found.top("TLS out") == [("TLSv1.3", 1)] and found.top("TLS proofs") == [("verified", 1)]
    assert (found.time("hand over").worst, found.time("smtp").worst) == (0.22, 1.5)
    assert found.top("not delivered")[0][0].startswith("deferred: connect to mx.outside.test")


def test_a_server_that_is_away_is_one_reason_whatever_its_address() -> None:
    away = "{}: to=<{}@y>, relay=none, delay=3, delays=0/0/0/0, dsn=4.4.1, status=deferred ({})"
    found = read(
        line("gateway", "postfix/smtp[3]", away.format("4bX1", "a", "connect to mx.y[192.0.2.1]:25: Connection timed out")),
        line("gateway", "postfix/smtp[3]", away.format("4bX2", "b", "connect to mx.y[2001:db8::1]:25: Connection timed out")),
        line("gateway", "postfix/smtp[3]", away.format("4bX3", "c", "host mx.y[192.0.2.1] said: 450 <c@y> mailbox busy")),
    )  # fmt: skip
    assert found.top("not delivered") == [
        ("deferred: connect to mx.y:25: Connection timed out", 2),
        ("deferred: host mx.y said: 450 mailbox busy", 1),
    ]


def test_a_second_try_is_no_second_message() -> None:
    active = line("gateway", "postfix/qmgr[3]", f"{QID}: from=<carol@outside.test>, size=876, nrcpt=1 (queue active)")  # fmt: skip
    found = read(DELIVERED[2], active, active)
    assert (found.count("mail.in"), found.count("bytes.in")) == (1, 876)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("554 5.7.1 <t@outside.test>: Relay access denied", "relaying"),
        ("550 5.1.1 <x@fortress.test>: Recipient address rejected: User unknown", "no such user"),
        ("450 4.1.8 <c@o.test>: Sender address rejected: Domain not found", "sender's domain does not exist"),
        ("554 5.7.1 Service unavailable; Client host [203.0.113.100] blocked using zen.spamhaus.org", "block list"),
        ("451 4.7.1 Service unavailable - try again later", "scanner away, to come again"),
        ("452 4.3.1 Insufficient system storage", "mailbox or disk full"),
        ("550 5.7.1 never heard", "another reason"),
    ],
)  # fmt: skip
def test_refusals_have_an_administrators_words(answer: str, why: str) -> None:
    found = read(refusal(answer))
    assert found.below("refused.in") == {why: 1}
    assert found.top("refused sources") == [("203.0.113.100", 1)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("4.7.1 Try again later: greylisted for 300 s", "greylisted, to come again"),
        ("4.7.1 Try again later: the virus scanner is not ready", "scanner away, to come again"),
        ("4.7.1 Try again later: the greylist is not ready", "scanner away, to come again"),
        ("4.7.1 Try again later: what users taught the filter is not ready", "scanner away, to come again"),
        ("5.7.1 Message refused: it contains malware", "virus"),
        ("5.7.1 Message refused: spam or malware", "spam"),
        ("5.7.1 Gtube pattern", "spam"),
        ("5.7.1 Message refused: it has a file of type .js", "dangerous attachment"),
        ("5.7.1 Message refused: it claims to be from x.test, and nothing proves that", "forged sender"),
    ],
)  # fmt: skip
def test_what_the_filter_refuses(answer: str, why: str) -> None:
    found = read(DELIVERED[2], refusal(answer, "END-OF-MESSAGE", QID, "milter-reject"))
    assert found.below("refused.in") == {why: 1}
    assert found.count("postfix.rejected.cleanup") == 1


def test_greylisted_then_delivered() -> None:
    first = refusal("4.7.1 Try again later: greylisted for 300 s", "END-OF-MESSAGE", QID, "milter-reject", "21:00:00")  # fmt: skip
    found = read(first, *DELIVERED)
    assert found.count("greylisted then delivered") == 1
    assert found.time("greylisted").worst == 306


def test_log_ins_and_where_users_come_from() -> None:
    memory = Memory()
    good = "Successful login for alice@fortress.test (ID: 1) from {} in session 4039c33f8f14352a"
    bad = "Failed login for x from 203.0.113.100 in session a (error: 0) from 198.51.100.7 in session 9e0c (error: 0)"
    found = read(
        line("webmail", "roundcube", good.format("203.0.113.100")),
        line("webmail", "roundcube", good.format("203.0.113.101")),
        line("webmail", "roundcube", bad),
        line("store", "postfix/submissions/smtpd[4]", "warning: unknown[10.77.2.10]: SASL PLAIN authentication failed: (reason unavailable), sasl_username=alice@fortress.test", level="mail.warning"),
        line("watch", "sshd-session[5]", "Connection closed by authenticating user root 198.51.100.9 port 4711 [preauth]", level="auth.info"),
        memory=memory,
    )  # fmt: skip
    assert found.below("login.failed") == {"ssh": 1, "submission": 1, "webmail": 1}
    assert found.count("login.good.webmail") == 2
    assert found.top("login sources") == [("198.51.100.7", 1), ("198.51.100.9", 1)], (
        "what was typed decides nothing"
    )
    assert set(found.news["networks"]) == {"alice@fortress.test from 203.0.113.0/24"}
    again = read(
        line("webmail", "roundcube", good.format("203.0.113.7")),
        line("webmail", "roundcube", good.format("2001:db8:7::1")), memory=memory,
    )  # fmt: skip
    assert set(again.news["networks"]) == {"alice@fortress.test from 2001:db8:7::/48"}


def test_what_the_firewall_stops() -> None:
    memory = Memory()
    inside = packet("core", "mail", "10.77.3.10", "10.77.1.10", 4444)
    outside = packet("internet", "", "203.0.113.66", "203.0.113.1", 23, "input")
    found = read(inside, outside, outside, memory=memory)
    assert found.counts.items() >= {"dropped": 3, "dropped inside": 1}.items()
    assert found.top("drops") == [("internet > firewall", 2), ("core > mail", 1)]
    assert found.top("drop ports") == [("tcp/23", 2)]
    assert set(found.news["flows"]) == {"core > mail tcp/4444"}, "strangers knock at any port"
    assert not read(inside, memory=memory).news


def test_what_the_firewall_lets_in_is_counted_and_news_once() -> None:
    memory = Memory({"begun_since": "2026-11-23T21"})
    strangers = [
        packet("internet", "mail", f"203.0.113.{it}", "10.77.1.10", 25, "accept")
        for it in range(60, 70)
    ]
    # In the first day everything would be, and on the day of the update that brought it.
    for young in (Memory(), Memory({"begun_since": "2026-11-23T22"})):
        assert not read(*strangers, memory=young).news
        assert young.plain()["begun"] == {"firewall": {"": ["internet > mail tcp/25"]}}
    leaves = packet("mail", "internet", "10.77.1.10", "203.0.113.60", 25, "accept")
    own = packet("internet", "", "203.0.113.60", "203.0.113.1", 22, "accept")
    found = read(*strangers, leaves, memory=memory)
    assert found.count("accepted") == 11 and not found.count("dropped")
    assert found.top("accepted") == [
        ("internet > mail tcp/25", 10),
        ("mail > internet tcp/25", 1),
    ]
    assert set(found.news["begun"]) == {"internet > mail tcp/25", "mail > internet tcp/25"}
    assert set(read(*strangers, own, memory=memory).news["begun"]) == {"internet > firewall tcp/22"}
    assert not read(*strangers, own, memory=Memory(memory.plain())).news
    broken = line("firewall", "ulogd[59]", "mastio accept: IN=internet")
    assert read(broken).count("reading.unreadable") == 1


def test_what_watch_itself_scans_is_counted_and_no_news() -> None:
    memory = Memory()
    scan = [packet("core", "mail", "10.77.3.10", "10.77.1.10", it) for it in range(1000, 1050)]
    at = datetime.fromisoformat(f"{DAY}T21:05:06+00:00").timestamp()
    memory.scans = ((at - 100, at - 50), (at - 1, at + 1))
    found = read(*scan, memory=memory)
    assert found.counts.items() >= {"dropped inside": 50, "scanned": 50}.items()
    assert not found.news and not found.top("drops inside")
    memory.scans = ((at - 100, at - 50),)
    found = read(scan[0], memory=memory)
    assert found.top("drops inside") == [("10.77.3.10 > 10.77.1.10 tcp/1000", 1)]
    assert set(found.news["flows"]) == {"core > mail tcp/1000"} and not found.count("scanned")


def test_a_strangers_scan_does_not_hide_what_comes_after_it() -> None:
    memory = Memory()
    scan = [packet("core", "mail", "10.77.3.10", "10.77.1.10", it) for it in range(1000, 1050)]
    assert len(read(*scan, memory=memory).news["flows"]) == 50
    memory = Memory(json.loads(json.dumps(memory.plain())))
    later = packet("core", "mail", "10.77.3.10", "10.77.1.10", 4444)
    assert set(read(later, memory=memory).news["flows"]) == {"core > mail tcp/4444"}
    assert not read(later, scan[-1], memory=memory).news


def test_bans_viruses_services_and_the_quarantine() -> None:
    found = read(
        line("watch", "mastio-offences[7]", "banned 203.0.113.66/32 for 14 seconds: webmail log-ins", level="daemon.info"),
        line("gateway", "clamd[9]", "instream(local): Eicar-Test-Signature.UNOFFICIAL(b08d01f74d47e02781f6a33fbbab58e6:740) FOUND"),
        line("gateway", "systemd[1]", "rspamd.service: Failed with result 'timeout'.", level="daemon.warning"),
        line("store", "mastio-quarantine[7]", "held: 4jYw-d8 from <carol@outside.test> to <alice@fortress.test>"),
        line("gateway", "postfix/cleanup[3]", f"{QID}: milter-header-hold: header X-Mastio-Held: a document with macros from store.demo.internal[10.77.3.10]; from=<a@b> to=<c@d> proto=ESMTP helo=<x>"),
        line("gateway", "mastio-held[8]", f"held: {QID} from <a@b> to <c@d>: a document with macros"),
        line("store", "postfix/submissions/smtpd[4]", f"{QID}: hold: END-OF-MESSAGE from unknown[10.77.2.10]: <END-OF-MESSAGE>: beyond; from=<a@b> to=<c@d> proto=ESMTP helo=<x> sasl_method=PLAIN sasl_username=a@b"),
        line("gateway", "kernel", "write failed: No space left on device", level="kern.err"),
    )  # fmt: skip
    assert found.top("bans") == [("203.0.113.66/32", 1)]
    assert found.top("viruses") == [("Eicar-Test-Signature.UNOFFICIAL", 1)]
    assert found.top("failed services") == [("gateway: rspamd.service (timeout)", 1)]
    assert found.top("errors") == [("gateway kernel", 1)]
    assert found.count("leaving.held") == 1 and set(found.news["shapes"]) == {
        "kernel: write failed: No space left on device"
    }
    assert found.count("quarantine.held") == 1 and found.top("held") == [("a@b", 1)]
    assert found.below("trouble") == {"a service failed": 1, "disk full": 1}


def test_what_hung_and_was_restarted() -> None:
    def said(text: str, level: str = "warning") -> bytes:
        return line("gateway", "mastio-pulse[7]", text, level=f"daemon.{level}")

    found = read(
        said("clamav-daemon.service has not answered for 3 minutes: restarted"),
        said("clamav-daemon.service answers again", "notice"),
        said("rspamd.service does not answer, though it was restarted"),
    )
    assert found.top("failed services") == [
        ("gateway: clamav-daemon.service (hung)", 1), ("gateway: rspamd.service (hangs)", 1),
    ]  # fmt: skip
    assert found.below("trouble") == {"a service hung": 1, "a service hangs": 1}
    assert not found.news
    assert read(said("something else")).count("reading.mined") == 1


def test_a_machine_that_hands_over_too_much_is_trouble_and_a_stranger_is_not() -> None:
    def warning(program: str, who: str, port: int) -> bytes:
        text = f"warning: Message delivery request rate limit exceeded: 7 from {who} for service {port}"
        return line("gateway", f"{program}[3]", text, level="mail.warning")

    store = "store.demo.internal[10.77.3.10]"
    found = read(
        *[warning("postfix/relay/smtpd", store, 587)] * 3, warning("postfix/smtpd", MX, 25)
    )
    assert found.below("trouble") == {"a machine sends too much": 3}
    assert found.top("trouble") == [("gateway: too much to send from store.demo.internal", 3)]


def test_what_users_scripts_send_is_known_and_comes_from_nowhere_new() -> None:
    end = "from=<c@d> to=<e@f> proto=ESMTP helo=<sieve> sasl_method=XCLIENT sasl_username=a@b"
    found = read(
        line("store", "postfix/sieve/smtpd[4]", "connect from localhost[127.0.0.1]"),
        line("store", "postfix/sieve/smtpd[4]", f"{QID}: client=localhost[127.0.0.1], sasl_method=XCLIENT, sasl_username=a@b"),
        line("store", "postfix/sieve/smtpd[4]", f"{QID}: hold: END-OF-MESSAGE from localhost[127.0.0.1]: <END-OF-MESSAGE>: beyond; {end}"),
        line("store", "postfix/sieve/smtpd[4]", f"{INNER}: reject: RCPT from localhost[127.0.0.1]: 451 4.3.5 <e@f>: Recipient address rejected: Server configuration problem; {end}"),
        line("store", "postfix/sieve/smtpd[4]", "disconnect from localhost[127.0.0.1] ehlo=2 xclient=0/1 mail=1 rcpt=1 data=1 quit=1 commands=6/7"),
    )  # fmt: skip
    assert found.count("postfix.received.sieve/smtpd") == 1
    assert found.top("users") == [("a@b", 1)] and found.top("held") == [("a@b", 1)]
    assert not found.news.get("networks") and not found.news.get("shapes")


def test_a_line_of_a_new_shape_is_news_once() -> None:
    memory = Memory()
    first = read(
        line("store", "gizmo[3]", "frobnicated 17 sprockets of alice@fortress.test"), memory=memory
    )
    ((what, met),) = first.news["shapes"].items()
    assert what == "gizmo: frobnicated * sprockets of *"
    assert met == Novelty("store frobnicated 17 sprockets of alice@fortress.test\n".strip(), 1, f"{DAY}T21:05:06.123456+00:00")  # fmt: skip
    again = line("store", "gizmo[99]", "frobnicated 18 sprockets of bob@fortress.test")
    assert not read(again, memory=memory).news
    other = line("store", "gizmo[99]", "cannot frobnicate: out of grease")
    assert len(read(other, memory=memory).news["shapes"]) == 1
    reborn = Memory(memory.plain())
    assert not read(again, other, memory=reborn).news


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n", b"nonsense\n", b"\x00\xff\xfe\n", b" " * 300 + b"\n", b"2026-11-24T21:05:06 gateway\n",
        DELIVERED[5][:80] + b"\n", DELIVERED[7][:150] + b"\n", DELIVERED[4][:130] + b"\n",
        line("gateway", "postfix/qmgr[3]", f"{QID}: from=<a>, size=many, nrcpt=1 (queue active)"),
        line("gateway", "postfix/smtp[3]", f"{QID}: to=<"), line("gateway", "postfix/smtpd[3]", ""),
        line("gateway", "ulogd[3]", "mastio input: IN="), line("gateway", "rspamd[3]", "<1>; proxy; rspamd_task_write_log: "),
        line("gateway", "postfix/store/smtp[3]", f"{QID}: to=<a>, relay=x, delay=soon, delays=1, status=sent (ok)"),
    ],
)  # fmt: skip
def test_garbage_is_counted_and_hurts_nobody(garbage: bytes) -> None:
    tallies: dict[str, Tally] = {}
    reader = Reader("gateway", Memory(), tallies)
    reader.feed([garbage, DELIVERED[0], garbage])
    assert sum(it.frozen().count("lines.gateway") for it in tallies.values()) == 3


def test_times_of_another_length_are_read_as_well() -> None:
    odd = DELIVERED[2].replace(b"21:05:06.123456", b"21:05:06")
    longer = b"2026-11-24T21:05:06.123456+00:00 gateway 2026-11-24T21:05:06+00:00 mail.info postfix/smtpd[7]: " + f"{QID}: client={MX}\n".encode()  # fmt: skip
    assert read(odd, longer).count("postfix.received.smtpd") == 2


def test_a_queue_id_is_no_word() -> None:
    memory = Memory()
    found = read(
        line("gateway", "postfix/smtpd[7]", "warning: TLS library problem: error:0A000102", level="mail.warning"),
        line("gateway", "postfix/smtpd[7]", f"{QID}: too many errors after RCPT from {MX}"), memory=memory,
    )  # fmt: skip
    assert set(found.news["shapes"]) == {
        "postfix/smtpd: warning: TLS library problem: error:*", "postfix/smtpd: QUEUE-ID: too many errors after RCPT from mx.outside.test*",
    }  # fmt: skip
    again = line("gateway", "postfix/smtpd[9]", f"{INNER}: too many errors after RCPT from {MX}")
    assert not read(again, memory=memory).news


def test_a_day_in_hours() -> None:
    tallies: dict[str, Tally] = {}
    reader = Reader("gateway", Memory(), tallies)
    reader.feed([refusal("Relay access denied", clock=it) for it in ("08:59:59", "09:00:00")])
    assert {hour: it.frozen().count("refused.in.relaying") for hour, it in tallies.items()} == {
        f"{DAY}T08": 1, f"{DAY}T09": 1,
    }  # fmt: skip
