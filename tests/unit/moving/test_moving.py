"""What moves whither, and that the program which carries it takes what it was told to take and nothing else."""

import io
import os
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mastio.moving import hand
from mastio.moving.duties import duties
from mastio.site.model import Machine, Role
from tests.sites import demo_site

LONE = tuple(it for it in Role if it is not Role.FIREWALL)


def test_a_lone_machines_roles_go_to_those_who_carry_them() -> None:
    found = duties(Machine("mail", LONE, "", ()), demo_site())
    assert {it.role: it.takers for it in found} == {
        Role.GATEWAY_IN: ("gateway",),
        Role.STORE: ("store",),
        Role.WEBMAIL: ("webmail",),
    }


def test_what_a_machine_keeps_does_not_move() -> None:
    site = demo_site()
    assert not duties(site.machine("store"), site)
    more = Machine("store", (Role.STORE, Role.WEBMAIL), "core", ())
    assert [it.role for it in duties(more, site)] == [Role.WEBMAIL]


def test_a_gateway_that_was_there_all_along_takes_nothing() -> None:
    site = demo_site()
    spare = Machine("spare", (Role.GATEWAY_IN,), "edge", ())
    assert not duties(spare, site, (*site.machines, spare))
    (new,) = duties(spare, site, (spare,))
    assert new.takers == ("gateway",)


def given(tree: Path, paths: list[str], **more: Any) -> io.BytesIO:
    out = io.BytesIO()
    order = {"paths": paths, "trees": [str(tree)], "databases": [], "dumps": [], **more}
    hand.give(order, out)
    out.seek(0)
    return out


def filled(tree: Path) -> None:
    (tree / "box/new").mkdir(parents=True)
    (tree / "box/cur").mkdir()
    (tree / "box/cur/1:2,S").write_text("mail")
    (tree / "box/.sieve").symlink_to("sieve/away")
    os.utime(tree / "box/cur/1:2,S", ns=(5, 1_700_000_000_123_456_789))
    os.link(tree / "box/cur/1:2,S", tree / "box/cur/2:2,")


def test_the_other_side_is_alike_to_the_nanosecond(tmp_path: Path) -> None:
    tree, root = tmp_path / "vmail", tmp_path / "other"
    filled(tree)
    before = dict(hand.listed(str(tree)))
    assert any(it.startswith("folder") for path, it in before.items() if path.endswith("/new"))
    order = {"root": str(root), "trees": [str(tree)], "files": [], "renamed": []}
    assert hand.take(order, given(tree, [*before])) == len(before)
    after = {it.removeprefix(str(root)): what for it, what in hand.listed(f"{root}{tree}")}
    assert after == before


def test_what_changed_since_differs_in_the_next_list(tmp_path: Path) -> None:
    filled(tmp_path)
    before = dict(hand.listed(str(tmp_path)))
    (tmp_path / "box/cur/1:2,S").write_text("liam")  # as long as before
    changed = {path for path, what in hand.listed(str(tmp_path)) if before[path] != what}
    assert changed == {f"{tmp_path}/box/cur/1:2,S", f"{tmp_path}/box/cur/2:2,"}


def test_a_database_in_use_comes_whole_and_goes_where_it_is_told(tmp_path: Path) -> None:
    database = tmp_path / "directory.sqlite"
    with sqlite3.connect(database) as base:
        base.execute("CREATE TABLE account (address)")
        base.execute("INSERT INTO account VALUES ('alice')")
    base.close()
    name = str(database).lstrip("/")
    renamed = [[str(database), f"{tmp_path}/there/accounts"]]
    order = {"root": "", "trees": [], "files": [name], "renamed": renamed}
    hand.take(order, given(tmp_path, [], databases=[str(database)]))
    with sqlite3.connect(tmp_path / "there/accounts") as copy:
        assert copy.execute("SELECT address FROM account").fetchall() == [("alice",)]
    copy.close()


def packed(name: str, **more: Any) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.pax_headers = {"MASTIO.mtime_ns": "0"}
        for key, value in more.items():
            setattr(info, key, value)
        archive.addfile(info)
    out.seek(0)
    return out


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (packed("etc/shadow"), "not asked for: /etc/shadow"),
        (packed("var/vmail/../../etc/shadow"), "not asked for"),
        (packed("var/vmail/a", type=tarfile.SYMTYPE, linkname="/etc/shadow"), "into its own"),
        (packed("var/vmail/a", type=tarfile.SYMTYPE, linkname="../../etc"), "into its own"),
        (packed("var/vmail/a", type=tarfile.CHRTYPE), "neither a file nor a folder"),
        (packed("var/vmail/a", type=tarfile.LNKTYPE, linkname="etc/shadow"), "neither a file"),
    ],
)
def test_a_machine_that_was_broken_into_gives_nothing_but_mail(
    tmp_path: Path, archive: io.BytesIO, words: str
) -> None:
    order = {"root": str(tmp_path), "trees": ["/var/vmail"], "files": [], "renamed": []}
    with pytest.raises(ValueError, match=words):
        hand.take(order, archive)
    assert not [*tmp_path.rglob("*")]


def test_it_gives_and_drops_only_below_what_it_was_told(tmp_path: Path) -> None:
    filled(tmp_path)
    for order in ({"do": "give"}, {"do": "drop"}):
        with pytest.raises(ValueError, match="not asked for"):
            hand.main({**order, "paths": ["/etc/passwd"], "trees": [str(tmp_path)]})
    listed = [path for path, _ in hand.listed(str(tmp_path))]
    hand.drop({"paths": listed, "trees": [str(tmp_path)]})
    assert not [*tmp_path.iterdir()]
