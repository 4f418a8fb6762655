"""What the digest takes from each program's lines, a kind each; as the programs write them."""

import json
from ipaddress import ip_address, ip_network

import pytest

from mastio.digest import losses
from mastio.digest.memory import Memory
from mastio.digest.origins import Origins
from mastio.digest.summary import Summary
from mastio.reports.read import IDENT, figures
from tests.unit.digest.lines import INNER, MX, QID, line, read
from tests.unit.digest.test_losses import LINE, MISSED

STRANGER = "203.0.113.66"


def at_home() -> Memory:
    """A memory that knows the webmail's addresses and where devices stand."""
    memory = Memory()
    own = (ip_address("10.77.2.10"), ip_address("fd16:5dce:8032:2::a"))
    memory.origins = Origins(own, (ip_network("fd16:5dce:8032:c8::/64"),))
    return memory


def logged_in(user: str, address: str, door: str = "imap-login") -> bytes:
    """As the store's Dovecot says it."""
    tail = f"method=PLAIN, rip={address}, lip=fd16:5dce:8032:3::a, mpid=5, TLS, session=<a>"
    return line("store", "dovecot", f"{door}: Logged in: user=<{user}>, {tail}")


def submitted(user: str, address: str, door: str) -> bytes:
    """As the store's Postfix says it."""
    text = f"{QID}: client=unknown[{address}], sasl_method=PLAIN, sasl_username={user}"
    return line("store", f"postfix/{door}/smtpd[9]", text)


def proxied(user: str, address: str, what: str, typed: str = "") -> bytes:
    """As the gateway's Dovecot says it."""
    tail = f"method=PLAIN, rip={address}, lip=fd16:5dce:8032:1::a, TLS, session=<a>"
    text = (
        f"submission-login: proxy({user},127.0.0.1:10465): {what}: user=<{typed or user}>, {tail}"
    )
    return line("gateway", "dovecot", text)


STARTED = "Started proxying to remote host (0.345 secs)"


@pytest.mark.parametrize(
    ("came", "news"),
    [
        (logged_in("a@x.test", "203.0.113.7"), "a@x.test from 203.0.113.0/24"),
        (logged_in("a@x.test", "2001:db8:7::7"), "a@x.test from 2001:db8:7::/48"),
        (submitted("a@x.test", "203.0.113.7", "programs"), "a@x.test from 203.0.113.0/24"),
        (logged_in("a@x.test", "fd16:5dce:8032:c8::2"), "a@x.test from device fd16:5dce:8032:c8::2"),
        # Who only tries whether a password is right, by SMTP.
        (proxied("a@x.test", "203.0.113.7", STARTED), "a@x.test from 203.0.113.0/24"),
        (proxied("a@x.test", "203.0.113.7", "Disconnected by server (0s idle, in=5, out=342+24)"), None),
        # What somebody types is no log-in.
        (proxied(f"b,x): {STARTED}", "203.0.113.7", "Disconnected by client", "a@x.test"), None),
        (proxied("b", "203.0.113.7", STARTED, "a@x.test"), None),
        # The webmail at the store, by each of its doors; the store at itself; what is no address.
        (logged_in("a@x.test", "fd16:5dce:8032:2::a"), None),
        (logged_in("a@x.test", "fd16:5dce:8032:2::a", "managesieve-login"), None),
        (submitted("a@x.test", "fd16:5dce:8032:2::a", "submissions"), None),
        (logged_in("a@x.test", "10.77.2.10"), None),
        (logged_in("a@x.test", "127.0.0.1"), None),
        (logged_in("a@x.test", ""), None),
        # Another machine of the site is none that logs in for others.
        (logged_in("a@x.test", "10.77.1.10"), "a@x.test from 10.77.1.0/24"),
    ],
)  # fmt: skip
def test_a_user_from_a_new_network_is_news_by_whatever_door(came: bytes, news: str | None) -> None:
    memory = at_home()
    assert set(read(came, memory=memory).news.get("networks", ())) == ({news} if news else set())
    assert not read(came, memory=memory).news, "the second time it is none"


def test_a_name_that_is_typed_counts_for_nothing_but_a_failure() -> None:
    typed = "x: Logged in: user=<a@x.test>, rip=203.0.113.9,"
    found = read(line("store", "dovecot", "imap-login: Login aborted: Logged out (auth failed, 1 attempts in 3 secs) "
                      f"(auth_failed): user=<{typed}>, method=PLAIN, rip=203.0.113.7, lip=10.77.3.10, TLS, session=<a>"))  # fmt: skip
    assert found.below("login") == {"failed.mailbox": 1} and not found.news


def test_what_is_sent_from_the_webmail_is_no_news() -> None:
    """With many recipients it has as many shapes."""
    text = "User a@x.test [203.0.113.100]; Message <a@x.test> for b@y.test, c@y.test; 250: 2.0.0 Ok: queued as 4jcbFs57X7zGpdb"
    assert not read(line("webmail", "roundcube", text)).news


def test_one_network_is_news_once_whichever_door_is_first() -> None:
    webmail = "Successful login for a@x.test (ID: 1) from 203.0.113.100 in session 4039c33f8f14352a"
    doors = (
        logged_in("a@x.test", "203.0.113.7"),
        submitted("a@x.test", "203.0.113.8", "programs"),
        line("webmail", "roundcube", webmail),
    )
    for first, *others in (doors, doors[::-1]):
        memory = at_home()
        assert set(read(first, memory=memory).news["networks"]) == {"a@x.test from 203.0.113.0/24"}
        assert not read(*others, memory=memory).news


def test_what_mail_programs_send_is_submitted() -> None:
    sent = line(
        "store", "postfix/qmgr[3]", f"{QID}: from=<a@x.test>, size=9, nrcpt=1 (queue active)"
    )
    found = read(submitted("a@x.test", "203.0.113.7", "programs"), sent)
    assert found.count("mail.submitted") == 1 and found.top("users") == [("a@x.test", 1)]


def test_who_gets_into_a_mailbox_and_who_does_not() -> None:
    tail = "method=PLAIN, rip=10.77.2.10, lip=10.77.3.10, TLS, session=<a>"
    found = read(
        line("store", "dovecot", f"imap-login: Logged in: user=<alice@fortress.test>, mpid=7, {tail}"),
        line("store", "dovecot", "imap-login: Login aborted: Logged out (auth failed, 1 attempts in 3 secs) (auth_failed): "
             f"user=<bob@fortress.test>, {tail}"),
        line("store", "dovecot", f"imap-login: Login aborted: Connection closed (no auth attempts in 0 secs): {tail}"),
        line("store", "dovecot", "imap(alice@fortress.test)<7><a>: Disconnected: Logged out in=108 out=23381"),
        line("watch", "sshd-session[9]", "Accepted publickey for root from 198.51.100.7 port 4711 ssh2: ED25519 SHA256:x", level="auth.info"),
        memory=at_home(),
    )  # fmt: skip
    assert found.below("login.good") == {"mailbox": 1, "ssh": 1}
    assert found.below("login.failed") == {"mailbox": 1}
    assert found.top("login users") == [("bob@fortress.test", 1)]
    assert set(found.news) == {"networks"}
    assert set(found.news["networks"]) == {"ssh root from 198.51.100.0/24"}


def test_a_mailbox_that_is_full_and_one_that_nearly_is() -> None:
    full = f"lmtp(alice@fortress.test)<5><M>: Error: sieve: msgid=<{QID}>: failed to store into mailbox 'INBOX': Quota exceeded (mailbox for user is full)"
    found = read(
        line("store", "dovecot", full),
        line("store", "mastio-quota", "bob@fortress.test has passed 90 % of its quota"),
    )
    assert found.top("over quota") == [("alice@fortress.test", 1)]
    assert found.count("trouble.quota") == 1
    assert found.top("nearly full") == [("bob@fortress.test", 1)]


def test_a_redirect_that_is_not_sent_again_is_no_news() -> None:
    words = "bob@fortress.test: passed on already: b'<1@outside.test>'"
    assert read(line("store", "mastio-sieve-send", words)).news == {}
    assert read(line("store", "mastio-anything", words)).news


def report(**more: object) -> Summary:
    """What a report of others comes to, as the store's reader tells it (`reports.read.figures`)."""
    found = {"org": "outside.test", "verified": True, "domain": "fortress.test", **more}
    return read(line("store", IDENT, json.dumps(figures(found))))


def test_what_others_report_of_our_mail() -> None:
    found = report(kind="dmarc", rows=[
        {"dkim": "pass", "spf": "fail", "count": 40, "source": "203.0.113.1"},
        {"dkim": "fail", "spf": "fail", "count": 3, "source": "2001:db8::66"},
    ])  # fmt: skip
    assert found.below("reports") == {"dmarc": 1}
    assert found.below("dmarc") == {"messages": 43, "passed": 40}
    assert found.top("dmarc sources") == [("2001:db8::66", 3)]
    assert found.top("reporters") == [("outside.test", 1)]
    failures = [{"type": "certificate-expired", "count": 2}]
    found = report(
        kind="tls", verified=False, policies=[{"ok": 97, "failed": 3, "failures": failures}]
    )
    assert found.below("reports") == {"tls": 1, "unverified": 1}
    assert found.below("tls reports") == {"sessions": 100, "failed": 3}
    assert found.top("tls failures") == [("certificate-expired", 2)]
    assert report(kind="unreadable").below("reports") == {"unreadable": 1}
    forged = read(line("store", IDENT, '{"kind": []}'), line("store", IDENT, "[7]"))
    assert forged.counts["reading.unreadable"] == 1 and forged.below("reports") == {"unreadable": 1}


def test_the_web() -> None:
    found = read(
        line("webmail", "nginx", f'{STRANGER} "POST /?_task=mail HTTP/2.0" 200 4389 0.127s "Mozilla/5.0"'),
        line("webmail", "nginx", f'{STRANGER} "GET / HTTP/2.0" 502 157 0.1s "-"'),
        line("webmail", "nginx", "signal process started"),
    )  # fmt: skip
    assert found.count("web") == 2 and found.count("web.failed") == 1
    assert set(found.news["shapes"]) == {"nginx: signal process started"}


def test_what_postscreen_turns_away() -> None:
    screen = "postfix/postscreen[7]"
    found = read(
        line("gateway", screen, f"CONNECT from [{STRANGER}]:4711 to [10.77.1.10]:25"),
        line("gateway", screen, f"PREGREET 11 after 0.1 from [{STRANGER}]:4711: EHLO x\\r\\n"),
        line("gateway", screen, f"DNSBL rank 3 for [{STRANGER}]:4711"),
        line("gateway", screen, f"NOQUEUE: reject: RCPT from [{STRANGER}]:4711: 550 5.7.1 Service unavailable; client [{STRANGER}] "
             "blocked using zen.example; from=<a@b.test>, to=<alice@fortress.test>, proto=ESMTP, helo=<x>"),
        line("gateway", screen, f"DISCONNECT [{STRANGER}]:4711"),
    )  # fmt: skip
    assert found.below("refused.in") == {"block list": 1, "protocol": 1}
    assert found.count("postscreen.on block lists") == 1
    assert found.top("refused sources") == [(STRANGER, 2)]
    assert found.top("block lists") == [("zen.example", 1)]


def test_guesses_at_the_mail_port_what_postfix_gives_up_and_what_comes_back() -> None:
    found = read(
        line("gateway", "postfix/smtpd[7]", f"warning: unknown[{STRANGER}]: SASL LOGIN authentication failed: (reason unavailable)", level="mail.warning"),
        line("gateway", "postfix/smtpd[7]", "fatal: open database /etc/x.lmdb: No such file", level="mail.crit"),
        line("gateway", "postfix/qmgr[3]", f"{QID}: from=<alice@fortress.test>, status=expired, returned to sender"),
        line("gateway", "postfix/bounce[3]", f"{QID}: sender non-delivery notification: {INNER}"),
        line("gateway", "postfix/pickup[3]", f"{INNER}: uid=0 from=<root>"),
        line("gateway", "postfix/qmgr[3]", f"{INNER}: from=<root@gateway>, size=400, nrcpt=1 (queue active)"),
        line("gateway", "postfix/smtp[3]", f"{QID}: host {MX} said: 421 4.7.0 later (in reply to MAIL FROM command)"),
    )  # fmt: skip
    assert found.below("login.failed") == {"SMTP": 1}
    assert found.top("login sources") == [(STRANGER, 1)]
    assert found.below("trouble") == {"Postfix gave up": 1}
    assert found.count("expired") == 1 and found.count("notices") == 1
    assert found.count("mail.local") == 1


def lost(*numbers: int, queue: str = "", memory: Memory | None = None) -> Summary:
    texts = (
        LINE.format(it).replace("to-watch", queue) if queue else LINE.format(it) for it in numbers
    )
    lines = (line("store", losses.COUNTERS, it, level="syslog.warning") for it in texts)
    return read(*lines, memory=memory)


def test_a_queue_that_lost_lines_once_is_told_once_and_with_their_number() -> None:
    """It says so each minute from then on, until it starts anew."""
    memory = Memory()
    first = lost(37, 37, 37, memory=memory)
    words = "store: log lines thrown away, the queue was full (to-watch)"
    assert first.below("trouble") == {"logs lost": 37} and first.top("trouble") == [(words, 37)]
    assert not first.news
    reborn = Memory(json.loads(json.dumps(memory.plain())))
    assert not lost(37, memory=reborn).below("trouble")
    assert lost(40, memory=reborn).below("trouble") == {"logs lost": 3}
    assert lost(5, memory=reborn).below("trouble") == {"logs lost": 5}, "a new start"


def test_what_journald_could_not_hand_on_counts_each_time() -> None:
    texts = (MISSED, MISSED, "Something new.")
    summary = read(*(line("store", losses.MISSED, it, level="daemon.info") for it in texts))
    words = "store: log lines thrown away, the queue was full (journald to rsyslog)"
    assert summary.below("trouble") == {"logs lost": 2 * 1272}
    assert summary.top("trouble") == [(words, 2 * 1272)]


def test_forged_queues_do_not_fill_the_memory() -> None:
    memory = Memory()
    for number in range(2 * losses.QUEUES):
        lost(1, queue=f"q{number}", memory=memory)
    assert len(memory.lost["store"]) == losses.QUEUES


@pytest.mark.parametrize("text", ["", "x", "main Q: origin=core.queue discarded.full=many"])
def test_a_counter_that_makes_no_sense_is_passed_over(text: str) -> None:
    assert not read(line("store", losses.COUNTERS, text)).below("trouble")
