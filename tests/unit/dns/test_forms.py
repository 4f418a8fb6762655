"""Records for nsupdate and for a registrar's web page."""

from mastio.dns import forms
from mastio.dns import records as make
from mastio.dns.check import Answer, compare
from mastio.dns.records import Record

HASH = "ab" * 32
LONG = "v=DKIM1; k=rsa; p=" + "A" * 400
ZONE = (
    make.mx("a.test", "mx.a.test").because("mail comes here"),
    Record("a.test", "TXT", make.text("v=spf1 -all")),
    Record("k1r._domainkey.a.test", "TXT", make.text(LONG)),
    Record("a.test", "CAA", '0 issue "letsencrypt.org"'),
    Record("a.test", "CAA", '0 iodef "mailto:h@a.test"'),
    Record("_imaps._tcp.a.test", "SRV", "0 0 0 ."),
    Record("_25._tcp.mx.a.test", "TLSA", f"3 1 1 {HASH}"),
)
GROUPS = {"a.test": ZONE, "": (Record("1.113.0.203.in-addr.arpa", "PTR", "mx.a.test."),)}


def test_an_update_replaces_what_is_ours_alone_and_adds_to_what_is_shared() -> None:
    lines = forms.update(GROUPS).splitlines()
    assert (lines[0], lines[-1]) == ("zone a.test.", "send")
    assert "update delete a.test. MX" in lines
    assert [it for it in lines if it.startswith("update delete a.test. CAA")] == [
        "update delete a.test. CAA"
    ]
    assert not [it for it in lines if "delete" in it and "TXT" in it]
    assert 'update add a.test. 3600 TXT "v=spf1 -all"' in lines
    assert not [it for it in lines if "PTR" in it]
    assert lines.index("update delete a.test. CAA") < lines.index(
        'update add a.test. 3600 CAA 0 issue "letsencrypt.org"'
    )


def answers(**changes: tuple[str, ...]) -> dict[tuple[str, str], Answer]:
    found: dict[tuple[str, str], Answer] = {}
    for it in ZONE:
        known = found.get((it.owner, it.type), Answer())
        found[it.owner, it.type] = Answer((*known.data, it.data))
    for kind, data in changes.items():
        found["a.test", kind] = Answer(data)
    return found


def test_when_all_is_as_it_should_be_there_is_nothing_to_mend() -> None:
    assert forms.mending(GROUPS, compare(ZONE, answers())) == ""


def test_mending_changes_what_differs_and_leaves_what_is_others() -> None:
    there = answers(TXT=('"v=spf1 +all"', '"somebody=verified"'), MX=())
    lines = forms.mending(GROUPS, compare(ZONE, there)).splitlines()
    assert lines == [
        "zone a.test.",
        "update add a.test. 3600 MX 10 mx.a.test.",
        'update delete a.test. TXT "v=spf1 +all"',
        'update add a.test. 3600 TXT "v=spf1 -all"',
        "send",
    ]


def test_a_long_text_is_cut_into_strings_for_nsupdate_and_whole_for_people() -> None:
    there = answers()
    there["k1r._domainkey.a.test", "TXT"] = Answer()
    (line,) = [it for it in forms.mending(GROUPS, compare(ZONE, there)).splitlines() if "add" in it]
    assert '" "' in line
    assert f"value     {LONG}\n" in forms.fields(GROUPS)


def test_fields_are_as_a_web_page_asks_for_them() -> None:
    said = forms.fields(GROUPS)
    assert (
        "name      @\ntype      MX\npriority  10\nvalue     mx.a.test\nwhy       mail comes here\n"
        in said
    )
    assert (
        f"name      _25._tcp.mx\ntype      TLSA\nusage     3\nselector  1\nmatching  1\nvalue     {HASH}\n"
        in said
    )
    assert "flags     0\ntag       issue\nvalue     letsencrypt.org\n" in said
    assert "type      SRV\npriority  0\nweight    0\nport      0\nvalue     .\n" in said
    assert "name      1.113.0.203.in-addr.arpa\ntype      PTR\nvalue     mx.a.test\n" in said
