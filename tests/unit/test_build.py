"""Parts of a machine are united, and contradict each other loudly."""

from dataclasses import replace
from pathlib import Path

import pytest

from mastio import secrets
from mastio.build import build, merge
from mastio.context import Internet
from mastio.errors import MastioError
from mastio.site.model import Acme
from mastio.state import File, HostState, Unit, User
from mastio.vault import Vault
from tests.sites import demo_site, single_site


def united(*states: HostState) -> HostState:
    return merge("m", [(f"part{number}", state) for number, state in enumerate(states)])


def test_the_union_is_in_one_order_whatever_the_order_of_the_parts() -> None:
    a = HostState(packages=("b", "a"), files=(File("/z", ""),))
    b = HostState(packages=("c", "a"), files=(File("/y", ""),))
    assert united(a, b) == united(b, a)
    assert united(a, b).packages == ("a", "b", "c")


def test_the_same_file_twice_is_one_file() -> None:
    state = HostState(files=(File("/etc/x", "1\n"),))
    assert united(state, state).files == state.files


def test_one_file_with_two_contents_is_refused() -> None:
    with pytest.raises(MastioError, match="part0 and part1 both want /etc/x"):
        united(HostState(files=(File("/etc/x", "1\n"),)), HostState(files=(File("/etc/x", "2\n"),)))


def test_a_unit_masked_by_one_and_started_by_another_is_refused() -> None:
    with pytest.raises(MastioError, match=r"both want x\.service"):
        united(
            HostState(units=(Unit("x.service", masked=True),)),
            HostState(units=(Unit("x.service"),)),
        )


def test_a_unit_restarts_for_what_either_part_reads() -> None:
    one = HostState(units=(Unit("x.service", reads=("/a",), reload=True),))
    two = HostState(units=(Unit("x.service", reads=("/b",)),))
    assert united(one, two).units == (Unit("x.service", reads=("/a", "/b"), reload=False),)


def test_groups_of_a_user_add_up() -> None:
    one = HostState(users=(User("postfix", groups=("mail",)),))
    two = HostState(users=(User("postfix", groups=("adm",)),))
    assert united(one, two).users == (User("postfix", groups=("adm", "mail")),)


def test_gateway_and_store_on_one_machine_are_refused_in_words() -> None:
    with pytest.raises(MastioError, match="mail: the gateway and the store cannot share a machine"):
        build(single_site(), {}, Internet())


@pytest.mark.parametrize("acme", [Acme(), Acme("https://acme.test/dir")], ids=["plain", "acme"])
def test_what_units_checks_and_commands_read_is_there(tmp_path: Path, acme: Acme) -> None:
    """`reads` are paths, not beginnings of names: one that matches nothing restarts nothing."""
    site, vault = replace(demo_site(), acme=acme), Vault.open(tmp_path)
    secrets.ensure(vault, site)
    states = build(site, vault, Internet()).values()
    paths = {it.path for state in states for it in (*state.files, *state.links)}
    for state in states:
        for reader in (*state.units, *state.checks, *state.commands):
            for place in reader.reads:
                root = place.rstrip("/")
                found = any(it == root or it.startswith(f"{root}/") for it in paths)
                assert found, f"{reader.name} reads {place}"
