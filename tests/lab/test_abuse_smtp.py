"""What strangers try on port 25: relaying, probing, smuggling, spoofing. Every refusal is for good (5xx).

Each table has a control that must succeed, so that a site which refuses everything does not pass.
"""

import inspect
import json
import re
import time
from collections.abc import Iterable, Iterator
from email.message import Message
from itertools import product
from typing import Any

import pytest

from mastio import services
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import abuse, mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import PATIENCE
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

HEARD = "/run/sink"
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", autouse=True)
def patient(lab: Lab) -> Iterator[None]:
    """Who tries all of this is banned after the first ten; here we want to hear the refusals."""
    networks = ", ".join(f'"{it}"' for it in internet.networks(lab.site))
    with tuned(lab, f"[bans]\nnever = [{networks}]\n"):
        yield


def address(lab: Lab, version: int = 4) -> str:
    return str(next(it for it in lab.site.public if it.version == version))


# --- relaying


def _tries(lab: Lab, version: int) -> list[list[str]]:
    own, host = lab.site.domains[0], lab.site.mx_host
    literal = f"[{'IPv6:' if version == 6 else ''}{address(lab, version)}]"
    far = outside.DOMAIN
    senders = (
        "<>", CAROL, f"a@{token()}.{far}", f"a@{host}", f"a@{literal}", next(iter(lab.accounts)),
        "a@localhost", "a", f"postmaster@{host}",
    )  # fmt: skip
    forms = ["t@X", '"t@X"', '"t%X"', "X!t"]
    for place in (host, literal, own):
        forms += [
            f"t%X@{place}", f"t@X@{place}", f'"t@X"@{place}', f"@{place}:t@X", f"X!t@{place}"
        ]  # fmt: skip
    targets = [form.replace("X", far) for form in forms]
    return [
        [sender if sender == "<>" else f"<{sender}>", recipient]
        for sender, target in product(senders, targets)
        for recipient in (f"<{target}>", target)
    ]


@FAMILIES
def test_nobody_relays_in_any_form(lab: Lab, version: int) -> None:
    sources = [str(it) for it in internet.outside(lab.site) if it.version == version]
    tries = _tries(lab, version)
    replies = mail.remote(
        lab, outside.MACHINE, abuse.relaying, address=address(lab, version), port=services.SMTP.port,
        sources=sources, name=outside.MX,
        tries=[[f"<{CAROL}>", f"<{next(iter(lab.accounts))}>"], *tries],
    )  # fmt: skip
    control, *forms = replies
    assert control[2] == 250, control
    assert len(forms) == len(tries) > 300
    assert not [it for it in forms if not 500 <= it[2] < 600]


def test_no_machine_of_ours_relays_either(lab: Lab) -> None:
    """From each machine to whatever of SMTP it can reach, without the certificate or password that may."""
    everywhere = [it for machine in lab.site.machines for it in machine.addresses]
    doors = [
        [str(it), service.port, service is services.SUBMISSIONS]
        for it in dict.fromkeys((*everywhere, *lab.site.public))
        for service in (services.SMTP, services.RELAY, services.SUBMISSIONS, services.DELIVERY)
    ]
    alice = next(iter(lab.accounts))

    def said(machine: str, to: str) -> list[Any]:
        return list(mail.remote(
            lab, machine, abuse.at_doors, doors=doors, name=f"{machine}.{outside.DOMAIN}",
            tries=[[f"<{sender}>", f"<{to}>"] for sender in ("", CAROL, alice)],
        ))  # fmt: skip

    found = [(it.name, *reply) for it in lab.site.machines for reply in said(it.name, CAROL)]
    reached = {(machine, port) for machine, _, port, *_ in found}
    gateway, store, webmail = (
        mail.the(lab, it).name for it in (Role.GATEWAY_IN, Role.STORE, Role.WEBMAIL)
    )
    assert {(gateway, services.SMTP.port), (gateway, services.DELIVERY.port)} <= reached
    assert {(store, services.RELAY.port), (webmail, services.SUBMISSIONS.port)} <= reached
    assert not [it for it in found if 200 <= it[-2] < 300]
    # The control: what the same doors take, they are seen to take.
    assert 250 in [code for *_, code, _ in said(outside.MACHINE, alice)]


# --- probing


def test_probing_for_recipients_is_cut_off(lab: Lab) -> None:
    probes = [f"RCPT TO:<{token()}@{lab.site.domains[0]}>" for _ in range(12)]
    with pytest.raises(AssertionError, match="SMTPServerDisconnected"):
        mail.talk(lab, (f"MAIL FROM:<{CAROL}>", *probes, "NOOP"))
    replies = mail.talk(lab, (f"MAIL FROM:<{CAROL}>", *probes[:2]))
    assert [code for code, _ in replies] == [250, 550, 550]
    assert not [text for _, text in replies if "table" in text]


NAMES = ("{mx}", "{domain}", "{mx}.", "{domain}.", "[{ipv4}]", "[IPv6:{ipv6}]", "{domain};spf=pass")


@pytest.mark.parametrize("name", NAMES)
def test_nobody_else_has_our_name(lab: Lab, alice: tuple[str, str], name: str) -> None:
    own = name.format(
        mx=lab.site.mx_host, domain=lab.site.domains[0],
        ipv4=address(lab), ipv6=address(lab, 6),
    )  # fmt: skip
    assert _as(lab, own, alice[0])[-1][0] == (501 if ";" in own else 550)
    assert _as(lab, outside.MX, alice[0])[-1][0] == 250


def _as(lab: Lab, name: str, to: str) -> list[Any]:
    replies: list[Any] = mail.remote(
        lab, outside.MACHINE, mail.dialogue, address=address(lab), port=services.SMTP.port,
        source=str(internet.mta(lab.site)[0]), name=name,
        commands=[f"MAIL FROM:<{CAROL}>", f"RCPT TO:<{to}>"], content="", padding=0,
    )  # fmt: skip
    return replies


# --- smuggling


def converse(lab: Lab, steps: list[list[str]], tls: bool = False) -> str:
    said: str = mail.remote(
        lab, outside.MACHINE, abuse.segments, address=address(lab), port=services.SMTP.port,
        source=str(internet.mta(lab.site)[0]), steps=steps, tls=tls,
    )  # fmt: skip
    return said


ENDS = (
    "\n.\n", "\n.\r", "\r.\n", "\r.\r", "\n.\r\n", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n",
    "\r\n.\0\r\n", "\r\n.\r\r\n", "\r\r\n.\r\r\n",
)  # fmt: skip


def _smuggled(to: str, end: str) -> list[list[str]]:
    envelope = f"MAIL FROM:<{CAROL}>\r\nRCPT TO:<{to}>\r\nDATA\r\n"
    one, two = (message(CAROL, to, token()).as_string().replace("\n", "\r\n") for _ in "12")
    return [
        ["220 ", f"EHLO {outside.MX}\r\n"],
        ["250 ", envelope],
        ["354 ", f"{one.rstrip()}{end}{envelope}{two}\r\n.\r\nQUIT\r\n"],
    ]


@pytest.mark.parametrize("end", ENDS, ids=[repr(it) for it in ENDS])
def test_one_message_stays_one(lab: Lab, alice: tuple[str, str], end: str) -> None:
    said = converse(lab, _smuggled(alice[0], end))
    assert len(abuse.accepted(said)) <= 1, said


def test_two_messages_are_two(lab: Lab, alice: tuple[str, str]) -> None:
    """The control: the same words in a lawful order are two messages, and the test sees both."""
    first, second, last = _smuggled(alice[0], "\r\n.\r\n")
    one, _, rest = last[1].partition("\r\n.\r\n")
    envelope, _, two = rest.partition("DATA\r\n")
    said = converse(
        lab,
        [
            first,
            second,
            ["354 ", f"{one}\r\n.\r\n"],
            ["queued as ", f"{envelope}DATA\r\n"],
            ["354 ", two],
        ],
    )
    assert len(abuse.accepted(said)) == 2, said


def test_talking_out_of_turn_ends_the_talk(lab: Lab) -> None:
    early = converse(lab, [["220 ", f"EHLO {outside.MX}\r\nMAIL FROM:<{CAROL}>\r\n"]])
    assert "554" in early or "521" in early, early
    lawful = converse(
        lab, [["220 ", f"EHLO {outside.MX}\r\n"], ["250 ", f"MAIL FROM:<{CAROL}>\r\nQUIT\r\n"]]
    )
    assert "2.1.0" in lawful, lawful


def test_nothing_said_before_tls_is_heard_after_it(lab: Lab) -> None:
    start = ["220 ", f"EHLO {outside.MX}\r\n"]
    injected = converse(lab, [start, ["250 ", "STARTTLS\r\nNOOP\r\n"]], tls=True)
    assert not injected.partition("TLS ")[2], injected
    # The control: a lawful one gets its handshake.
    assert "TLS " in converse(lab, [start, ["250 ", "STARTTLS\r\n"]], tls=True)


@pytest.fixture
def sink(lab: Lab) -> Iterator[str]:
    """A mail server on `outside` that keeps the octets that it hears; its address."""
    where = str(internet.stranger(lab.site)[0])
    program = f"{inspect.getsource(abuse.sink)}\nsink({where!r}, {services.SMTP.port}, {HEARD!r})\n"
    assert lab.run(outside.MACHINE, ["tee", f"{HEARD}.py"], program.encode()).code == 0
    start = ["systemd-run", "--unit=sink", "--collect", "python3", "-I", f"{HEARD}.py"]
    assert lab.run(outside.MACHINE, start).code == 0
    listens = f"until [ -e {HEARD} ]; do sleep 0.1; done"
    assert lab.run(outside.MACHINE, ["sh", "-c", listens]).code == 0
    yield where
    lab.run(outside.MACHINE, ["systemctl", "stop", "sink.service"])
    lab.run(outside.MACHINE, ["rm", "-f", HEARD, f"{HEARD}.py"])


def _heard(lab: Lab, words: Iterable[str], patience: float = PATIENCE) -> list[bytes]:
    """The messages that the sink has, as soon as each of these words is in one."""
    end = time.monotonic() + patience
    while True:
        lines = lab.run(outside.MACHINE, ["cat", HEARD]).stdout.splitlines()
        found = [json.loads(it).encode("latin-1") for it in lines]
        missing = [it for it in words if not any(it.encode() in one for one in found)]
        if not missing:
            return found
        assert time.monotonic() < end, f"not heard: {missing}"
        time.sleep(0.5)


BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def test_nothing_is_smuggled_out(lab: Lab, alice: tuple[str, str], sink: str) -> None:
    """Each of the forms arrives as one message or not at all, and no bare CR or LF with it."""
    there, webmail = f"carol@{outside.STRANGER}", mail.the(lab, Role.WEBMAIL).name
    words = {end: token() for end in (*ENDS, "")}
    contents = []
    for end, word in words.items():
        one = message(alice[0], there, word).as_string().replace("\n", "\r\n").rstrip()
        envelope = f"MAIL FROM:<{alice[0]}>\r\nRCPT TO:<{there}>\r\nDATA\r\n"
        contents.append(one + end + (f"{envelope}Subject: in {word}\r\n\r\nHello" if end else ""))
    codes = mail.remote(
        lab, webmail, abuse.raw_submissions, **mail._store(lab, services.SUBMISSIONS.port),
        name=lab.site.internal_name(webmail), user=alice[0], password=alice[1],
        recipient=there, contents=contents,
    )  # fmt: skip
    assert codes[-1] == 250, "the lawful one"
    assert not [it for it in codes if it not in (0, 250) and not 500 <= it < 600], codes
    accepted = [word for word, code in zip(words.values(), codes, strict=True) if code == 250]
    heard = _heard(lab, accepted)
    for word in words.values():
        found = [it for it in heard if word.encode() in it]
        assert len(found) == (word in accepted), found
    assert not [it for it in heard if BARE.search(it)]
    # The control: the sink keeps a bare one that does reach it.
    word = token()
    for bare in ("\r", "\n"):
        said = mail.remote(
            lab, outside.MACHINE, abuse.segments, address=sink, port=services.SMTP.port, source=sink,
            steps=[["220 ", "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<x@x>\r\nDATA\r\n"],
                   ["354 ", f"Subject: {word}\r\n\r\na{bare}b\r\n.\r\nQUIT\r\n"]], tls=False,
        )  # fmt: skip
        assert "221 " in said
    assert [bool(BARE.search(it)) for it in _heard(lab, [word]) if word.encode() in it] == [
        True
    ] * 2


# --- spoofing (the families of espoofer)

ME = "stranger@plain.test"
SPOOFS = {
    "plain": "From: <{own}>",
    "lower-case": "from: <{own}>",
    "two-own-first": "From: <{own}>\r\nFrom: <{me}>",
    "two-own-last": "From: <{me}>\r\nFrom: <{own}>",
    # Not in the first line: Postfix takes "From " there for a mailbox's separator, and puts it away.
    "space-before-colon": "X-First: x\r\nFrom : <{own}>",
    "space-and-another": "X-First: x\r\nFrom : <{own}>\r\nFrom: <{me}>",
    "another-and-space": "From: <{me}>\r\nFrom\t: <{own}>",
    "two-authors": "From: <{me}>, <{own}>",
    "two-authors-own-first": "From: <{own}>, <{me}>",
    "group": "From: us:{own};",
    "comment": "From: {own} ({me})",
    "comment-between": "From: <{own}(x)>",
    "route": "From: <@plain.test,@outside.test:{own}>",
    "folded": "From:\r\n <{own}>",
    "bare-name": "From: {own} <{me}>",
    "two-brackets": "From: <{own}> <{me}>",
    "encoded": "From: =?utf-8?B?PGFsaWNlQGZvcnRyZXNzLnRlc3Q+?=",
    "encoded-name": "From: =?utf-8?B?YWxpY2VAZm9ydHJlc3MudGVzdA==?= <{me}>",
    "none-but-sender": "Sender: <{own}>",
    "tab": "From: <{own}\t>",
    "dot": "From: <{own}.>",
    "sub-domain": "From: <boss@mail.fortress.test>",
}


def _spoof(lab: Lab, head: str, to: str, sender: str = ME) -> tuple[int, str]:
    text = (
        f"{head}\r\nTo: <{to}>\r\nSubject: {token()}\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <{token()}@plain.test>\r\n\r\nGood day, {token()}.\r\n"
    )
    source = internet.stranger(lab.site)[0]
    commands = (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA")
    return mail.talk(lab, commands, text, source=source)[-1]


@pytest.mark.parametrize("name", SPOOFS)
def test_nobody_writes_as_one_of_us(lab: Lab, alice: tuple[str, str], name: str) -> None:
    code, text = _spoof(lab, SPOOFS[name].format(own=alice[0], me=ME), alice[0])
    assert 500 <= code < 600, text


@pytest.mark.parametrize(
    "head",
    [f"From: <{ME}>", f'From: "A. Stranger" <{ME}>', f"From:\r\n =?utf-8?Q?J=C3=B6rg?= <{ME}>"],
    ids=["plain", "named", "encoded"],
)
def test_a_stranger_writes_as_a_stranger(lab: Lab, alice: tuple[str, str], head: str) -> None:
    assert _spoof(lab, head, alice[0])[0] == 250


def test_a_forged_verdict_is_not_believed(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    letter = message(ME, alice[0], word)
    lie = f"{lab.site.mx_host}; dkim=pass header.d={lab.site.domains[0]}; dmarc=pass"
    letter["Authentication-Results"] = lie
    assert mail.deliver(lab, letter)[0] == 250
    (got,) = mail.inbox(lab, *alice, word)
    verdicts = [str(it) for it in got.get_all("Authentication-Results", [])]
    assert verdicts and not [it for it in verdicts if "=pass" in it]


INJECTED = {
    "comment-in-domain": "x@{domain}(.plain.test",
    "comment-in-name": "{own}(x)@plain.test",
    "nul": "x@{domain}\0.plain.test",
    "semicolon": '"x; spf=pass smtp.mailfrom={own}"@plain.test',
    "comment-closed": '"x) smtp.mailfrom=a; dkim=pass header.d={domain}; spf=pass (y"@plain.test',
    "two-addresses": '"{own}"@plain.test',
    "blank": '"x y"@plain.test',
    "equals": "spf=pass@plain.test",
    "route": "@{domain}:x@plain.test",
}
ARRIVE = ("equals", "route")
"""Addresses as lawful as others: what is written of them must not be read as a verdict."""


@pytest.mark.parametrize("name", INJECTED)
def test_no_sender_writes_a_verdict(lab: Lab, alice: tuple[str, str], name: str) -> None:
    sender = INJECTED[name].format(own=alice[0], domain=lab.site.domains[0])
    word = token()
    letter = message(ME, alice[0], word).as_string()
    commands = (f"MAIL FROM:<{sender}>", f"RCPT TO:<{alice[0]}>", "DATA")
    *_, said = mail.talk(lab, commands, letter, source=internet.stranger(lab.site)[0])
    if name not in ARRIVE:
        assert 500 <= said[0] < 600, said
        assert not mail.inbox(lab, *alice, word, patience=0)
        return
    assert said[0] == 250, said
    (got,) = mail.inbox(lab, *alice, word)
    assert abuse.results(got) and "pass" not in abuse.results(got)


def test_a_stranger_has_an_ordinary_address(lab: Lab, alice: tuple[str, str]) -> None:
    """The twin; and verdicts are seen where there are some."""
    word = token()
    assert _spoof(lab, f"From: <{ME}>\r\nX-Word: {word}", alice[0], "a.b+c=d@plain.test")[0] == 250
    assert mail.deliver(lab, message(CAROL, alice[0], word))[0] == 250
    (got,) = mail.inbox(lab, *alice, word)
    assert "spf=pass" in abuse.results(got)
    forged = Message()
    forged["Authentication-Results"] = (
        'x; spf=none (of "y) ; dkim=pass (z" is) smtp.mailfrom="dmarc=pass"'
    )
    assert "dkim=pass" in abuse.results(forged) and "dmarc" not in abuse.results(forged)
