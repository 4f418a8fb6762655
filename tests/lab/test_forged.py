"""Who a message is from, when SPF does not tell or DNS does not answer: forged is never let in.

`test_filter` has what happens when all can be asked.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mastio.lab import outside
from mastio.site.model import Role
from tests.lab import arc
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, the, token
from tests.lab.sabotage import Sabotage, sabotaged
from tests.lab.test_filter import PILLS, arrives, fires, send, somebody

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def key(lab: Lab) -> str:
    """The key by which Carol's MTA signs."""
    return lab.run(outside.MACHINE, ["cat", "/etc/exim4/dkim.key"]).stdout.decode()


# --- DKIM alone


def test_a_signature_proves_what_spf_does_not(lab: Lab, alice: tuple[str, str], key: str) -> None:
    """From an address that no policy names: SPF fails, and only the signature is left."""
    word = token()
    text = arc.signed(message(CAROL, alice[0], word), outside.DOMAIN, "m1", key)
    for changed in (text.replace("Good day", "Bad day"), text.replace(word, token())):
        assert changed != text
        fires(send(lab, changed, CAROL, alice[0]), "DMARC policy")
    fires(send(lab, message(CAROL, alice[0], token()), CAROL, alice[0]), "DMARC policy")
    assert send(lab, text, CAROL, alice[0])[0] == 250
    verdict = str(arrives(lab, alice, word)["Authentication-Results"])
    assert "dkim=pass" in verdict and "spf=fail" in verdict and "dmarc=pass" in verdict, verdict


def test_who_is_proven_by_a_signature_is_not_greylisted(
    lab: Lab, alice: tuple[str, str], key: str
) -> None:
    """Sent on by somebody else's host, under a name of its own."""
    author, stranger, word = somebody(outside.DOMAIN), somebody(), token()
    letter = message(author, alice[0], word, PILLS)
    assert send(lab, arc.signed(letter, outside.DOMAIN, "m1", key), stranger, alice[0])[0] == 250
    assert arrives(lab, alice, word)
    code, text = send(lab, message(stranger, alice[0], token(), PILLS), stranger, alice[0])
    assert code == 451 and "greylisted" in text, text


# --- DNS does not answer


@contextmanager
def unanswered(lab: Lab, *names: str) -> Iterator[None]:
    """Who asks for TXT of these names gets SERVFAIL: a record is added to each that its zone's key has not signed."""
    zones = {
        name: f"/etc/knot/zones/{domain}.zone"
        for name in names
        for domain in (outside.DOMAIN, *lab.site.domains)
        if name.endswith(f".{domain}")
    }
    assert len(zones) == len(names)
    spoil = "; ".join(f"echo '{name}. 60 TXT \"x\"' >> {zone}" for name, zone in zones.items())
    with sabotaged(
        lab,
        Sabotage("records unsigned", outside.MACHINE, spoil, "", tuple({*zones.values()}),
                 "systemctl restart knot.service"),
        # Rspamd remembers policies and keys as well.
        Sabotage("nothing remembered", the(lab, Role.GATEWAY_IN).name, "systemctl restart rspamd.service", "",
                 after="systemctl restart unbound.service"),
    ):  # fmt: skip
        yield


def test_nobody_can_be_forged_while_dns_does_not_answer(
    lab: Lab, alice: tuple[str, str], key: str
) -> None:
    own, stranger = lab.site.domains[0], somebody()
    selector = json.loads(lab.mastio("dkim", "list", "--json"))[0]["selector"]
    bob, subdomains_bob = f"bob@{own}", f"bob@{lab.site.mx_host}"
    signed = arc.signed(message(bob, alice[0], token()), own, selector, key)
    cases = (
        (message(CAROL, alice[0], token()), CAROL, "DMARC policy of", "DMARC policy"),
        (message(subdomains_bob, alice[0], token()), subdomains_bob, "who sent it", "nothing proves"),
        (signed, stranger, "who sent it", "nothing proves"),
    )  # fmt: skip
    names = (f"_dmarc.{outside.DOMAIN}", lab.site.mx_host, f"{selector}._domainkey.{own}")
    with unanswered(lab, *names):
        for letter, sender, later, _ in cases:
            code, text = send(lab, letter, sender, alice[0])
            assert code == 451 and "cannot be checked now" in text and later in text, text
        fires(send(lab, message(bob, alice[0], token()), stranger, alice[0]), "nothing proves")
        proven, other = message(CAROL, alice[0], token()), message(stranger, alice[0], token())
        assert send(lab, proven, CAROL, alice[0], forged=False)[0] == 250, "it needs no policy"
        assert send(lab, other, stranger, alice[0])[0] == 250
    for letter, sender, _, refused in cases:
        fires(send(lab, letter, sender, alice[0]), refused)
