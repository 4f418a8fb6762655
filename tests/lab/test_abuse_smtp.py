"""What strangers try on port 25: relaying, probing, smuggling, spoofing. Every refusal is for good (5xx).

Each table has a control that must succeed, so that a site which refuses everything does not pass.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from mastio import services
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", autouse=True)
def patient(lab: Lab) -> Iterator[None]:
    """Who tries all of this is banned after the first ten; here we want to hear the refusals."""
    networks = ", ".join(f'"{it}"' for it in internet.networks(lab.site))
    with tuned(lab, f"[bans]\nnever = [{networks}]\n"):
        yield


@pytest.fixture
def alice(lab: Lab) -> tuple[str, str]:
    return next(iter(lab.accounts.items()))


def address(lab: Lab, version: int = 4) -> str:
    return str(next(it for it in lab.site.public if it.version == version))


# --- relaying


def relaying(
    address: str, port: int, sources: list[str], name: str, tries: list[list[str]]
) -> list[Any]:
    """The first reply that is not 2xx, or the last, for each [sender, recipients…] in turn; in parallel.

    Few recipients for each connection: after three errors Postfix answers slowly.
    """
    import smtplib
    from concurrent.futures import ThreadPoolExecutor

    def one(numbered: tuple[int, list[str]]) -> list[Any]:
        number, (sender, *recipients) = numbered
        source = (sources[number % len(sources)], 0)
        with smtplib.SMTP(local_hostname=name, timeout=120, source_address=source) as client:
            client.connect(address, port)
            client.ehlo()
            code, text = client.docmd(f"MAIL FROM:{sender}")
            if code >= 300:
                return [[sender, "", code, text.decode(errors="replace")]]
            found = []
            for recipient in recipients:
                code, text = client.docmd(f"RCPT TO:{recipient}")
                found.append([sender, recipient, code, text.decode(errors="replace")])
            return found

    with ThreadPoolExecutor(12) as pool:
        return [it for found in pool.map(one, enumerate(tries)) for it in found]


def _tries(lab: Lab, version: int) -> list[list[str]]:
    own, host, ip = lab.site.domains[0], lab.site.mx_host, lab.site.public[0]
    literal, far = f"[{ip}]", outside.DOMAIN
    senders = (
        "<>", CAROL, f"a@{token()}.{far}", f"a@{host}", f"a@{literal}", next(iter(lab.accounts)),
        "a@localhost", "a", f"postmaster@{host}",
    )  # fmt: skip
    forms = ["t@X", '"t@X"', '"t%X"']
    for place in (host, literal, own):
        forms += [
            f"t%X@{place}", f"t@X@{place}", f'"t@X"@{place}', f"@{place}:t@X", f"X!t@{place}"
        ]  # fmt: skip
    forms += ["X!t"]
    targets = [f"<{form.replace('X', far)}>" for form in forms] + [f"t@{far}"]
    return [
        [sender if sender == "<>" else f"<{sender}>", *targets[start : start + 3]]
        for sender, start in product(senders, range(0, len(targets), 3))
    ]


@FAMILIES
def test_nobody_relays_in_any_form(lab: Lab, version: int) -> None:
    sources = [str(it) for it in internet.outside(lab.site) if it.version == version]
    replies = mail.remote(
        lab, outside.MACHINE, relaying, address=address(lab, version), port=services.SMTP.port,
        sources=sources, name=outside.MX,
        tries=[[f"<{CAROL}>", f"<{next(iter(lab.accounts))}>"], *_tries(lab, version)],
    )  # fmt: skip
    control, *forms = replies
    assert control[2] == 250, control
    assert len(forms) > 100
    assert not [it for it in forms if not 500 <= it[2] < 600]


# --- probing


def test_probing_for_recipients_is_cut_off(lab: Lab) -> None:
    probes = [f"RCPT TO:<{token()}@{lab.site.domains[0]}>" for _ in range(12)]
    with pytest.raises(AssertionError, match="SMTPServerDisconnected"):
        mail.talk(lab, (f"MAIL FROM:<{CAROL}>", *probes, "NOOP"))
    replies = mail.talk(lab, (f"MAIL FROM:<{CAROL}>", *probes[:2]))
    assert [code for code, _ in replies] == [250, 550, 550]
    assert not [text for _, text in replies if "table" in text]


@pytest.mark.parametrize("name", ["mx", "domain"])
def test_nobody_else_has_our_name(lab: Lab, alice: tuple[str, str], name: str) -> None:
    own = lab.site.mx_host if name == "mx" else lab.site.domains[0]
    assert _as(lab, own, alice[0])[-1][0] == 550
    assert _as(lab, outside.MX, alice[0])[-1][0] == 250


def _as(lab: Lab, name: str, to: str) -> list[Any]:
    replies: list[Any] = mail.remote(
        lab, outside.MACHINE, mail.dialogue, address=address(lab), port=services.SMTP.port,
        source=str(internet.mta(lab.site)[0]), name=name,
        commands=[f"MAIL FROM:<{CAROL}>", f"RCPT TO:<{to}>"], content="", padding=0,
    )  # fmt: skip
    return replies


# --- smuggling


def segments(address: str, port: int, source: str, steps: list[list[str]], tls: bool) -> str:
    """All that the server says. Each step: wait until a text was said ("" for nothing), then send.

    With `tls`, a handshake follows the last step, and what is said after it comes behind "TLS ".
    """
    import socket
    import ssl

    said = ""
    with socket.create_connection((address, port), timeout=30, source_address=(source, 0)) as plain:
        for awaited, data in steps:
            while awaited not in said:
                got = plain.recv(65536)
                if not got:
                    return said
                said += got.decode(errors="replace")
            said = said if awaited == "" else said.replace(awaited, f"({awaited[:3]})", 1)
            plain.sendall(data.encode("latin-1"))
        try:
            if tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                before = len(said)
                while "\n" not in said[before:]:
                    got = plain.recv(65536)
                    if not got:
                        return said
                    said += got.decode(errors="replace")
                with context.wrap_socket(plain) as secure:
                    said += "TLS "
                    secure.settimeout(3)
                    return said + secure.recv(65536).decode(errors="replace")
            plain.settimeout(8)
            while got := plain.recv(65536):
                said += got.decode(errors="replace")
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
    return said


def converse(lab: Lab, steps: list[list[str]], tls: bool = False) -> str:
    said: str = mail.remote(
        lab, outside.MACHINE, segments, address=address(lab), port=services.SMTP.port,
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
    assert said.count("queued as") <= 1, said


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
            ["queued", f"{envelope}DATA\r\n"],
            ["354 ", two],
        ],
    )
    assert said.count("as 4") + said.count("queued") >= 2, said


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


def raw_submission(host: str, port: int, pki: str, name: str, user: str, password: str,
                   recipient: str, content: str) -> int:  # fmt: skip
    """Submits octets as they are; the code of the last reply."""
    import smtplib
    import ssl

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    with smtplib.SMTP_SSL(host, port, local_hostname=name, timeout=60, context=context) as client:
        client.login(user, password)
        client.mail(user)
        client.rcpt(recipient)
        client.docmd("DATA")
        client.send(content.encode() + b"\r\n.\r\n")
        return client.getreply()[0]


@pytest.mark.parametrize("end", ["\n.\n", "\r.\r", "\r\n.\r"], ids=repr)
def test_nothing_is_smuggled_out(lab: Lab, alice: tuple[str, str], end: str) -> None:
    word, webmail = token(), mail.the(lab, Role.WEBMAIL).name
    content = message(alice[0], CAROL, word).as_string().replace("\n", "\r\n").rstrip()
    inner = (
        f"MAIL FROM:<{alice[0]}>\r\nRCPT TO:<{CAROL}>\r\nDATA\r\nSubject: in {word}\r\n\r\nHello"
    )
    try:
        code = mail.remote(
            lab, webmail, raw_submission, **mail._store(lab, services.SUBMISSIONS.port),
            name=lab.site.internal_name(webmail), user=alice[0], password=alice[1],
            recipient=CAROL, content=f"{content}{end}{inner}",
        )  # fmt: skip
    except AssertionError as gone:
        assert "SMTPServerDisconnected" in str(gone)
        code = 554
    assert code == 250 or 500 <= code < 600
    assert len(mail.at_carols(lab, word, patience=5)) <= (1 if code == 250 else 0)


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
