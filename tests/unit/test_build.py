"""Parts of a machine are united, and contradict each other loudly."""

import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from mastio import secrets, services
from mastio.build import build, merge
from mastio.context import Internet
from mastio.errors import MastioError
from mastio.instances import BESIDE, ONLY
from mastio.roles import backup, certificates
from mastio.site.model import Acme, Role, Site
from mastio.state import File, HostState, Unit, User
from mastio.vault import Vault
from tests.sites import demo_site, single_site, split_site


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


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("vault"), {})


def states(site: Site, vault: Vault) -> dict[str, HostState]:
    secrets.ensure(vault, site)
    return build(site, vault, Internet())


_PAIRS = [*combinations([it for it in Role if it is not Role.FIREWALL], 2)]


@pytest.mark.parametrize("pair", _PAIRS, ids=["+".join(it) for it in _PAIRS])
def test_any_two_roles_can_share_a_machine(pair: tuple[Role, ...], vault: Vault) -> None:
    site = split_site()
    rest = [it for it in site.machines if not it.has(*pair)]
    both = replace(site.carrying(pair[0])[0], name="both", roles=pair)
    found = states(replace(site, machines=(*rest, both)), vault)["both"]
    assert len({it.path for it in found.files}) == len(found.files)
    assert len(set(found.listeners)) == len(found.listeners)


def test_a_lone_machine_has_a_postfix_for_each_side(vault: Vault) -> None:
    mail = states(single_site(), vault)["mail"]
    units = {it.name for it in mail.units}
    assert {ONLY.unit, BESIDE.unit} <= units
    texts = {it.path: it.content for it in mail.files}
    assert f"alternate_config_directories = {BESIDE.config}\n" in texts[f"{ONLY.config}/main.cf"]
    assert f"queue_directory = {BESIDE.queue}\n" in texts[f"{BESIDE.config}/main.cf"]
    # What belongs to the store leads to its own Postfix, and nothing else does.
    for path in (
        "/etc/dovecot/dovecot.conf",
        f"{BESIDE.config}/master.cf",
        f"{BESIDE.config}/main.cf",
    ):
        assert not re.search(r"/(etc|var/spool)/postfix/", texts[path]), path
    sendmail = "/usr/local/lib/mastio/sendmail-of-store"
    assert f"exec {sendmail} " in texts["/usr/local/lib/mastio/mastio-quota-warning"]
    door = texts["/etc/systemd/system/mastio-sieve.service"]
    assert f" {BESIDE.queue}/private/sieve\n" in door
    assert f"MAIL_CONFIG={BESIDE.config}\n" in texts[sendmail]


@pytest.mark.parametrize("site", [demo_site(), split_site()], ids=["separated", "split"])
def test_a_second_postfix_is_only_where_two_are_needed(site: Site, vault: Vault) -> None:
    for state in states(site, vault).values():
        assert BESIDE.unit not in {it.name for it in state.units}
        assert not any(BESIDE.config in it.path + it.content for it in state.files)


def test_a_lone_machine_listens_for_its_own_roles_and_lets_nobody_else_there(vault: Vault) -> None:
    mail = states(single_site(), vault)["mail"]
    own = {services.DELIVERY, services.RELAY, services.IMAPS, services.SUBMISSIONS, services.LEARN}
    assert {it.port for it in own} <= {it.port for it in mail.listeners}
    opened = {
        int(it) for it in re.findall(r"dport (\d+)", mail.firewall.partition("chain output")[0])
    }
    assert opened == {
        it.port for it in (services.SMTP, services.HTTP, services.HTTPS, services.SSH)
    }


def test_a_lone_watch_archives_its_own_machine_without_ssh(vault: Vault) -> None:
    texts = {it.path: it.content for it in states(single_site(), vault)["mail"].files}
    assert json.loads(texts[backup.ON_SIDE_OF_WATCH])["ssh"] == {"mail": [backup.DOOR]}
    kept = json.loads(texts[backup.SETTINGS])
    assert "/var/vmail" in kept["trees"]
    assert {"queue.json", "queue-store.json", "valkey.rdb"} == set(kept["dumps"])


def test_one_certificate_for_gateway_and_webmail_has_both_names() -> None:
    assert certificates.names(single_site()) == {
        "mx.fortress.test": ("mx.fortress.test", "mail.fortress.test", "mta-sts.fortress.test")
    }
    assert set(certificates.names(demo_site())) == {"mx.fortress.test", "mail.fortress.test"}


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
