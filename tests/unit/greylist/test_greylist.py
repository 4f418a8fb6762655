"""The live lists: the file in the site folder, and what a gateway makes of it."""

from pathlib import Path

import pytest

from mastio.errors import MastioError
from mastio.greylist import gateway, lists
from mastio.greylist.lists import Verdict


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = {"a@example.org": Verdict.ALLOW, "192.0.2.0/24": Verdict.BLOCK}
    lists.write(tmp_path, known)
    assert lists.read(tmp_path) == known


def test_no_file_is_an_empty_list(tmp_path: Path) -> None:
    assert lists.read(tmp_path) == {}


@pytest.mark.parametrize(
    "line", ["welcome example.org", "allow", "allow nobody", "block 192.0.2.1/24"]
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / lists.FILE).write_text(f"# mine\nallow example.org\n{line}\n")
    with pytest.raises(MastioError, match=r"greylist\.txt:3"):
        lists.read(tmp_path)


def test_networks_stand_apart() -> None:
    made = lists.files({"192.0.2.0/24": Verdict.BLOCK, "example.org": Verdict.ALLOW})
    assert made == {
        "allow": "example.org\n", "allow-networks": "", "block": "", "block-networks": "192.0.2.0/24\n",
    }  # fmt: skip


def test_the_gateway_writes_what_changed_only(tmp_path: Path) -> None:
    assert gateway.write(tmp_path, {"allow": "a\n", "block": ""}) == ["allow", "block"]
    assert gateway.write(tmp_path, {"allow": "a\n", "block": "b\n"}) == ["block"]
    assert (tmp_path / "block").read_text() == "b\n"


def test_entries_are_newest_first() -> None:
    found = gateway.entries(["k1", "k2", "gone"], ['{"first":"1"}', '{"first":"2"}', "{}"])
    assert [it["key"] for it in found] == ["k2", "k1"]


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (b"a@plain.test", "a@plain.test"),
        (b"a\xe2\x80\xa8b@plain.test", "a\u2028b@plain.test"),
        (b"\xc2\x85@plain.test", "\x85@plain.test"),
        (b"\xc0\x80@plain.test", "\ufffd\ufffd@plain.test"),
    ],
)
def test_no_strangers_address_hides_the_others(octets: bytes, shown: str) -> None:
    """Valkey says most of what is in it as it is: here the ends of lines that others know, and no UTF-8."""
    said = (
        b'{"first":"2","sender":"'
        + octets
        + b'"}\n{"first":"1","sender":"z@plain.test"}\n{"waits":"2"}\n'
    )
    *replies, counts = gateway.lines(said)
    assert counts == '{"waits":"2"}'
    assert [it["sender"] for it in gateway.entries(["k1", "k2"], replies)] == [
        shown,
        "z@plain.test",
    ]
