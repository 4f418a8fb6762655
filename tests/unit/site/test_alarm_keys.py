"""`[alarms]` in the site file: who hears of them, and when."""

import pytest

from mastio.site import parse, plain
from mastio.site.model import Alarms
from mastio.site.problems import SiteFileError
from tests.unit.site.test_verify_keys import BASE


def alarms(text: str) -> Alarms:
    return parse.parse(f"{BASE}[alarms]\n{text}\n", "site.toml").alarms


def test_nothing_is_the_default() -> None:
    assert parse.parse(BASE, "site.toml").alarms == Alarms()


def test_all_of_it() -> None:
    text = (
        'mail = ["bob@fortress.test"]\nwebhook = "https://a.test/x"\nquiet = "22:00-06:30"\n'
        'escalate_to = ["chief@fortress.test"]\nescalate_hours = 1.5\noutside = ["ops@far.test"]\n'
        'disk_percent = 70\nheartbeat = "https://b.test/ping/x"'
    )
    wanted = Alarms(
        ("bob@fortress.test",),
        "https://a.test/x",
        (1320, 390),
        ("chief@fortress.test",),
        1.5,
        ("ops@far.test",),
        70,
        "https://b.test/ping/x",
    )
    assert alarms(text) == wanted
    site = parse.parse(f"{BASE}[alarms]\n{text}\n", "site.toml")
    assert plain.recall(plain.record(site)) == site


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('mail = ["bob@elsewhere.test"]', "not of this site"),
        ('escalate_to = ["bob@elsewhere.test"]', "not of this site"),
        ('outside = ["bob@fortress.test"]', "is of this site"),
        ('outside = ["bob"]', "outside"),
        ('webhook = "http://a.test/"', "https"),
        ('webhook = "https://"', "https"),
        ('webhook = "https://u:p@a.test/"', "https"),
        ('webhook = "nonsense"', "https"),
        ('heartbeat = "http://a.test/"', "https"),
        ('quiet = "22-6"', "no span of a day"),
        ('quiet = "24:00-06:00"', "no span of a day"),
        ('quiet = "06:00-06:00"', "ends when it begins"),
        ("escalate_hours = 0", "escalate_hours"),
        ("disk_percent = 99", "disk_percent"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(SiteFileError, match=words):
        alarms(text)
