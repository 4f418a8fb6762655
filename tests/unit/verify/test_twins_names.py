"""Broken twins of names and of mail on its way: D2, D4, D10, D12, T3, T5, T6, T8, A5."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from mastio import secrets
from mastio.build import build
from mastio.context import Internet
from mastio.dns import records, sts
from mastio.errors import MastioError
from mastio.roles.gateway import signing
from mastio.vault import Vault
from mastio.verify.checks import auth, delivery, dnspolicy, promises, tls
from mastio.verify.probes import names, postfix
from mastio.verify.probes import tls as tls_probe
from mastio.verify.vantage import NotRunError, Vantage
from tests import sites
from tests.unit.verify.fakes import ground, vantage
from tests.unit.verify.test_twins import certificate


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
    """Every probe gives what `answer` says; it gets the function and its arguments."""
    monkeypatch.setattr(Vantage, "ask", lambda self, function, *args, **kw: answer(function, *args))


def test_the_selectors_of_each_domain_are_read() -> None:
    text = """
enabled = true;
domain {
  "a.test" {
    selectors = [
      { selector = "k1r"; path = "/etc/rspamd/dkim/a.test.k1r.key"; },
      { selector = "k1e"; path = "/etc/rspamd/dkim/a.test.k1e.key"; }
    ];
  }
  "b.test" { selectors = [ ]; }
}
"""
    assert dnspolicy.selectors(text) == {"a.test": ["k1r", "k1e"], "b.test": []}


@pytest.mark.parametrize(
    ("age", "words"),
    [(0, ""), (187, ""), (188, "have signed for 188 days; policy.dkim_days is 180")],
)
def test_d12(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, age: int, words: str) -> None:
    """As the gateway is really written."""
    site, vault = sites.demo_site(), Vault(tmp_path, {})
    secrets.ensure(vault, site)
    (settings,) = [
        it.content
        for it in build(site, vault, Internet())["gateway"].files
        if it.path == f"/etc/{signing.SETTINGS}"
    ]
    today = datetime.now(UTC).date()
    assert dnspolicy.signing_since(settings) == {site.domains[0]: today}
    old = settings.replace(str(today), str(today - timedelta(days=age)))
    answering(monkeypatch, lambda *_: old)
    found = list(dnspolicy.rotated(vantage("gateway")))
    assert len(found) == bool(words) and all(words in it for it in found)
    answering(monkeypatch, lambda *_: settings.replace("have signed", "sign"))
    with pytest.raises(MastioError, match="since when the keys of"):
        list(dnspolicy.rotated(vantage("gateway")))


def test_d4_the_policy_that_is_published_is_sound() -> None:
    site = sites.demo_site()
    text = sts.policy(site)
    assert list(promises.policy_faults(text, (site.mx_host,))) == []
    assert (
        list(promises.policy_faults(text.replace(site.mx_host, "*.fortress.test"), (site.mx_host,)))
        == []
    )


@pytest.mark.parametrize(("old", "new", "words"), [
    ("mode: enforce", "mode: testing", "mode is testing"),
    ("version: STSv1", "version: 2", "version is 2"),
    ("max_age: 2419200", "max_age: 99999999", "max_age is 99999999"),
    ("max_age: 2419200\r\n", "", "max_age is missing"),
    ("mx: mx.fortress.test", "mx: mx.other.test", "does not name the MX mx.fortress.test"),
    ("mx: mx.fortress.test", "mx: *.test", "does not name the MX"),
])  # fmt: skip
def test_d4_a_policy_that_is_not(old: str, new: str, words: str) -> None:
    text = sts.policy(sites.demo_site())
    assert old in text
    (fault,) = promises.policy_faults(text.replace(old, new), ("mx.fortress.test",))
    assert words in fault


_PARKED = {
    ("parked.test", "MX"): [""],
    ("parked.test", "TXT"): ["v=spf1 -all"],
    ("_dmarc.parked.test", "TXT"): ["v=DMARC1; p=reject; sp=reject"],
}


@pytest.mark.parametrize(("name", "kind", "answer", "words"), [
    ("", "", [], ""),
    ("parked.test", "MX", [], "MX is missing"),
    ("parked.test", "MX", ["mx.parked.test"], "not the null MX"),
    ("parked.test", "TXT", ["v=spf1 ~all"], "SPF is v=spf1 ~all"),
    ("_dmarc.parked.test", "TXT", ["v=DMARC1; p=none; sp=reject"], "not p=reject"),
])  # fmt: skip
def test_d10(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, answer: list[str], words: str
) -> None:
    said = _PARKED | {(name, kind): answer}
    answering(monkeypatch, lambda _, *it: {"code": 0, "secure": True, "answers": said[it]})
    site = sites.demo_site()
    site = replace(site, dns=replace(site.dns, parked=("parked.test",)))
    found = list(promises.parked(Vantage("outside", ground(site=site), monotonic() + 10)))
    assert [words in it for it in found] == ([True] if words else [])


def test_t6_a_record_tells_its_own_key_only() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    mine, other = (
        x509.load_der_x509_certificate(_der(it))
        for it in (key, ec.generate_private_key(ec.SECP256R1()))
    )
    record = records.tlsa("mx", 25, mine.public_bytes(delivery.Encoding.PEM).decode()).data
    assert delivery.tells(record, mine) and not delivery.tells(record, other)
    # The usages of the web's authorities mean nothing to mail (RFC 7672, 3.1.3).
    assert not delivery.tells(f"1{record[1:]}", mine)


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    import base64

    return base64.b64decode(certificate(key, SHA256()))


_SENDS = {
    "smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec",
    "smtp_tls_policy_maps": "socketmap:unix:/run/x:policy",
}  # fmt: skip


@pytest.mark.parametrize(("change", "override", "said", "secure", "fires"), [
    ({}, [], {"found": ""}, True, False),
    ({"smtp_tls_security_level": "may"}, [], {"found": ""}, True, True),
    ({}, [["smtp/unix", "smtp_tls_security_level", "none"]], {"found": ""}, True, True),
    ({}, [["store/unix", "smtp_tls_security_level", "secure"]], {"found": ""}, True, False),
    ({"smtp_tls_policy_maps": ""}, [], {"found": ""}, True, True),
    ({}, [], {"error": "lookup error"}, True, True),
    ({}, [], {"found": ""}, False, True),
])  # fmt: skip
def test_t8(
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    override: list[list[str]],
    said: dict[str, str],
    secure: bool,
    fires: bool,
) -> None:
    answers: dict[object, Any] = {
        postfix.settings: {
            "main": [[*it] for it in (_SENDS | change).items()],
            "services": override,
        },
        postfix.answer: said,
        names.look_up: {"secure": secure},
    }
    answering(monkeypatch, lambda function, *_: answers[function])
    assert bool(list(delivery.verifies_others(vantage("gateway")))) is fires


@pytest.mark.parametrize(("rules", "owners", "fires"), [
    ("reject_non_fqdn_sender, reject_authenticated_sender_login_mismatch", "alice@fortress.test", False),
    ("reject_non_fqdn_sender", "alice@fortress.test", True),
    ("permit_sasl_authenticated, reject_sender_login_mismatch", "alice@fortress.test", True),
    ("reject_sender_login_mismatch", "alice@fortress.test, bob@fortress.test", True),
    # Nobody is the administrator's mailbox yet, or it is elsewhere: nothing to look at.
    ("reject_sender_login_mismatch", "", None),
    ("reject_non_fqdn_sender", "", True),
])  # fmt: skip
def test_a5(monkeypatch: pytest.MonkeyPatch, rules: str, owners: str, fires: bool | None) -> None:
    port = "10.77.3.10:465/inet"
    answers: dict[object, Any] = {
        postfix.settings: {
            "main": [["smtpd_sender_login_maps", "sqlite:/x"]],
            "services": [[port, "smtpd_sasl_auth_enable", "yes"], [port, "smtpd_sender_restrictions", rules]],
        },
        postfix.answer: {"found": owners},
    }  # fmt: skip
    answering(monkeypatch, lambda function, *_: answers[function])
    found: list[str] = []
    if owners:
        found += auth.own_address(vantage("store"))
    else:
        with pytest.raises(NotRunError, match="is no mailbox here"):
            found.extend(auth.own_address(vantage("store")))
    assert bool(found) is bool(fires)


def test_a5_looks_at_doors_where_somebody_can_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for level, only, count in (("none", "yes", 0), ("none", "no", 1), ("may", "yes", 1)):
        door = [("smtpd_sasl_auth_enable", "yes"), ("smtpd_tls_security_level", level)]
        said = {
            "main": [["smtpd_sender_login_maps", "sqlite:/x"], ["smtpd_tls_auth_only", only]],
            "services": [["sieve/unix", *it] for it in door],
        }
        answers: dict[object, Any] = {
            postfix.settings: said,
            postfix.answer: {"found": "alice@fortress.test"},
        }
        answering(monkeypatch, lambda function, *_, it=answers: it[function])
        assert len([*auth.own_address(vantage("store"))]) == count


def _hello(*extensions: tuple[int, bytes], compression: int = 0) -> bytes:
    block = b"".join(
        key.to_bytes(2, "big") + len(it).to_bytes(2, "big") + it for key, it in extensions
    )
    body = b"\3\3" + bytes(32) + b"\0" + b"\xc0\x2b" + bytes([compression])
    body += len(block).to_bytes(2, "big") + block
    return b"\2" + len(body).to_bytes(3, "big") + body


_DONE = b"\x0e\0\0\0"


def test_t3_and_t5_read_the_hello_of_a_server() -> None:
    read = tls_probe._parsed
    sound = _hello((0xFF01, b"\0"), (23, b""))
    assert read(sound) == {}, "more is to come"
    exchange = b"\x0c\0\0\3\3\x01\x00"
    assert read(sound + exchange + _DONE) == {
        "group": 0x0100, "compresses": False, "renegotiates": True, "binds": True,
    }  # fmt: skip
    old = read(_hello(compression=1) + _DONE)
    assert old["compresses"] and not old["renegotiates"] and not old["binds"]
    assert read(_hello((43, b"\3\4"), (51, b"\x11\xec")))["group"] == 0x11EC


@pytest.mark.parametrize(("change", "t3", "t5"), [
    ({}, 0, 0),
    ({"groups": ["ffdhe2048"]}, 1, 0),
    ({"hybrid": False}, 1, 0),
    ({"hello": {}}, 0, 0),
    ({"hello": {"compresses": True, "renegotiates": True, "binds": True}}, 0, 1),
    ({"hello": {"compresses": False, "renegotiates": False, "binds": False}}, 0, 2),
])  # fmt: skip
def test_t3_and_t5(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], t3: int, t5: int
) -> None:
    seen = {
        "groups": [],
        "hybrid": True,
        "hello": {"compresses": False, "renegotiates": True, "binds": True},
    }
    answering(monkeypatch, lambda _, doors: [seen | change for _ in doors])
    here = vantage("outside")
    many = len(tls.secure(here.matrix, "outside"))
    assert (len(list(tls.groups(here))), len(list(tls.handshake(here)))) == (t3 * many, t5 * many)


@pytest.mark.parametrize(("code", "words"), [
    (None, ""), ("127.0.0.2", "203.0.113.1 is on zen.spamhaus.org: 127.0.0.2"),
])  # fmt: skip
def test_d9_who_is_on_a_block_list_is_told(
    monkeypatch: pytest.MonkeyPatch, code: str | None, words: str
) -> None:
    def said(_: object, name: str, kind: str) -> dict[str, object]:
        hit = code and (name, kind) == ("1.113.0.203.zen.spamhaus.org", "A")
        return {"code": 0 if hit else 3, "secure": False, "answers": [code] if hit else []}

    answering(monkeypatch, said)
    assert list(dnspolicy.listed(vantage("outside"))) == ([words] if words else [])


def test_d9_a_list_that_refuses_to_answer_is_no_good_news(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"code": 0, "secure": False, "answers": ["127.255.255.254"]}
    answering(monkeypatch, lambda *_: answer)
    with pytest.raises(MastioError, match="does not answer this resolver"):
        list(dnspolicy.listed(vantage("outside")))
