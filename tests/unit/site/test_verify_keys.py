"""`[verify]` in the site file: a machine outside, and failures that are accepted for a time."""

from datetime import date

import pytest

from mastio.site import parse
from mastio.site.model import Accepted
from mastio.transport import OUTSIDE, SshTransport

BASE = """\
schema = 1
name = "demo"
organisation = "Fortress"
domains = ["fortress.test"]
admin = "alice@fortress.test"
public = ["203.0.113.1"]
reach = "lab"
"""


def test_nothing_is_the_default() -> None:
    site = parse.parse(BASE, "site.toml")
    assert site.verify_outside == "" and site.accepted == ()


def test_a_machine_outside_is_reached_by_its_ssh_name() -> None:
    site = parse.parse(BASE + '[verify]\noutside = "vps"\n', "site.toml")
    assert site.verify_outside == "vps"
    argv = SshTransport(site, share=False).argv(OUTSIDE, ["true"])
    assert argv[-3:] == ["--", "vps", "true"]


def test_a_failure_is_accepted_with_a_reason_and_a_day() -> None:
    text = BASE + '[verify.accepted.D6]\nreason = "the registry is slow"\nuntil = "2027-01-31"\n'
    (one,) = parse.parse(text, "site.toml").accepted
    assert one == Accepted("D6", "the registry is slow", date(2027, 1, 31))


def test_some_findings_of_a_check_are_accepted() -> None:
    text = BASE + '[verify.accepted.X1]\nreason = "y"\nuntil = "2027-01-31"\nonly = ["KRNL-5820"]\n'
    (one,) = parse.parse(text, "site.toml").accepted
    assert one.only == ("KRNL-5820",)


@pytest.mark.parametrize(("table", "words"), [
    ('[verify]\noutside = "-oProxyCommand=x"\n', "no host of ssh_config"),
    ('[verify.accepted.D6]\nreason = "x"\nuntil = "soon"\n', "must be a day"),
    ('[verify.accepted.D6]\nreason = "x"\n', "must be a day"),
    ('[verify.accepted.D6]\nuntil = "2027-01-31"\n', "is missing"),
    ('[verify.accepted.D6]\nwhy = "x"\n', "unknown key"),
])  # fmt: skip
def test_what_is_wrong_is_said(table: str, words: str) -> None:
    with pytest.raises(parse.SiteFileError, match=words):
        parse.parse(BASE + table, "site.toml")
