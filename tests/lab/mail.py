"""Mail in the lab as its users send and read it: the helpers of the end-to-end tests.

What must happen *on* a machine is a function here (`dialogue`, `mailbox`, `maildir` …) that is sent
there as source and run by that machine's own Python, standard library only:

    remote(lab, "webmail", mailbox, host="store.demo.internal", …)

Everything that waits polls on the machine itself and ends as soon as it can. Each message carries a
`token()` in its subject, by which it is found again.
"""

import hashlib
import inspect
import json
import secrets
from collections.abc import Callable, Iterable
from email import message_from_string
from email.message import EmailMessage, Message
from email.utils import formatdate
from functools import partial
from typing import Any

from mastio import services
from mastio.context import PKI
from mastio.lab import internet, outside
from mastio.roles.gateway.files import VALKEY
from mastio.site.model import Address, Machine, Role
from tests.lab.conftest import LIMIT
from tests.lab.conftest import TheLab as Lab
from tests.lab.patience import PATIENCE, at_last

CAROL = f"{outside.USER}@{outside.DOMAIN}"


def token() -> str:
    """A word that no other message has."""
    return f"t{secrets.token_hex(6)}"


def message(sender: str, recipient: str, subject: str, text: str = "Good day.") -> EmailMessage:
    """A well-formed message, unlike all others: a filter may know a text again."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, recipient, subject
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{secrets.token_hex(8)}@{sender.rpartition('@')[2]}>"
    mail.set_content(f"{text}\n\n-- \n{token()}\n")
    return mail


def remote(lab: Lab, machine: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Run a self-contained function of this module on a machine; what it returned."""
    source = (
        f"from __future__ import annotations\nimport json, sys\n{inspect.getsource(function)}\n"
        f"json.dump({function.__name__}(**json.loads({json.dumps(arguments)!r})), sys.stdout)\n"
    )
    # The program comes by stdin as well: passwords are in it, and a command line is for all to see.
    command = ["python3", "-I", "-"]
    result = lab.transport.run(machine, command, source.encode(), timeout=LIMIT)
    assert result.code == 0, result.stderr.decode()
    return json.loads(result.stdout)


def the(lab: Lab, role: Role) -> Machine:
    """The machine that carries a role."""
    return lab.site.carrying(role)[0]


def dialogue(
    address: str, port: int, source: str, name: str, commands: list[str], content: str, padding: int
) -> list[Any]:
    """Talk SMTP: the code and text of the replies to connection, EHLO and each command in turn.

    `content` is what follows DATA; `padding` octets of text are added to it. Each sign of a command is an octet.
    """
    import smtplib

    client = smtplib.SMTP(local_hostname=name, timeout=120, source_address=(source, 0))
    client.command_encoding = "latin-1"
    replies: list[Any] = [client.connect(address, port), client.ehlo()]
    for command in commands:
        if command == "DATA":
            filler = ("x" * 76 + "\r\n") * (padding // 78)
            try:
                replies.append(client.data(content + filler))
            except smtplib.SMTPDataError as refusal:
                replies.append((refusal.smtp_code, refusal.smtp_error))
        else:
            replies.append(client.docmd(command))
    client.close()
    return [[code, str(text, errors="replace")] for code, text in replies]


def mailbox(host: str, port: int, pki: str, user: str, password: str, word: str, folder: str,
            count: int, patience: float) -> list[Any]:  # fmt: skip
    """The messages whose subject has `word`, as text, as soon as there are `count` of them."""
    import imaplib
    import ssl
    import time

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    end = time.monotonic() + patience
    with imaplib.IMAP4_SSL(host, port, ssl_context=context) as client:
        client.login(user, password)
        while True:
            client.select(folder, readonly=True)
            numbers = client.search(None, "ALL")[1][0].split()[-200:]
            found = []
            if numbers:
                parts = client.fetch(b",".join(numbers).decode(), "(BODY.PEEK[])")[1]
                texts = [
                    part[1].decode(errors="replace") for part in parts if isinstance(part, tuple)
                ]
                for text in texts:
                    head = text.partition("\r\n\r\n")[0]
                    if any(
                        word in line for line in head.splitlines() if line.startswith("Subject:")
                    ):
                        found.append(text)
            if len(found) >= count or time.monotonic() > end:
                return found
            time.sleep(0.3)


def may_log_in(host: str, port: int, pki: str, user: str, password: str) -> bool:
    """Whether IMAP lets a user in."""
    import imaplib
    import ssl

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    with imaplib.IMAP4_SSL(host, port, ssl_context=context) as client:
        try:
            client.login(user, password)
        except imaplib.IMAP4.error:
            return False
        return True


def submission(host: str, port: int, pki: str, name: str, user: str, password: str, sender: str,
               recipient: str, content: str) -> list[Any]:  # fmt: skip
    """Submit a message as a user; code and text of the last reply."""
    import smtplib
    import ssl

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    with smtplib.SMTP_SSL(host, port, local_hostname=name, timeout=120, context=context) as client:
        if password:
            client.login(user, password)
        code, text = client.mail(sender)
        if code == 250:
            code, text = client.rcpt(recipient)
        if code == 250:
            code, text = client.data(content)
    return [code, text.decode(errors="replace")]


def delivery(host: str, port: int, pki: str, name: str, sender: str, recipients: list[str],
             content: str) -> int:  # fmt: skip
    """Delivers with the machine's own certificate; the code of the last reply."""
    import smtplib
    import ssl

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    context.load_cert_chain(f"{pki}/host.pem", f"{pki}/host.key")
    with smtplib.SMTP(host, port, local_hostname=name, timeout=120) as client:
        client.starttls(context=context)
        client.ehlo()
        replies = [client.mail(sender), *(client.rcpt(recipient) for recipient in recipients)]
        assert all(code == 250 for code, _ in replies), replies
        return client.data(content)[0]


def maildir(folder: str, word: str, patience: float) -> list[Any]:
    """The messages in a Maildir whose header has `word`, as text, as soon as there is one."""
    import pathlib
    import time

    end = time.monotonic() + patience
    while True:
        texts = [path.read_text(errors="replace") for path in pathlib.Path(folder).glob("*/*")]
        found = [text for text in texts if word in text.partition("\n\n")[0]]
        if found or time.monotonic() > end:
            return found
        time.sleep(0.3)


def connections(targets: list[Any]) -> list[Any]:
    """Which of the [address, port] pairs take a TCP connection."""
    import socket

    opened = []
    for address, port in targets:
        try:
            socket.create_connection((address, port), timeout=2).close()
        except OSError:
            continue
        opened.append([address, port])
    return opened


def bulk(address: str, port: int, source: str, name: str, sender: str, recipient: str, word: str,
         count: int) -> int:  # fmt: skip
    """Send `count` messages over one connection after another; how many were accepted."""
    import smtplib
    from email.utils import formatdate, make_msgid

    accepted = 0
    for number in range(count):
        with smtplib.SMTP(local_hostname=name, timeout=120, source_address=(source, 0)) as client:
            client.connect(address, port)
            text = (
                f"From: {sender}\r\nTo: {recipient}\r\nSubject: {word} number {number}\r\n"
                f"Date: {formatdate()}\r\nMessage-ID: {make_msgid(domain=name)}\r\n\r\nOne of many.\r\n"
            )
            client.sendmail(sender, [recipient], text)
            accepted += 1
    return accepted


def talk(
    lab: Lab, commands: Iterable[str], content: str = "", padding: int = 0,
    version: int = 4, source: Address | None = None,
) -> list[tuple[int, str]]:  # fmt: skip
    """A dialogue of `outside` with the site's MX: the replies to the commands alone."""
    address = next(it for it in lab.site.public if it.version == version)
    own = source or next(it for it in internet.mta(lab.site) if it.version == version)
    replies = remote(
        lab, outside.MACHINE, dialogue, address=str(address), port=services.SMTP.port,
        source=str(own), name=outside.MX, commands=list(commands), content=content, padding=padding,
    )  # fmt: skip
    assert replies[0][0] == 220, replies
    return [(code, text) for code, text in replies[2:]]


def deliver(lab: Lab, mail: EmailMessage, padding: int = 0, version: int = 4) -> tuple[int, str]:
    """Give one message to the site's MX by hand; the verdict after the final dot."""
    envelope = (f"MAIL FROM:<{mail['From']}>", f"RCPT TO:<{mail['To']}>")
    *steps, verdict = talk(lab, (*envelope, "DATA"), mail.as_string(), padding, version)
    assert [code for code, _ in steps] == [250, 250], steps
    return verdict


def hand_in(lab: Lab, content: Message) -> None:
    """Brings a message to the store as the gateway does."""
    gateway, store = (
        the(lab, Role.GATEWAY_IN).name,
        lab.site.internal_name(the(lab, Role.STORE).name),
    )
    code = remote(
        lab, gateway, delivery, host=store, port=services.DELIVERY.port, pki=PKI,
        name=lab.site.internal_name(gateway), sender=str(content["From"]),
        recipients=[str(content["To"])], content=content.as_string(),
    )  # fmt: skip
    assert code == 250


def recipient(lab: Lab, address: str) -> tuple[int, str]:
    """What the MX says to a recipient."""
    return talk(lab, (f"MAIL FROM:<{CAROL}>", f"RCPT TO:<{address}>"))[1]


def from_carol(lab: Lab, mail: EmailMessage) -> None:
    """Carol sends by her own MTA: it looks up the MX and the rest is its affair."""
    argv = ["/usr/sbin/sendmail", "-f", CAROL, str(mail["To"])]
    result = lab.run(outside.MACHINE, argv, mail.as_bytes())
    assert result.code == 0, result.stderr.decode()


def inbox(
    lab: Lab, user: str, password: str, word: str, *,
    folder: str = "INBOX", count: int = 1, patience: float = PATIENCE,
) -> list[Message]:  # fmt: skip
    """What arrived in a user's folder, read over IMAPS from the webmail's machine."""
    texts = remote(
        lab, the(lab, Role.WEBMAIL).name, mailbox, **_store(lab, services.IMAPS.port), user=user,
        password=password, word=word, folder=folder, count=count, patience=patience,
    )  # fmt: skip
    return [message_from_string(text) for text in texts]


def lets_in(lab: Lab, user: str, password: str) -> bool:
    """Whether the store lets a user in, asked from the webmail's machine."""
    store = _store(lab, services.IMAPS.port)
    webmail = the(lab, Role.WEBMAIL).name
    return bool(remote(lab, webmail, may_log_in, **store, user=user, password=password))


def submit(
    lab: Lab, user: str, password: str, mail: EmailMessage, sender: str = ""
) -> tuple[int, str]:
    """A user submits a message from the webmail's machine; the last reply."""
    webmail = the(lab, Role.WEBMAIL).name
    code, text = remote(
        lab, webmail, submission, **_store(lab, services.SUBMISSIONS.port),
        name=lab.site.internal_name(webmail), user=user, password=password,
        sender=sender or user, recipient=str(mail["To"]), content=mail.as_string(),
    )  # fmt: skip
    return code, text


def await_known(lab: Lab, person: str) -> None:
    """Until every gateway that receives knows that a user has written to `person`."""
    key = f"mastio:wrote:{hashlib.sha256(person.encode()).hexdigest()}"
    ask = ["valkey-cli", "-s", VALKEY, "EXISTS", key]
    for name in (it.name for it in lab.site.carrying(Role.GATEWAY_IN)):
        done = at_last(partial(lab.run, name, ask), lambda it: it.stdout == b"1\n", rest=0.3)
        assert done.stdout == b"1\n", f"{name} does not know {person}"


def at_carols(lab: Lab, word: str, patience: float = PATIENCE) -> list[Message]:
    """What arrived in carol's Maildir."""
    texts = remote(
        lab, outside.MACHINE, maildir, folder=outside.MAILDIR, word=word, patience=patience
    )
    return [message_from_string(text) for text in texts]


def queue(lab: Lab, role: Role = Role.GATEWAY_IN) -> list[dict[str, Any]]:
    """A machine's queue, the receiving gateway's as a rule (postqueue -j): what waits, and why."""
    output = lab.run(the(lab, role).name, ["postqueue", "-j"]).stdout
    return [json.loads(line) for line in output.splitlines()]


def headers(mail: Message) -> str:
    """All header lines as text."""
    return "\n".join(f"{name}: {value}" for name, value in mail.items())


def inside_names(lab: Lab) -> tuple[str, ...]:
    """Names and addresses that nobody outside may learn."""
    own = {address for machine in lab.site.machines for address in machine.addresses}
    return (f".{lab.site.name}.internal", *map(str, sorted(own - set(lab.site.public), key=str)))


def _store(lab: Lab, port: int) -> dict[str, Any]:
    name = the(lab, Role.STORE).name
    return {"host": lab.site.internal_name(name), "port": port, "pki": PKI}
