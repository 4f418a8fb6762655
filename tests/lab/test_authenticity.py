"""Authenticity: what the site publishes is in DNS to the letter, and what it sends proves who it is."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from mastio import secrets, services
from mastio.dns import rings
from mastio.lab import internet, outside
from mastio.lab.outside import domains
from mastio.site.model import Role
from mastio.vault import Vault
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import PATIENCE, at_last
from tests.unit.reports import samples

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def alice(lab: Lab) -> tuple[str, str]:
    address = f"alice@{lab.site.domains[0]}"
    return address, lab.accounts[address]


def signatures(lab: Lab, alice: tuple[str, str]) -> dict[str, str]:
    """Carol's verdict on each signature of a message from alice, by selector."""
    word = token()
    code, text = mail.submit(lab, *alice, message(alice[0], CAROL, f"Signed {word}"))
    assert code == 250, text
    (got,) = mail.at_carols(lab, word)
    verdict = str(got["Authentication-Results"]).replace("\n", " ")
    parts = [part.split() for part in verdict.split(";") if "dkim=" in part]
    return {
        field.removeprefix("header.s="): part[0].removeprefix("dkim=")
        for part in parts
        for field in part
        if field.startswith("header.s=")
    }


# --- names


def test_dns_answers_what_the_site_publishes_validated(lab: Lab) -> None:
    # A resolver may remember for a minute what stood there before.
    done = at_last(
        lambda: mastio(lab.folder, "dns", "--check", "--json"),
        lambda it: it.returncode == 0,
        rest=2,
    )
    findings = json.loads(done.stdout)
    assert done.returncode == 0, [it for it in findings if it["verdict"] != "same"]
    assert all(it["secure"] for it in findings) and len(findings) > 20


def test_a_resolver_that_is_not_there_is_no_verdict(lab: Lab) -> None:
    done = mastio(lab.folder, "dns", "--check", "--resolver", "203.0.113.99")
    assert done.returncode == 69 and "no answer" in done.stderr


def test_the_policy_is_served_under_a_name_that_its_certificate_has(lab: Lab) -> None:
    url = f"https://mta-sts.{lab.site.domains[0]}/.well-known/mta-sts.txt"
    got = lab.run(outside.MACHINE, ["curl", "-sS", "--fail", "--cacert", outside.TRUSTED, url])
    assert got.code == 0, got.stderr
    assert f"mx: {lab.site.mx_host}" in got.stdout.decode()
    other = lab.run(
        outside.MACHINE, ["curl", "-s", "--fail", "--cacert", outside.TRUSTED, url + "x"]
    )
    assert other.code != 0


# --- DKIM


def test_outgoing_mail_is_signed_by_both_keys(lab: Lab, alice: tuple[str, str]) -> None:
    verdicts = signatures(lab, alice)
    assert sorted(selector[-1] for selector in verdicts) == ["e", "r"]
    assert set(verdicts.values()) == {"pass"}, verdicts


def signed_for(lab: Lab, days: int) -> None:
    """The keys of all domains, as they are when they have signed for so long."""
    vault = Vault.open(lab.folder)
    for domain in lab.site.domains:
        ring = secrets.ring_of(vault, domain)
        since = secrets.today() - timedelta(days=days)
        aged = tuple(replace(it, since=since) for it in ring)
        vault.put(rings.name(domain), rings.unparse(aged))
    assert vault.save()


@pytest.fixture
def rotated(lab: Lab) -> Iterator[dict[str, str]]:
    """The DKIM keys rotated in the vault, since they are due, not yet on the machines: selector → state."""
    assert "nothing is due" in lab.mastio("dkim", "rotate", "--if-due")
    signed_for(lab, lab.site.policy.dkim_days - 1)
    assert "nothing is due" in lab.mastio("dkim", "rotate", "--if-due"), "a day too early"
    signed_for(lab, lab.site.policy.dkim_days)
    assert "to be published" in lab.mastio("dkim", "rotate", "--if-due")
    yield {it["selector"]: it["state"] for it in json.loads(lab.mastio("dkim", "list", "--json"))}


def test_keys_rotate_without_a_gap(
    lab: Lab, alice: tuple[str, str], rotated: dict[str, str]
) -> None:
    new = {it for it, state in rotated.items() if state == "signing"}
    # The keys after the next are not in DNS yet: that shows, and nobody can rotate a second time.
    done = mastio(lab.folder, "dns", "--check")
    assert done.returncode == 2 and "missing: " in done.stdout, done.stdout
    again = mastio(lab.folder, "dkim", "rotate")
    assert again.returncode == 65 and "not in DNS" in again.stderr, again.stderr
    # Before the apply the old keys sign, after it the new ones; both verify all the time.
    assert set(signatures(lab, alice).values()) == {"pass"}
    lab.mastio("apply", "--yes")
    verdicts = signatures(lab, alice)
    assert set(verdicts) == new and set(verdicts.values()) == {"pass"}
    # The gateway's resolver may still remember that they were not there; the name server does not.
    server = str(internet.nameserver(lab.site)[0])
    assert mastio(lab.folder, "dns", "--check", "--resolver", server).returncode == 0


def test_nothing_is_due_after_a_rotation(lab: Lab) -> None:
    assert "nothing is due" in lab.mastio("dkim", "rotate", "--if-due")


def by_timer(lab: Lab) -> subprocess.CompletedProcess[str]:
    """What systemd starts where `mastio renew --timer` is switched on: its command line, in its environment."""
    unit = lab.mastio("renew", "--timer").splitlines()
    (command,) = [it.removeprefix("ExecStart=") for it in unit if it.startswith("ExecStart=")]
    own = [it.removeprefix("Environment=") for it in unit if it.startswith("Environment=")]
    settings = dict(shlex.split(it)[0].split("=", 1) for it in own)
    base = {it: os.environ[it] for it in ("PATH", "HOME") if it in os.environ}
    return subprocess.run(
        shlex.split(command), cwd="/", env=base | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip


def selectors(lab: Lab, state: str) -> set[str]:
    rows = json.loads(lab.mastio("dkim", "list", "--json"))
    return {it["selector"] for it in rows if it["state"] == state}


def test_the_timer_alone_has_the_next_keys_sign_and_tells_whose_successors_are_not_in_dns(
    lab: Lab, alice: tuple[str, str]
) -> None:
    def known(selector: str) -> bool:
        said = mastio(lab.folder, "dns", "--check", "--json").stdout
        same = [it["verdict"] == "same" for it in json.loads(said) if selector in it["owner"]]
        return bool(same) and all(same)

    # The gateway's resolver may still remember that they were not there.
    coming = selectors(lab, "next")
    assert at_last(lambda: all(map(known, coming)), rest=2)
    signed_for(lab, lab.site.policy.dkim_days)
    done = by_timer(lab)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = signatures(lab, alice)
    assert set(verdicts) == coming and set(verdicts.values()) == {"pass"}, verdicts

    # Nobody has published what comes after the next, and half a year is left.
    lab.mastio("dkim", "rotate", "--unchecked")
    signed_for(lab, rings.PUBLISH_DAYS)
    done = by_timer(lab)
    assert done.returncode == 65, done.stdout + done.stderr
    assert all(f"{it}._domainkey" in done.stderr for it in selectors(lab, "next")), done.stderr
    # The lab's name servers have them by now: that run has brought the keys that sign.
    done = at_last(lambda: by_timer(lab), lambda it: it.returncode == 0, rest=2)
    assert (done.returncode, done.stdout) == (0, "nothing was due\n"), done.stdout + done.stderr
    assert set(signatures(lab, alice).values()) == {"pass"}


# --- how mail leaves


def send(lab: Lab, alice: tuple[str, str], domain: str) -> str:
    """Alice writes to carol's address at a domain of the test; the word to find it by."""
    word = token()
    code, text = mail.submit(
        lab, *alice, message(alice[0], f"{outside.USER}@{domain}", f"Way {word}")
    )
    assert code == 250, text
    return word


def way_to(lab: Lab, host: str) -> str:
    """What the sending gateway logged of its TLS connections with a host."""
    gateway = mail.the(lab, Role.GATEWAY_OUT).name
    assert lab.run(gateway, ["journalctl", "--sync"]).code == 0
    log = lab.run(gateway, ["journalctl", "-q", "--no-pager", "-o", "cat", "-t", "postfix/smtp"])
    lines = log.stdout.decode(errors="replace").splitlines()
    return "\n".join(it for it in lines if "TLS connection established" in it and host in it)


@pytest.fixture
def waiting(lab: Lab) -> Iterator[Callable[[str], str]]:
    """Why a message to a domain waits in the sending gateway's queue; it is taken out afterwards."""
    gateway = mail.the(lab, Role.GATEWAY_OUT).name
    seen: list[str] = []

    def why(domain: str) -> str:
        end, reason = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            for item in map(json.loads, lab.run(gateway, ["postqueue", "-j"]).stdout.splitlines()):
                for recipient in item["recipients"]:
                    if recipient["address"].endswith(f"@{domain}") and "delay_reason" in recipient:
                        seen.append(item["queue_id"])
                        reason = str(recipient["delay_reason"])
            # The first try may have been too slow to ask for a policy: the next one says why it stays.
            if "certificate" in reason:
                return reason
            time.sleep(1)
        return reason or pytest.fail(f"nothing waits for {domain}")

    yield why
    for queue_id in dict.fromkeys(seen):
        lab.run(gateway, ["postsuper", "-d", queue_id])


def test_a_domain_without_any_policy_gets_its_mail(lab: Lab, alice: tuple[str, str]) -> None:
    assert mail.at_carols(lab, send(lab, alice, domains.PLAIN))


def test_dane_is_verified(lab: Lab, alice: tuple[str, str]) -> None:
    assert mail.at_carols(lab, send(lab, alice, outside.DOMAIN))
    assert "Verified TLS connection" in way_to(lab, outside.MX)


def test_an_mta_sts_policy_that_holds_is_verified(lab: Lab, alice: tuple[str, str]) -> None:
    assert mail.at_carols(lab, send(lab, alice, domains.STS))
    assert "Verified TLS connection" in way_to(lab, domains.mx(domains.STS))


def test_a_certificate_that_breaks_the_mta_sts_policy_stops_the_mail(
    lab: Lab, alice: tuple[str, str], waiting: Callable[[str], str]
) -> None:
    word = send(lab, alice, domains.BROKEN_STS)
    assert "certificate" in waiting(domains.BROKEN_STS)
    assert not mail.at_carols(lab, word, patience=1)


def test_a_key_that_is_not_the_tlsa_records_stops_the_mail(
    lab: Lab, alice: tuple[str, str], waiting: Callable[[str], str]
) -> None:
    word = send(lab, alice, domains.BROKEN_DANE)
    assert "certificate" in waiting(domains.BROKEN_DANE)
    assert not mail.at_carols(lab, word, patience=1)


def test_a_sound_mta_sts_policy_does_not_excuse_a_broken_dane(
    lab: Lab, alice: tuple[str, str], waiting: Callable[[str], str]
) -> None:
    word = send(lab, alice, domains.BROKEN_BOTH)
    assert "certificate" in waiting(domains.BROKEN_BOTH)
    assert not mail.at_carols(lab, word, patience=1)


def test_the_gateways_way_to_the_web_leads_to_policies_only(lab: Lab) -> None:
    gateway = mail.the(lab, Role.GATEWAY_OUT).name
    watch = mail.the(lab, Role.WATCH)
    proxy = f"{lab.site.internal_name(watch.name)}:{services.POLICIES.port}"
    program = (
        "import http.client, sys\n"
        "c = http.client.HTTPSConnection(sys.argv[1], timeout=20)\n"
        "c.set_tunnel(sys.argv[2], 443)\n"
        "try:\n    c.connect()\nexcept OSError as e:\n    print(e)\n"
    )

    def says(host: str) -> str:
        done = lab.run(gateway, ["python3", "-I", "-c", program, proxy, host])
        return (done.stdout + done.stderr).decode()

    assert "403" in says(outside.MX)
    assert says(f"mta-sts.{domains.STS}") == ""


# --- what others report


def report_mail(lab: Lab, local: str, attachment: bytes, subtype: str) -> EmailMessage:
    letter = message(CAROL, f"{local}@{lab.site.domains[0]}", f"Report {token()}")
    letter.add_attachment(attachment, "application", subtype, filename=f"report.{subtype}")
    return letter


def reported(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.mastio("reports", "--json"))
    return found


def digested(lab: Lab) -> dict[str, int]:
    """What the digest of the last hours counts."""
    done = mastio(lab.folder, "digest", "--json", "--since", "3h")
    return dict(json.loads(done.stdout)["summary"]["counts"])


def test_reports_that_come_in_are_read(lab: Lab) -> None:
    before, name = reported(lab), token()
    dmarc = samples.DMARC.replace("r-1", name).encode()
    tls = samples.TLS.replace("t-1", name).encode()
    mail.from_carol(lab, report_mail(lab, "dmarc-reports", samples.zipped(dmarc), "zip"))
    mail.from_carol(lab, report_mail(lab, "tls-reports", samples.gzipped(tls), "tlsrpt+gzip"))
    mail.from_carol(lab, report_mail(lab, "dmarc-reports", b"\x1f\x8bnonsense", "gzip"))
    now = at_last(lambda: reported(lab), lambda it: it["reports"] >= before["reports"] + 2, rest=1)
    assert now["reports"] == before["reports"] + 2
    assert now["unverified"] == before["unverified"]
    domain = now["domains"]["fortress.test"]
    assert domain["failed"]["2001:db8::66"] >= 3 and domain["sessions"] >= 100
    now = at_last(lambda: reported(lab), lambda it: it["unreadable"] > before["unreadable"], rest=1)
    assert now["unreadable"] == before["unreadable"] + 1
    wanted = {"reports.dmarc", "reports.tls", "reports.unreadable", "tls reports.sessions"}
    counts = at_last(lambda: digested(lab), lambda it: wanted <= {*it}, rest=1)
    assert wanted <= set(counts) and 0 < counts["dmarc.passed"] < counts["dmarc.messages"], counts


def test_the_reports_addresses_are_nobodys_mailbox(lab: Lab) -> None:
    address = f"dmarc-reports@{lab.site.domains[0]}"
    done = mastio(lab.folder, "alias", "add", address, f"alice@{lab.site.domains[0]}")
    assert done.returncode == 65 and "is taken" in done.stderr, done.stderr
    assert mail.recipient(lab, address)[0] == 250
    assert mail.recipient(lab, f"dmarc-report@{lab.site.domains[0]}")[0] == 550
