"""Addresses in envelopes: none comes in that the filter cannot read, or that nobody could answer; who is merely below a
domain of ours is somebody else. Each refusal beside a clean twin.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from mastio import services
from mastio.context import PKI
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.sabotage import Sabotage, sabotaged

pytestmark = pytest.mark.lab

ME = f"stranger@{outside.PLAIN}"


def handed(lab: Lab, sender: str, recipient: str, to: str) -> list[tuple[int, str]]:
    """A stranger's message to somebody with these words in its envelope; the replies."""
    text = message(ME, to, token()).as_string()
    commands = (f"MAIL FROM:{sender}", f"RCPT TO:{recipient}", "DATA")
    return mail.talk(lab, commands, text, source=internet.stranger(lab.site)[0])


def inside(
    host: str, port: int, pki: str, name: str, login: list[str], commands: list[str], content: str
) -> list[Any]:
    """The replies to each command, as a user who logs in, or as the machine with its certificate."""
    import smtplib
    import ssl

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    if login:
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, name, timeout=120, context=context)
        client.login(*login)
    else:
        context.load_cert_chain(f"{pki}/host.pem", f"{pki}/host.key")
        client = smtplib.SMTP(host, port, name, timeout=120)
        client.starttls(context=context)
        client.ehlo()
    client.command_encoding = "latin-1"
    replies = []
    for it in commands:
        if it == "DATA":
            try:
                replies.append(client.data(content))
            except smtplib.SMTPDataError as refusal:
                replies.append((refusal.smtp_code, refusal.smtp_error))
        else:
            replies.append(client.docmd(it))
    client.close()
    return [[code, str(text, errors="replace")] for code, text in replies]


def passed_on(lab: Lab, sender: str, author: str) -> list[Any]:
    """What the gateway answers when the store hands over a user's message for Carol."""
    store, gateway = (mail.the(lab, it).name for it in (Role.STORE, Role.GATEWAY_OUT))
    replies: list[Any] = mail.remote(
        lab, store, inside, host=lab.site.internal_name(gateway), port=services.RELAY.port, pki=PKI,
        name=lab.site.internal_name(store), login=[],
        commands=[f"MAIL FROM:{sender}", f"RCPT TO:<{CAROL}>", "DATA"],
        content=message(author, CAROL, token()).as_string(),
    )  # fmt: skip
    return replies


# --- what the filter cannot read

UNREAD = {
    "dot-first": "<.{name}@{domain}>",
    "dot-last": "<{name}.@{domain}>",
    "dots": "<{name}+a..b@{domain}>",
    "latin": "<{name}+\xf6@{domain}>",
    "utf-8": "<{name}+\xc3\xb6@{domain}>",
    "control": "<{name}+\x01@{domain}>",
    "quoted-control": '<"{name}+\x01"@{domain}>',
    "quoted-in-part": '<"{name}"."x"@{domain}>',
    "quoted-after-all": '<{name}"x"@{domain}>',
    "comment": "<(x){name}@{domain}>",
    "comment-last": "<{name}@{domain}(x)>",
    "blank": "<{name} @{domain}>",
    "odd-route": "<@[192.0.2.1]:{name}@{domain}>",
    "domain-dots": "<{name}@{domain}..>",
    "no-brackets": "{name}@{domain}",
    "no-domain": "<{name}>",
}
"""Postfix knows who is meant; to Rspamd none of these is an address."""


@pytest.mark.parametrize("name", UNREAD)
def test_what_the_filter_cannot_read_does_not_come_in(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str], name: str
) -> None:
    local, _, domain = bob[0].partition("@")
    odd = UNREAD[name].format(name=local, domain=domain)
    said = handed(lab, odd, f"<{alice[0]}>", alice[0])
    assert said[0] == (501, "5.1.7 Bad sender address syntax"), said
    said = handed(lab, f"<{ME}>", odd, bob[0])
    assert said[1] == (501, "5.1.3 Bad recipient address syntax"), said
    assert passed_on(lab, odd, bob[0])[0][0] == 501


SENDERS = (
    "<>",
    " <{me}>",
    "<a.b+c=d@plain.test>",
    '<"a.b"@plain.test>',
    "<@x.test,@y.test:{me}>",
    "<{me}> SIZE=99",
)
RECIPIENTS = ("<{name}@{domain}>", "<{name}+a.b@{domain}>", '<"{name}"@{domain}>', "<{NAME}@{domain}.>",
              "<@x.test:{name}@{domain}>", "<postmaster>")  # fmt: skip


@pytest.mark.parametrize("sender", SENDERS)
def test_other_senders_come_in(lab: Lab, bob: tuple[str, str], sender: str) -> None:
    said = handed(lab, sender.format(me=ME), f"<{bob[0]}>", bob[0])
    assert [code for code, _ in said] == [250, 250, 250], said


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_other_recipients_come_in(lab: Lab, bob: tuple[str, str], recipient: str) -> None:
    name, _, domain = bob[0].partition("@")
    said = handed(
        lab, f"<{ME}>", recipient.format(name=name, NAME=name.upper(), domain=domain), bob[0]
    )
    assert [code for code, _ in said] == [250, 250, 250], said


@pytest.fixture(scope="module")
def unwatched(lab: Lab) -> Iterator[None]:
    """Postfix lets in what it understands."""
    gateways = {it.name for it in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT)}
    restart = "systemctl restart postfix.service"
    these = (
        Sabotage(
            "", it, "postconf -e smtpd_command_filter=", "", ("/etc/postfix/main.cf",), restart
        )
        for it in sorted(gateways)
    )
    with sabotaged(lab, *these):
        yield


def test_the_filter_itself_refuses_whose_sender_it_cannot_read(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str], unwatched: None
) -> None:
    name, _, domain = bob[0].partition("@")
    odd = f"<{name} @{domain}>"
    for said in (handed(lab, odd, f"<{alice[0]}>", alice[0]), passed_on(lab, odd, alice[0])):
        *before, (code, text) = said
        assert [it for it, _ in before] == [250, 250], said
        assert code // 10 == 55 and "nobody can read" in text, said
    for said in (
        handed(lab, "<>", f"<{alice[0]}>", alice[0]), handed(lab, f"<{ME}>", f"<{alice[0]}>", alice[0]),
        passed_on(lab, "<>", bob[0]), passed_on(lab, f"<{name}+x@{domain}>", bob[0]),
    ):  # fmt: skip
        assert [code for code, _ in said] == [250, 250, 250], said


def test_a_user_hears_at_once_that_an_address_is_not_ascii(
    lab: Lab, alice: tuple[str, str]
) -> None:
    name, _, domain = alice[0].partition("@")

    def said(sender: str, recipient: str) -> list[int]:
        webmail, store = (
            lab.site.internal_name(mail.the(lab, it).name) for it in (Role.WEBMAIL, Role.STORE)
        )
        replies = mail.remote(
            lab, mail.the(lab, Role.WEBMAIL).name, inside, host=store, port=services.SUBMISSIONS.port,
            pki=PKI, name=webmail, login=[*alice], content="",
            commands=[f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "RSET"],
        )  # fmt: skip
        return [code for code, _ in replies]

    assert said(f"{name}+\xf6@{domain}", CAROL)[0] == 553
    assert said(alice[0], f"j\xf6rg@{outside.DOMAIN}")[:2] == [250, 553]
    assert said(f"{name}+x@{domain}", f"jorg+x@{outside.DOMAIN}") == [250, 250, 250]


# --- whom nobody could answer

UNANSWERABLE = {
    "no-such-domain": (f"a@nowhere.{outside.DOMAIN}", "Domain not found"),
    "takes-no-mail": (f"a@{outside.SILENT}", "nullMX"),
    "not-a-full-name": ("a@localhost", "fully-qualified"),
    "no-name-at-all": ("postmaster", "fully-qualified"),
}


@pytest.mark.parametrize("name", UNANSWERABLE)
def test_a_sender_whom_nobody_can_answer_is_refused(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    sender, why = UNANSWERABLE[name]
    code, text = handed(lab, f"<{sender}>", f"<{alice[0]}>", alice[0])[1]
    assert 500 <= code < 600 and why in text, text
    assert handed(lab, f"<a@{outside.PLAIN}>", f"<{alice[0]}>", alice[0])[1][0] == 250


# --- who is below a domain of ours


def test_somebody_elses_subdomain_writes_to_us(lab: Lab, alice: tuple[str, str]) -> None:
    """It has its own servers, which greet by its name, and proves who it is."""
    word, there = token(), outside.below(lab.site)
    sender = f"list@{there}"
    for source, code in ((internet.mta(lab.site)[0], 250), (internet.stranger(lab.site)[0], 550)):
        *said, (verdict, text) = mail.remote(
            lab, outside.MACHINE, mail.dialogue, address=str(lab.site.public[0]),
            port=services.SMTP.port, source=str(source), name=there, padding=0,
            commands=[f"MAIL FROM:<{sender}>", f"RCPT TO:<{alice[0]}>", "DATA"],
            content=message(sender, alice[0], word).as_string(),
        )  # fmt: skip
        assert {code for code, _ in said} == {220, 250}, said
        assert verdict // 10 == code // 10 and ("nothing proves" in text) == (code == 550), text
    (got,) = mail.inbox(lab, *alice, word)
    assert got["From"] == sender


def test_we_write_to_somebody_elses_subdomain(lab: Lab, alice: tuple[str, str]) -> None:
    word, there = token(), f"list@{outside.below(lab.site)}"
    assert mail.submit(lab, *alice, message(alice[0], there, word))[0] == 250
    (got,) = mail.at_carols(lab, word)
    assert got["To"] == there
    # Below our domains nobody is ours, and we pass on nothing for strangers.
    code, text = mail.recipient(lab, there)
    assert code == 554 and "Relay access denied" in text, text
