"""Mail end to end: from another organisation to a user and back, and all that must be refused.

Each refusal stands beside something alike that is let through, so that a site which refuses
everything does not pass.
"""

import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage

import pytest

from mastio import services
from mastio.context import PKI
from mastio.instances import of_store
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, the, token
from tests.lab.patience import eventually

pytestmark = pytest.mark.lab

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])

# Both strings are harmless by design: https://www.eicar.org, https://spamassassin.apache.org/gtube
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@pytest.fixture
def domain(lab: Lab) -> str:
    return lab.site.domains[0]


@pytest.fixture
def new_user(lab: Lab, domain: str) -> Iterator[Callable[..., tuple[str, str]]]:
    """Makes mailboxes that are gone after the test."""
    made: list[str] = []

    def make(*options: str) -> tuple[str, str]:
        address, password = f"{token()}@{domain}", token() + token()
        made.append(address)
        lab.mastio("user", "add", address, "--password-stdin", *options, stdin=password + "\n")
        return address, password

    yield make
    for address in made:
        lab.mastio("user", "delete", address, "--purge")


# --- a message comes in


def test_carols_mta_finds_the_site_and_alice_gets_her_mail(
    lab: Lab, alice: tuple[str, str]
) -> None:
    word = token()
    mail.from_carol(lab, message(CAROL, alice[0], f"Hello {word}"))
    (got,) = mail.inbox(lab, *alice, word)
    assert "Good day." in str(got.get_payload())
    first = [value for value in got.get_all("Received", []) if lab.site.mx_host in value]
    assert any("TLSv1.3" in value for value in first), "it came to the site in plain text"


@FAMILIES
def test_the_clients_own_address_is_kept(lab: Lab, alice: tuple[str, str], version: int) -> None:
    word = token()
    code, _ = mail.deliver(lab, message(CAROL, alice[0], word), version=version)
    assert code == 250
    (got,) = mail.inbox(lab, *alice, word)
    source = next(it for it in internet.mta(lab.site) if it.version == version)
    written = f"[{source}]" if version == 4 else f"[IPv6:{source}]"
    assert written in mail.headers(got)


def test_many_messages_arrive_once_each(lab: Lab, alice: tuple[str, str]) -> None:
    word, count = token(), 40
    accepted = mail.remote(
        lab, outside.MACHINE, mail.bulk, address=str(lab.site.public[0]), port=services.SMTP.port,
        source=str(internet.mta(lab.site)[0]), name=outside.MX, sender=CAROL, recipient=alice[0],
        word=word, count=count,
    )  # fmt: skip
    assert accepted == count
    got = mail.inbox(lab, *alice, word, count=count)
    assert len({str(it["Subject"]) for it in got}) == len(got) == count


def test_the_mx_shows_a_certificate_of_the_public_authority(lab: Lab) -> None:
    address = f"{lab.site.public[0]}:{services.SMTP.port}"
    result = lab.run(
        outside.MACHINE,
        [
            "openssl", "s_client", "-connect", address, "-starttls", "smtp", "-brief", "-verify_return_error",
            "-verify_hostname", lab.site.mx_host, "-name", outside.MX,
        ],
        b"QUIT\r\n",
    )  # fmt: skip
    assert b"Verification: OK" in result.stdout + result.stderr, result.stderr.decode()


def test_mail_waits_at_the_gateway_while_the_store_is_away(
    lab: Lab, alice: tuple[str, str]
) -> None:
    word, store = token(), mail.the(lab, Role.STORE).name
    unit = of_store(mail.the(lab, Role.STORE)).unit
    others = {entry["queue_id"] for entry in mail.queue(lab)}

    def waiting() -> set[str]:
        return {it["queue_id"] for it in mail.queue(lab) if it["sender"] == CAROL} - others

    assert lab.run(store, ["systemctl", "stop", unit]).code == 0
    try:
        code, _ = mail.deliver(lab, message(CAROL, alice[0], word))
        assert code == 250, "the gateway must take mail while the store is away"
        time.sleep(2)
        assert waiting(), "the message is not in the gateway's queue"
    finally:
        assert lab.run(store, ["systemctl", "start", unit]).code == 0
    assert mail.inbox(lab, *alice, word, patience=280)
    # It may be in the mailbox before the gateway has noted that it is gone.
    eventually(lambda: not waiting(), "it is in the gateway's queue still", 120)


def test_the_filter_is_started_only_when_it_answers(lab: Lab, alice: tuple[str, str]) -> None:
    gateway = mail.the(lab, Role.GATEWAY_IN).name
    # Without what it keeps from its first start it compiles for seconds before it listens.
    compiled = ["find", "/var/lib/rspamd", "-name", "*.hs*", "-delete"]
    assert lab.run(gateway, compiled).code == 0
    assert lab.run(gateway, ["systemctl", "restart", "rspamd.service"]).code == 0
    code, text = mail.deliver(lab, message(CAROL, alice[0], token()))
    assert code == 250, text


# --- what the MX refuses


@FAMILIES
def test_an_unknown_recipient_is_refused_at_once(lab: Lab, domain: str, version: int) -> None:
    sender = f"MAIL FROM:<{CAROL}>"
    known = f"RCPT TO:<{next(iter(lab.accounts))}>"
    unknown = f"RCPT TO:<{token()}@{domain}>"
    _, yes, no = mail.talk(lab, (sender, known, unknown), version=version)
    assert yes[0] == 250
    assert no[0] == 550
    assert "table" not in no[1] and "alias" not in no[1] and "relay" not in no[1]


@FAMILIES
def test_nobody_relays(lab: Lab, domain: str, version: int) -> None:
    local, _, far = CAROL.partition("@")
    targets = (
        CAROL, f"{local}%{far}@{domain}", f'"{CAROL}"@{domain}', f"@{lab.site.mx_host}:{CAROL}",
        f"{far}!{local}", f'"{CAROL}"', f"{local}@[{internet.mta(lab.site)[0]}]",
    )  # fmt: skip
    for sender in (CAROL, next(iter(lab.accounts)), ""):
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{target}>" for target in targets)]
        replies = mail.talk(lab, commands, version=version)[1:]
        for target, (code, text) in zip(targets, replies, strict=True):
            assert 500 <= code < 600, f"{sender} to {target}: {code} {text}"


def test_it_tells_nothing_of_who_exists_or_what_it_is(lab: Lab, alice: tuple[str, str]) -> None:
    for (code, text), command in zip(
        mail.talk(lab, (f"VRFY {alice[0]}", f"EXPN {alice[0]}", "HELP")), "VEH", strict=True
    ):
        assert code >= 500, f"{command}: {code} {text}"
        assert "postfix" not in text.lower() and alice[0] not in text


@pytest.mark.parametrize("text", [EICAR, GTUBE], ids=["virus", "spam"])
def test_malware_and_spam_are_refused_in_the_dialogue(
    lab: Lab, alice: tuple[str, str], text: str
) -> None:
    code, reply = mail.deliver(lab, message(CAROL, alice[0], f"text {token()}", text))
    assert 500 <= code < 600, reply


def test_a_virus_in_an_attachment_is_found(lab: Lab, alice: tuple[str, str]) -> None:
    def attached(data: bytes) -> EmailMessage:
        letter = message(CAROL, alice[0], f"attached {token()}")
        letter.add_attachment(data, "application", "octet-stream", filename="readme.bin")
        return letter

    assert mail.deliver(lab, attached(b"harmless " * 20))[0] == 250
    code, reply = mail.deliver(lab, attached(EICAR.encode()))
    assert 500 <= code < 600, reply


def test_a_message_that_is_too_large_is_refused(lab: Lab, alice: tuple[str, str]) -> None:
    limit = lab.site.policy.message_size * 1024 * 1024
    assert mail.talk(lab, (f"MAIL FROM:<{CAROL}> SIZE={limit + 1}",))[0][0] == 552
    assert mail.talk(lab, (f"MAIL FROM:<{CAROL}> SIZE={limit // 2}",))[0][0] == 250
    # A client that does not announce the size is stopped all the same.
    assert mail.deliver(lab, message(CAROL, alice[0], token()), padding=limit + 100_000)[0] == 552


def test_no_machine_speaks_pop3(lab: Lab) -> None:
    store = mail.the(lab, Role.STORE)
    ports = [[str(address), port] for address in store.addresses for port in (110, 995)]
    control = [[str(address), services.IMAPS.port] for address in store.addresses]
    webmail = mail.the(lab, Role.WEBMAIL).name
    assert mail.remote(lab, webmail, mail.connections, targets=[*ports, *control]) == control
    for machine in lab.site.machines:
        listening = lab.run(machine.name, ["ss", "-Hltn"]).stdout.decode().split()
        assert not [it for it in listening if it.endswith((":110", ":995"))], machine.name


# --- a message goes out


def test_a_users_mail_reaches_carol_with_a_good_name(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    code, text = mail.submit(lab, *alice, message(alice[0], CAROL, f"Out {word}"))
    assert code == 250, text
    arrived = mail.at_carols(lab, word)
    assert arrived, [mail.queue(lab, it) for it in (Role.STORE, Role.GATEWAY_OUT)]
    (got,) = arrived
    verdict = str(got["Authentication-Results"])
    assert "spf=pass" in verdict and "dkim=pass" in verdict, verdict
    said = mail.headers(got)
    assert not [name for name in mail.inside_names(lab) if name in said], said


def test_users_write_to_each_other(lab: Lab, alice: tuple[str, str], bob: tuple[str, str]) -> None:
    word = token()
    code, text = mail.submit(lab, *alice, message(alice[0], bob[0], word))
    assert code == 250, text
    assert mail.inbox(lab, *bob, word)


def test_a_user_sends_in_no_other_name(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    letter = message(bob[0], CAROL, token())
    code, text = mail.submit(lab, *alice, letter, sender=bob[0])
    assert 500 <= code < 600, text
    assert 500 <= mail.submit(lab, alice[0], "", letter)[0] < 600, "submitted without logging in"


def test_a_user_does_not_write_as_nobody(lab: Lab, alice: tuple[str, str]) -> None:
    code, text = mail.submit(lab, *alice, message(alice[0], CAROL, token()), sender="<>")
    assert code == 553, text


def test_a_forged_from_does_not_leave_and_comes_back(
    lab: Lab, bob: tuple[str, str], new_user: Callable[..., tuple[str, str]]
) -> None:
    word, mallory = token(), new_user()
    # The store vouches for the envelope; the gateway holds the header to it.
    assert mail.submit(lab, *mallory, message(bob[0], CAROL, word))[0] == 250
    (notice,) = mail.inbox(lab, *mallory, "Undelivered")
    assert "5.7.1" in notice.as_string() and word in notice.as_string()
    assert not mail.at_carols(lab, word, patience=3)


def test_a_virus_does_not_leave(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    letter = message(alice[0], CAROL, word, EICAR)
    mail.submit(lab, *alice, letter)
    assert not mail.at_carols(lab, word, patience=8)


# --- accounts


def test_a_new_user_gets_mail_within_five_seconds(
    lab: Lab,
    new_user: Callable[..., tuple[str, str]],
    record_property: Callable[[str, object], None],
) -> None:
    user = new_user()
    start = time.monotonic()
    while mail.recipient(lab, user[0])[0] != 250:
        assert time.monotonic() - start < 5, "the gateway does not know the new user yet"
    record_property("seconds", round(time.monotonic() - start, 2))
    word = token()
    mail.from_carol(lab, message(CAROL, user[0], word))
    assert mail.inbox(lab, *user, word)


def test_a_disabled_user_neither_gets_mail_nor_logs_in(
    lab: Lab, new_user: Callable[..., tuple[str, str]]
) -> None:
    user = new_user()
    assert mail.recipient(lab, user[0])[0] == 250 and mail.lets_in(lab, *user)
    assert not mail.lets_in(lab, user[0], "not the password")
    lab.mastio("user", "change", user[0], "--disable")
    assert mail.recipient(lab, user[0])[0] == 550 and not mail.lets_in(lab, *user)
    lab.mastio("user", "change", user[0], "--enable")
    assert mail.recipient(lab, user[0])[0] == 250 and mail.lets_in(lab, *user)


def test_an_alias_leads_to_its_target(lab: Lab, alice: tuple[str, str], domain: str) -> None:
    address, word = f"{token()}@{domain}", token()
    assert mail.recipient(lab, address)[0] == 550
    lab.mastio("alias", "add", address, alice[0])
    try:
        mail.from_carol(lab, message(CAROL, address, word))
        assert mail.inbox(lab, *alice, word)
    finally:
        lab.mastio("alias", "delete", address)
    assert mail.recipient(lab, address)[0] == 550


def test_a_forward_keeps_a_copy(
    lab: Lab, bob: tuple[str, str], new_user: Callable[..., tuple[str, str]]
) -> None:
    user, word = new_user("--forward-to", bob[0]), token()
    mail.from_carol(lab, message(CAROL, user[0], word))
    assert mail.inbox(lab, *bob, word)
    assert mail.inbox(lab, *user, word)


def test_a_catch_all_catches_all(lab: Lab, alice: tuple[str, str], domain: str) -> None:
    address, word = f"{token()}@{domain}", token()
    lab.mastio("domain", "change", domain, "--catch-all", alice[0])
    try:
        mail.from_carol(lab, message(CAROL, address, word))
        assert mail.inbox(lab, *alice, word)
    finally:
        lab.mastio("domain", "change", domain, "--no-catch-all")
    assert mail.recipient(lab, address)[0] == 550


@pytest.mark.parametrize("duty", ["postmaster", "abuse"])
def test_somebody_reads_the_duty_addresses(lab: Lab, domain: str, duty: str) -> None:
    word, address = token(), lab.site.admin_mail
    mail.from_carol(lab, message(CAROL, f"{duty}@{domain}", word))
    assert mail.inbox(lab, address, lab.accounts[address], word)


def found_by_its_text(host: str, port: int, pki: str, user: str, password: str, word: str) -> int:
    """How many messages of the inbox have `word` in their text, as the store's search says."""
    import imaplib
    import ssl

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    with imaplib.IMAP4_SSL(host, port, ssl_context=context) as client:
        client.login(user, password)
        client.select("INBOX", readonly=True)
        return len(client.search(None, "BODY", word)[1][0].split())


def test_what_was_delivered_is_found_at_once_and_the_night_indexes_the_rest(
    lab: Lab, new_user: Callable[..., tuple[str, str]]
) -> None:
    user, word = new_user(), token()
    store = the(lab, Role.STORE).name

    def indexed() -> int:
        stats = ["doveadm", "-f", "flow", "fts", "flatcurve", "stats", "-u", user[0], "INBOX"]
        told = lab.run(store, stats).stdout.decode()
        return int(told.partition("messages=")[2].split()[0]) if "messages=" in told else 0

    def arrive() -> None:
        subject = token()
        mail.from_carol(lab, message(CAROL, user[0], subject, f"About {word}."))
        assert mail.inbox(lab, *user, subject)

    arrive()
    assert indexed() == 0, "a delivery waits for no index"
    search = {"host": lab.site.internal_name(store), "port": services.IMAPS.port, "pki": PKI,
              "user": user[0], "password": user[1]}  # fmt: skip
    webmail = the(lab, Role.WEBMAIL).name
    assert mail.remote(lab, webmail, found_by_its_text, **search, word=word) == 1
    assert mail.remote(lab, webmail, found_by_its_text, **search, word=token()) == 0
    arrive()
    assert indexed() == 1
    assert lab.run(store, ["systemctl", "start", "mastio-index.service"]).code == 0
    eventually(lambda: indexed() >= 2, "the night's run did not index it")


def test_the_store_is_reached_by_tls_of_the_sites_authority(lab: Lab) -> None:
    """The positive control of every look into a mailbox here: the wrong authority is noticed."""
    store, webmail = mail.the(lab, Role.STORE).name, mail.the(lab, Role.WEBMAIL).name
    name = lab.site.internal_name(store)
    connect = ["openssl", "s_client", "-connect", f"{name}:{services.IMAPS.port}", "-brief",
               "-verify_hostname", name, "-verify_return_error"]  # fmt: skip
    assert lab.run(webmail, [*connect, "-CAfile", f"{PKI}/ca.pem"]).code == 0
    assert lab.run(webmail, [*connect, "-CAfile", f"{PKI}/public.pem", "-no-CApath"]).code != 0
