"""When a certificate is due, what is said of it, and what an authority's complaint is in words."""

import time
from pathlib import Path

import pytest

from mastio import pki
from mastio.verify.model import Severity
from mastio.watch import acme, certificates
from mastio.watch.acme import Chain
from mastio.watch.certificates import Found, Host
from tests.sites import demo_site

SITE = demo_site()
MX = SITE.mx_host
CA = pki.authority("an authority")
DAY = 86400.0
NOW = 1_800_000_000.0
HOST = Host(MX, ("gateway",), (Path("mx.csr"),))


def chain(left: float, life: float = 90) -> Chain:
    end = NOW + left * DAY
    return Chain("d" * 64, "k" * 64, frozenset([MX]), "an authority", end - life * DAY, end)


def made(*names: str, days: int = 90, key: str = "") -> tuple[Chain, str]:
    its_key, pem = pki.issue(*CA, *names, days=days, key_pem=key)
    return acme.read(pem), pki.request(its_key, *names)


def test_a_fresh_one_is_not_due() -> None:
    found, request = made(MX)
    assert not acme.due(found, request, time.time())


def test_it_is_due_when_two_thirds_of_its_life_are_over() -> None:
    """However long that is: authorities shorten it."""
    for days in (6, 45, 90):
        found, request = made(MX, days=days)
        assert not acme.due(found, request, time.time() + days * DAY * 0.6)
        assert acme.due(found, request, time.time() + days * DAY * 0.7)


def test_it_is_due_for_another_key_or_other_names_or_when_there_is_none() -> None:
    found, _ = made(MX)
    assert acme.due(found, made(MX)[1], time.time()), "another key"
    key, pem = pki.issue(*CA, MX)
    assert acme.due(acme.read(pem), pki.request(key, MX, "mta-sts.new.test"), time.time())
    assert not acme.due(acme.read(pem), pki.request(key, MX), time.time())
    assert acme.due(None, pki.request(key, MX), time.time())


def test_what_is_kept_is_read_and_damage_is_none(tmp_path: Path) -> None:
    path = tmp_path / "mx.pem"
    assert acme.chain(path) is None
    path.write_text("half a certi")
    assert acme.chain(path) is None
    path.write_text(pki.issue(*CA, MX)[1] + CA[1])
    assert (found := acme.chain(path)) is not None
    assert found.names == {MX}


def told(found: Found) -> dict[str, tuple[bool, Severity]]:
    rows = certificates.told(found, SITE, NOW)
    return {it.about: (it.well, it.severity) for it in rows if not it.well}


def test_all_is_well_says_three_times_that_it_is() -> None:
    found = Found(HOST, chain(60), "", {"gateway": ""})
    assert told(found) == {}
    assert len(certificates.told(found, SITE, NOW)) == 3


@pytest.mark.parametrize(
    ("left", "severity", "abouts"),
    [
        (30, Severity.MEDIUM, {"renewal"}),
        (13, Severity.HIGH, {"renewal", "days"}),
        (1, Severity.CRITICAL, {"renewal", "days"}),
        (-1, Severity.CRITICAL, {"renewal", "days"}),
    ],
)
def test_a_failed_renewal_is_the_worse_the_fewer_days_are_left(
    left: float, severity: Severity, abouts: set[str]
) -> None:
    found = Found(HOST, chain(left), "rateLimited", {"gateway": ""})
    assert {name.split()[1]: how for name, (_, how) in told(found).items()} == dict.fromkeys(
        abouts, severity
    )


def test_few_days_are_told_also_when_renewal_says_that_it_works() -> None:
    assert told(Found(HOST, chain(13.9), "", {"gateway": ""})) == {
        f"certificate days {MX}": (False, Severity.HIGH)
    }
    assert told(Found(HOST, chain(14.1), "", {"gateway": ""})) == {}


def test_a_machine_that_shows_another_is_told() -> None:
    found = Found(HOST, chain(60), "", {"gateway": "servers show another"})
    assert [*told(found)] == [f"certificate shown {MX}"]


def test_no_certificate_at_all_is_critical() -> None:
    assert told(Found(HOST, None, "", {}))[f"certificate days {MX}"] == (False, Severity.CRITICAL)


def test_the_authoritys_complaint_is_one_line() -> None:
    said = (
        " + Responding to challenge for mx.fortress.test authorization...\n"
        '  + ERROR: Challenge is invalid! (returned: invalid) (result: ["type"] "http-01"\n'
        '["error","detail"]\t"Get \\"http://mx\\": connection refused"\n'
    )
    words = acme.why(said)
    assert words.startswith("ERROR: Challenge is invalid!")
    assert "\n" not in words
    assert acme.why("") == "no word"
