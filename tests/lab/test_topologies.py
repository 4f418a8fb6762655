"""The smallest topology, real: all roles on one machine that stands on the internet by itself.

It is a lab of its own beside the session's, taken down at the end. What each role does is tested on the default
topology; here is what only a shared machine can get wrong: two Postfixes, flows that never leave it, a watch that
looks after its own machine, and verification that says what it cannot tell.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from mastio.instances import BESIDE
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.own import own_lab_of
from tests.lab.sabotage import Sabotage, sabotaged
from tests.lab.test_certificates import come_and_are_renewed
from tests.lab.test_filter import FILED, attached
from tests.lab.test_quarantine import held
from tests.lab.test_verify import NOT_HERE, having, verify
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

# No other machine to reach from, no perimeter to prove or to listen on.
ALONE = {"N2", "N5", "I4"}
MACHINE = "mail"


@pytest.fixture(scope="module")
def lab(own_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with own_lab_of("single", tmp_path_factory.mktemp("single")) as single:
        yield single


@pytest.fixture(scope="module")
def report(lab: Lab) -> dict[str, Any]:
    return verify(lab)


def test_mail_comes_in_goes_round_and_leaves(lab: Lab) -> None:
    alice, bob = list(lab.accounts.items())[:2]
    coming, round_, leaving = token(), token(), token()
    mail.from_carol(lab, message(CAROL, alice[0], coming))
    assert mail.submit(lab, *alice, message(alice[0], bob[0], round_))[0] == 250
    assert mail.submit(lab, *alice, message(alice[0], CAROL, leaving))[0] == 250
    (got,) = mail.inbox(lab, *alice, coming)
    assert lab.site.mx_host in mail.headers(got)
    assert mail.inbox(lab, *bob, round_)
    (left,) = mail.at_carols(lab, leaving)
    assert not [name for name in mail.inside_names(lab) if name in mail.headers(left)]


def test_what_a_users_script_answers_leaves_by_the_stores_postfix(lab: Lab) -> None:
    """The machine has two, and the default one is the gateway's."""
    bob, word = list(lab.accounts)[1], token()
    script = f'require "vacation"; vacation :subject "{word}" "I am at the sea.";\n'
    put = ["doveadm", "sieve", "put", "-u", bob, "-a", "away"]
    assert lab.run(MACHINE, put, script.encode()).code == 0
    mail.from_carol(lab, message(CAROL, bob, token()))
    (answer,) = mail.at_carols(lab, word)
    assert "at the sea" in str(answer.get_payload())
    assert lab.run(MACHINE, ["doveadm", "sieve", "deactivate", "-u", bob]).code == 0


def test_what_waits_on_its_way_out_waits_in_the_gateways_postfix(lab: Lab) -> None:
    alice, word = next(iter(lab.accounts.items())), token()
    with tuned(lab, '[filter.leaving]\nmacro_documents = "quarantine"\n'):
        letter = attached(*FILED["macros"], alice[0], CAROL, word)
        assert mail.submit(lab, *alice, letter)[0] == 250
        (entry,) = held(lab, word)
        assert (entry["direction"], entry["machine"]) == ("leaving", MACHINE)
        assert entry["id"] not in lab.mastio("outbound", "show", "--json")
        told = mail.inbox(lab, *alice, "of yours not sent yet")
        assert any(entry["id"] in str(it.get_payload(decode=True)) for it in told)
        lab.mastio("quarantine", "release", entry["id"])
    (left,) = mail.at_carols(lab, word)
    assert not [name for name in mail.inside_names(lab) if name in mail.headers(left)]
    assert not [name for name in left if name.startswith("X-Mastio")]


def test_the_store_may_be_away_while_the_gateway_takes_mail(lab: Lab) -> None:
    alice, word = next(iter(lab.accounts.items())), token()
    assert lab.run(MACHINE, ["systemctl", "stop", BESIDE.unit]).code == 0
    try:
        assert mail.deliver(lab, message(CAROL, alice[0], word))[0] == 250
    finally:
        assert lab.run(MACHINE, ["systemctl", "start", BESIDE.unit]).code == 0
    lab.run(MACHINE, ["systemctl", "start", "mastio-onward.service"])
    assert mail.inbox(lab, *alice, word)


def test_it_is_green_and_says_what_it_cannot_tell(lab: Lab, report: dict[str, Any]) -> None:
    assert not having(report, "failed") and not having(report, "could not check")
    left = having(report, "not run")
    assert ALONE <= {*left} <= NOT_HERE | ALONE
    assert any("no other machine" in it for it in left["N2"])
    assert any("no perimeter" in it for it in left["N5"])
    assert report["code"] == 0
    assert "Nothing to do" in lab.mastio("plan", MACHINE)


def test_what_is_wrong_is_found(lab: Lab) -> None:
    """The host's firewall is all that keeps strangers from IMAP; the store's Postfix is the one that users reach."""
    setting = f"postconf -c {BESIDE.config} -e cleanup_replace_stray_cr_lf=no"
    broken = (
        Sabotage("open", MACHINE, "nft insert rule inet mastio input iifname internet accept", "N1 N7",
                 undo="nft -f /etc/nftables.conf"),
        Sabotage("smuggling", MACHINE, setting, "R5", (f"{BESIDE.config}/main.cf",)),
    )  # fmt: skip
    with sabotaged(lab, *broken):
        found = having(verify(lab), "failed")
    assert {*found} == {"N1", "N7", "R5"}, found
    assert any("993/tcp" in it for it in found["N1"])
    assert any(BESIDE.config in it for it in found["R5"])


def test_watch_shuts_out_and_archives_on_its_own_machine_and_mail_comes_back(lab: Lab) -> None:
    alice, word = next(iter(lab.accounts.items())), token()
    mail.from_carol(lab, message(CAROL, alice[0], word))
    assert mail.inbox(lab, *alice, word)
    lab.mastio("backup", "now")
    lab.run(MACHINE, ["doveadm", "expunge", "-u", alice[0], "mailbox", "INBOX", "subject", word])
    lab.mastio("restore", "mailbox", alice[0], "--in-place", "--deleted")
    assert mail.inbox(lab, *alice, word)
    done = verify(lab, "--only", "A2,B1,B3,B4")
    assert {*having(done, "passed")} == {"A2", "B1", "B3", "B4"}


def test_certificates_come_by_http_which_its_own_webmail_answers(lab: Lab) -> None:
    """The last one: from here on the site asks an authority."""
    come_and_are_renewed(lab)
