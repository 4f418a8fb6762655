"""What users call spam and ham reaches the gateways' filters, whatever is away meanwhile."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mastio import services
from mastio.context import PKI
from mastio.lab import internet, outside
from mastio.roles.gateway.files import CONTROLLER, VALKEY
from mastio.roles.store import learning
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import at_last, eventually
from tests.lab.sabotage import RSPAMD, on, valkey_ends
from tests.lab.test_filter import send
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

ENOUGH = 205
"""A few more than min_learns (classifier-bayes.conf)."""
LOANS = "Take a loan: refinance your mortgage, forget your debt."
"""One topic: suspicious from a stranger, not yet Junk."""


@pytest.fixture(scope="module", autouse=True)
def forgotten(lab: Lab) -> Iterator[None]:
    """What these tests teach is no matter of others: the filter begins anew afterwards."""
    yield
    for machine in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT):
        on(lab, machine.name, RSPAMD)


def move(host: str, port: int, pki: str, user: str, password: str, word: str, source: str,
         target: str) -> list[Any]:  # fmt: skip
    """Moves the messages whose subject has `word`, as a mail program does (RFC 6851); how many, in how long."""
    import imaplib
    import ssl
    import time

    imaplib.Commands["MOVE"] = ("SELECTED",)
    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    with imaplib.IMAP4_SSL(host, port, ssl_context=context) as client:
        client.login(user, password)
        client.select(source)
        numbers = client.uid("SEARCH", "SUBJECT", word)[1][0].split()
        began = time.monotonic()
        if numbers:
            code, words = client.uid("MOVE", b",".join(numbers).decode(), target)
            assert code == "OK", words
        return [len(numbers), time.monotonic() - began]


def lessons(program: str, verdict: str, start: int, count: int, head: str, text: str) -> int:
    """`count` messages as if users had judged them, by the program that Dovecot starts."""
    import subprocess

    for number in range(start, start + count):
        content = f"{head}Message-ID: <{number}.{verdict}@lesson.test>\n\n{text}\n{number}\n"
        command = [program, "take", verdict, "teacher"]
        subprocess.run(command, input=content.encode(), check=True, user="vmail", group="vmail")
    return count


def moved(lab: Lab, user: tuple[str, str], word: str, source: str, target: str) -> float:
    """A user moves a message; how many seconds the mail program waits."""
    store = the_store(lab)
    count, seconds = mail.remote(
        lab, mail.the(lab, Role.WEBMAIL).name, move, host=lab.site.internal_name(store),
        port=services.IMAPS.port, pki=PKI, user=user[0], password=user[1], word=word,
        source=source, target=target,
    )  # fmt: skip
    assert count == 1
    return float(seconds)


def the_store(lab: Lab) -> str:
    return mail.the(lab, Role.STORE).name


def the_gateway(lab: Lab) -> str:
    return mail.the(lab, Role.GATEWAY_IN).name


def learned(lab: Lab) -> dict[str, int]:
    """How many messages of each kind the filter has learned.

    Rspamd counts them in Valkey; what `rspamc stat` says of it may be half a minute old (lua_bayes_redis.lua).
    """
    ask = ["valkey-cli", "-s", VALKEY, "HMGET", "RS", "learns_spam", "learns_ham"]
    done = lab.run(the_gateway(lab), ask)
    assert done.code == 0, done.stderr.decode()
    spam, ham = (int(it or 0) for it in done.stdout.splitlines())
    return {"BAYES_SPAM": spam, "BAYES_HAM": ham}


def soon(lab: Lab, symbol: str, least: int, patience: float = 200) -> int:
    """The count of a kind, as soon as it is `least`."""
    return at_last(lambda: learned(lab)[symbol], lambda it: it >= least, patience)


def waiting(lab: Lab) -> list[str]:
    """What waits for the gateways."""
    done = lab.run(the_store(lab), ["find", learning.SPOOL, "-type", "f", "-printf", "%f\n"])
    return done.stdout.decode().split()


def all_taken(lab: Lab) -> bool:
    """Whether nothing waits any more, soon: a lesson is put away once the gateway has said that it is learned."""
    return at_last(lambda: not waiting(lab))


def prose(word: str) -> str:
    """Enough words that no other message has for Bayes to judge by."""
    return " ".join(f"{word}{chr(97 + it // 5)}{chr(97 + it % 5)}" for it in range(25))


def arrive(lab: Lab, user: tuple[str, str], word: str) -> None:
    mail.from_carol(lab, message(CAROL, user[0], word, prose(word)))
    assert mail.inbox(lab, *user, word), "the message did not arrive"


def test_moving_into_junk_teaches_spam_and_moving_back_teaches_ham(
    lab: Lab, alice: tuple[str, str]
) -> None:
    word = token()
    arrive(lab, alice, word)
    before = learned(lab)
    moved(lab, alice, word, "INBOX", "Junk")
    assert soon(lab, "BAYES_SPAM", before["BAYES_SPAM"] + 1) == before["BAYES_SPAM"] + 1
    moved(lab, alice, word, "Junk", "INBOX")
    assert soon(lab, "BAYES_HAM", before["BAYES_HAM"] + 1) == before["BAYES_HAM"] + 1
    assert learned(lab)["BAYES_SPAM"] == before["BAYES_SPAM"], "it is no longer learned as spam"
    assert all_taken(lab)


def test_throwing_junk_away_teaches_nothing_and_neither_does_filing_at_delivery(
    lab: Lab, alice: tuple[str, str]
) -> None:
    word, other = token(), token()
    # First: the filter may learn by itself from what passes it.
    arrive(lab, alice, other)
    before = learned(lab)
    junk = message(CAROL, alice[0], word, prose(word))
    junk["X-Spam"] = "Yes"
    mail.hand_in(lab, junk)
    assert mail.inbox(lab, *alice, word, folder="Junk"), "the mark did not file it in Junk"
    moved(lab, alice, word, "Junk", "Trash")
    moved(lab, alice, other, "INBOX", "Archive")
    time.sleep(3)
    assert learned(lab) == before
    assert not waiting(lab)


def test_lessons_wait_while_the_gateway_is_away_and_the_last_verdict_counts(
    lab: Lab, alice: tuple[str, str]
) -> None:
    spam, undecided = token(), token()
    for word in (spam, undecided):
        arrive(lab, alice, word)
    before, friend = learned(lab), f"{token()}@{outside.PLAIN}"
    unit = "mastio-learn-tls.service"
    assert lab.run(the_gateway(lab), ["systemctl", "stop", unit]).code == 0
    try:
        waited = moved(lab, alice, spam, "INBOX", "Junk")
        waited += moved(lab, alice, undecided, "INBOX", "Junk")
        waited += moved(lab, alice, undecided, "Junk", "INBOX")
        started = time.monotonic()
        assert mail.submit(lab, *alice, message(alice[0], friend, token()))[0] == 250
        waited += time.monotonic() - started
        assert waited < 20, "the user had to wait for the gateway"
        time.sleep(3)
        assert sorted(name.partition(".")[2] for name in waiting(lab)) == ["ham", "spam"]
        assert learned(lab) == before
    finally:
        assert lab.run(the_gateway(lab), ["systemctl", "start", unit]).code == 0
    spams = soon(lab, "BAYES_SPAM", before["BAYES_SPAM"] + 1)
    assert spams == before["BAYES_SPAM"] + 1
    assert soon(lab, "BAYES_HAM", before["BAYES_HAM"] + 1) == before["BAYES_HAM"] + 1
    assert all_taken(lab)
    mail.await_known(lab, friend)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/learnspam", 200), ("/wrote", 400), ("/stat", 403), ("/saveactions", 403), ("/ping", 403)],
)
def test_the_store_can_teach_the_filter_and_nothing_else(lab: Lab, path: str, code: int) -> None:
    word = token()
    reply = mail.remote(
        lab, the_store(lab), ask, host=lab.site.internal_name(the_gateway(lab)),
        port=services.LEARN.port, pki=PKI, path=path,
        content=message(CAROL, CAROL, word, prose(word)).as_string(),
    )  # fmt: skip
    assert reply == code


def ask(host: str, port: int, pki: str, path: str, content: str) -> int:
    """Knocks at the filter's door with the machine's own certificate; the code, 0 for none."""
    import http.client
    import ssl

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    context.load_cert_chain(f"{pki}/host.pem", f"{pki}/host.key")
    door = http.client.HTTPSConnection(host, port, timeout=60, context=context)
    try:
        door.request("POST", path, content.encode())
        return door.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


def test_a_machine_of_the_site_that_is_not_the_store_is_shut_out(lab: Lab) -> None:
    # Loopback is open on every machine: only the certificate is wrong.
    gateway = the_gateway(lab)
    host = lab.site.internal_name(gateway)
    arguments: dict[str, Any] = {"host": host, "port": services.LEARN.port, "pki": PKI}
    assert mail.remote(lab, gateway, ask, path="/learnspam", content="x", **arguments) == 0


def test_what_was_learned_is_recognised(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    head = f"From: {word}@spam.test\nTo: {alice[0]}\nSubject: {word} offer\n"
    plain = message(CAROL, alice[0], "Lunch").as_string().partition("\n\n")[0]
    kind = "\n".join(line for line in plain.splitlines() if not line.startswith("Message-ID"))
    before = learned(lab)
    for verdict, symbol, lines, text in (
        ("spam", "BAYES_SPAM", head, prose(word)),
        ("ham", "BAYES_HAM", f"{kind}\n", f"Good day, {prose(token())}"),
    ):
        missing = max(ENOUGH - before[symbol], 20)
        mail.remote(
            lab, the_store(lab), lessons, program=f"{learning.PROGRAMS}/learn", verdict=verdict,
            start=int(time.time() * 1000), count=missing, head=lines, text=text,
        )  # fmt: skip
    for symbol in ("BAYES_SPAM", "BAYES_HAM"):
        assert soon(lab, symbol, max(ENOUGH, before[symbol] + 20), patience=300) >= ENOUGH
    assert all_taken(lab)
    taught = learned(lab)
    for how in ("restart", "kill"):
        time.sleep(2)  # longer than Valkey waits before it writes
        valkey_ends(lab, the_gateway(lab), how)
        assert learned(lab) == taught, how
    similar = f"{head}Message-ID: <{token()}@spam.test>\n\n{prose(word)} Buy now\n"
    assert "BAYES_SPAM" in symbols(lab, similar)
    assert "BAYES_SPAM" not in symbols(lab, message(CAROL, alice[0], "Lunch").as_string())


def test_who_is_a_stranger_once_the_filter_knows_what_users_get(
    lab: Lab, alice: tuple[str, str]
) -> None:
    """Needs the lessons of the test before."""
    address = next(it for it in internet.stranger(lab.site) if it.version == 4)

    def scanned(sender: str, text: str, ip: object) -> set[str]:
        options = ("--ip", str(ip), "--from", sender, "--rcpt", alice[0])
        return set(symbols(lab, message(sender, alice[0], token(), text).as_string(), *options))

    new = f"{token()}@{outside.PLAIN}"
    assert "STRANGER" in scanned(new, prose(token()), address)
    assert "STRANGER" not in scanned(CAROL, prose(token()), internet.mta(lab.site)[0]), "proven"
    known = f"{token()}@{outside.PLAIN}"
    assert mail.submit(lab, *alice, message(alice[0], known, token()))[0] == 250
    mail.await_known(lab, known)
    assert "STRANGER" not in scanned(known, prose(token()), address), "a user has written to them"
    # Well made, it has no more than the two points, and has to come again all the same.
    letter = message(new, alice[0], token(), prose(token()))
    for hop in ("one", "two"):
        letter["Received"] = f"from {hop}.test by mx.{outside.PLAIN}; {letter['Date']}"
    code, text = send(lab, letter, new, alice[0])
    assert code == 451 and "greylisted" in text, text


def teach(lab: Lab, verdict: str, count: int, head: str, text: str) -> None:
    """So many lessons of a kind, until the filter has them."""
    symbol = f"BAYES_{verdict.upper()}"
    before = learned(lab)[symbol]
    mail.remote(
        lab, the_store(lab), lessons, program=f"{learning.PROGRAMS}/learn", verdict=verdict,
        start=int(time.time() * 1000), count=count, head=head, text=text,
    )  # fmt: skip
    assert soon(lab, symbol, before + count, patience=300) >= before + count


def test_whom_users_call_a_spammer_has_no_history_until_they_say_otherwise(
    lab: Lab, alice: tuple[str, str]
) -> None:
    """Needs the lessons above."""
    ham, sender = prose(token()), f"{token()}@{outside.PLAIN}"
    teach(lab, "ham", 20, f"From: {token()}@lesson.test\nSubject: {token()}\n", ham)
    assert send(lab, message(sender, alice[0], token(), ham), sender, alice[0])[0] == 250
    address = next(it for it in internet.stranger(lab.site) if it.version == 4)

    def is_stranger() -> bool:
        options = ("--ip", str(address), "--from", sender, "--rcpt", alice[0])
        letter = message(sender, alice[0], token(), prose(token()))
        return "STRANGER" in symbols(lab, letter.as_string(), *options)

    eventually(lambda: not is_stranger(), "clean mail gives no history")
    for verdict, stranger in (("spam", True), ("ham", False)):
        teach(lab, verdict, 1, f"From: {sender}\nSubject: {token()}\n", prose(token()))
        assert is_stranger() is stranger


def test_a_second_try_is_judged_by_what_was_learned_since(lab: Lab, alice: tuple[str, str]) -> None:
    """Needs the lessons above."""
    spam, other = token(), token()
    # A sender each: who came again is let in, whatever the message.
    letters = [
        message(f"{token()}@{outside.PLAIN}", alice[0], it, f"{LOANS}\n{prose(it)}")
        for it in (spam, other)
    ]
    gateways = {it.name for it in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT)}
    with tuned(lab, "[policy]\ngreylist_delay = 4\n", *gateways):
        for letter in letters:
            code, text = send(lab, letter, str(letter["From"]), alice[0])
            assert code == 451 and "greylisted" in text, text
        before = learned(lab)["BAYES_SPAM"]
        head = "".join(
            f"{key}: {value}\n" for key, value in letters[0].items() if key != "Message-ID"
        )
        mail.remote(
            lab, the_store(lab), lessons, program=f"{learning.PROGRAMS}/learn", verdict="spam",
            start=int(time.time() * 1000), count=20, head=head, text=prose(spam),
        )  # fmt: skip
        assert soon(lab, "BAYES_SPAM", before + 20, patience=300) >= before + 20
        time.sleep(4)  # the delay, should all that have been quicker
        again = [send(lab, it, str(it["From"]), alice[0])[0] for it in letters]
        assert again == [250, 250]
        # A verdict takes back what coming again has earned, not what it earns afterwards.
        teach(lab, "spam", 1, f"From: {letters[1]['From']}\nSubject: {token()}\n", prose(token()))
        assert send(lab, letters[1], str(letters[1]["From"]), alice[0])[0] == 451
        texts = [message(str(it["From"]), alice[0], token(), LOANS) for it in letters]
        codes = [send(lab, it, str(it["From"]), alice[0])[0] for it in texts]
        assert codes == [250, 451]
    assert mail.inbox(lab, *alice, spam, folder="Junk")
    assert mail.inbox(lab, *alice, other)


def symbols(lab: Lab, content: str, *options: str) -> dict[str, Any]:
    """What Rspamd says of a message that it has not learned."""
    command = ["rspamc", "-h", CONTROLLER, "-j", *options, "symbols"]
    done = lab.run(the_gateway(lab), command, content.encode())
    assert done.code == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)["symbols"]
    return found
