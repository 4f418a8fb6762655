"""`mastio domain | user | alias | sync`, as a user calls them."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mastio.cli import accounts as commands
from mastio.cli.common import App
from mastio.errors import Exit, MastioError
from mastio.site.model import Site
from mastio.transport import Transport
from tests.sites import demo_site
from tests.unit.accounts.local import House
from tests.unit.accounts.test_model import HASH

ALICE = "alice@fortress.test"


class HouseApp(App):
    """The command line's surroundings, with a house behind them."""

    def __init__(self, house: House) -> None:
        super().__init__("")
        self.house = house

    def site(self) -> Site:
        return demo_site()

    def transport(self) -> Transport:
        return self.house.transport


def invoke(house: House, *words: str | Path, stdin: str = "") -> Result:
    noun, *rest = map(str, words)
    return CliRunner().invoke(
        getattr(commands, noun), rest, obj=HouseApp(house), input=stdin, catch_exceptions=False,
        standalone_mode=False,
    )  # fmt: skip


def run(house: House, *words: str | Path, stdin: str = "", code: int = 0) -> str:
    done = invoke(house, *words, stdin=stdin)
    assert int(done.return_value or 0) == code
    return done.stdout


def test_a_user_s_life(house: House) -> None:
    out = run(house, "user", "add", ALICE, "--name", "Alice", "--generate")
    password = out.split("password: ")[1].strip()
    assert len(password) == 20 and password not in run(house, "user", "show", ALICE)
    run(
        house,
        "user",
        "add",
        "Bob@Fortress.test",
        "--password-stdin",
        stdin="correct horse battery\n",
    )
    out = run(
        house,
        "user",
        "change",
        "bob@fortress.test",
        "--forward-to",
        ALICE,
        "--no-keep-copy",
        "--quota",
        "9",
    )
    assert out == "done: bob@fortress.test\n"
    listed = run(house, "user", "list")
    assert "5120 MiB" in listed and f"→ {ALICE}" in listed
    bob = json.loads(run(house, "user", "show", "bob@fortress.test", "--json"))
    assert (bob["quota_mib"], bob["forwards"], bob["keep_copy"]) == (9, [ALICE], False)
    run(house, "user", "change", "bob@fortress.test", "--disable", "--no-forward")
    assert "disabled" in run(house, "user", "list", "fortress.test")
    run(house, "user", "delete", "bob@fortress.test", "--purge")
    assert [it["address"] for it in json.loads(run(house, "user", "list", "--json"))] == [ALICE]
    assert run(house, "user", "list", "other.test") == ""


def test_a_domain_that_is_data_alone_says_what_only_the_site_file_gives(house: House) -> None:
    done = invoke(house, "domain", "add", "b.test")
    for words in ("DKIM", "SPF", "DMARC", "MTA-STS", "filter", "`domains` in site.toml",
                  "`mastio apply`", "`mastio dns`"):  # fmt: skip
        assert words in done.stderr, words
    rows = run(house, "domain", "list").splitlines()
    marked = {row.split()[0]: "not in the site file" in row for row in rows}
    assert marked == {"b.test": True, "fortress.test": False}
    listed = json.loads(run(house, "domain", "list", "--json"))
    assert {it["name"]: it["in_site_file"] for it in listed} == {
        "b.test": False,
        "fortress.test": True,
    }
    assert "in site file: False" in run(house, "domain", "show", "b.test")
    run(house, "domain", "delete", "b.test")
    assert "not in the site file" not in run(house, "domain", "list")


def test_domains_and_aliases(house: House) -> None:
    run(house, "user", "add", ALICE, "--generate")
    run(house, "domain", "add", "b.test", "--catch-all", ALICE)
    run(house, "alias", "add", "info@b.test", ALICE, "x@outside.test")
    assert "info@b.test  → alice@fortress.test, x@outside.test" in run(house, "alias", "list")
    assert (
        json.loads(run(house, "alias", "show", "info@b.test", "--json"))["address"] == "info@b.test"
    )
    run(house, "alias", "change", "info@b.test", ALICE)
    assert f"catch all: {ALICE}" in run(house, "domain", "show", "B.test")
    run(house, "domain", "change", "b.test", "--no-catch-all")
    run(house, "alias", "delete", "info@b.test")
    run(house, "domain", "delete", "b.test")
    assert [it["name"] for it in json.loads(run(house, "domain", "list", "--json"))] == [
        "fortress.test"
    ]
    assert "none needed it" in run(house, "sync")
    assert json.loads(run(house, "sync", "--json"))["late"] == {}


@pytest.mark.parametrize(
    ("words", "stdin", "said", "code"),
    [
        (("user", "add", ALICE, "--password-stdin"), "short\n", "at least 12", Exit.DATA),
        (("user", "add", ALICE), "", "no terminal", Exit.USAGE),
        (("user", "add", "alice", "--generate"), "", "not a mail address", Exit.DATA),
        (("user", "show", ALICE), "", f"no user {ALICE}", Exit.DATA),
        (("user", "show", "x"), "", "not a mail address", Exit.DATA),
        (("domain", "add", "x"), "", "not a full domain", Exit.DATA),
        (("alias", "delete", ALICE), "", "there is no alias", Exit.DATA),
    ],
)
def test_refusals(house: House, words: tuple[str, ...], stdin: str, said: str, code: Exit) -> None:
    with pytest.raises(MastioError, match=said) as caught:
        run(house, *words, stdin=stdin)
    assert caught.value.code is code


def test_a_late_gateway_is_told(house: House) -> None:
    house.transport.down.add("gateway")
    run(house, "user", "add", ALICE, "--generate", code=Exit.UNAVAILABLE)
    house.transport.down.clear()
    assert "gateways updated: gateway" in run(house, "sync")


def test_import(house: House, tmp_path: Path) -> None:
    table, results = tmp_path / "users.csv", tmp_path / "passwords.csv"
    table.write_text(f"address,name,quota,password_hash\n{ALICE},Alice,100,\nbob@fortress.test,,,{HASH}\n".replace(
        HASH, f'"{HASH}"'))  # fmt: skip
    assert "2 changes" in run(house, "user", "import", table, "--passwords-to", results)
    assert results.stat().st_mode & 0o777 == 0o600
    (row,) = csv.DictReader(results.read_text().splitlines())
    assert row["address"] == ALICE and len(row["password"]) == 20
    assert len(json.loads(run(house, "user", "list", "--json"))) == 2


def test_import_is_refused_whole_with_all_lines(house: House, tmp_path: Path) -> None:
    run(house, "user", "add", ALICE, "--generate")
    table, results = tmp_path / "users.csv", tmp_path / "passwords.csv"
    table.write_text(
        "address,quota,password_hash\n"
        "good@fortress.test,,\n"
        "bad,,\n"
        f"{ALICE},,\n"
        "x@unknown.test,,\n"
        "y@fortress.test,many,\n"
        "good@fortress.test,,\n"
        "z@fortress.test,,secret\n"
    )
    with pytest.raises(MastioError) as caught:
        run(house, "user", "import", table, "--passwords-to", results)
    lines = [
        int(line.removeprefix(f"{table}:").partition(":")[0])
        for line in caught.value.message.splitlines()
    ]
    assert sorted(set(lines)) == [3, 4, 5, 6, 7, 8]
    assert "secret" not in caught.value.message
    assert not results.exists()
    assert len(json.loads(run(house, "user", "list", "--json"))) == 1


def test_import_says_where_passwords_must_go(house: House, tmp_path: Path) -> None:
    table = tmp_path / "users.csv"
    table.write_text(f"address\n{ALICE}\n")
    with pytest.raises(MastioError, match="1 of 1 users have no password_hash"):
        run(house, "user", "import", table)
    (tmp_path / "there").touch()
    with pytest.raises(MastioError, match="File exists"):
        run(house, "user", "import", table, "--passwords-to", tmp_path / "there")
