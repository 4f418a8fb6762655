"""One authority follows another: what machines are told at each step."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mastio import pki, renewal, secrets
from mastio.build import build
from mastio.context import AUTHORITIES, Internet
from mastio.plan import Action, Kind, MachinePlan, PathChange
from mastio.renewal import Step
from mastio.state import HostState
from mastio.vault import Vault
from tests.sites import demo_site


def aged(tmp_path: Path, days: int) -> Vault:
    """The vault of a site whose authority has so many days left."""
    vault = Vault(tmp_path, {})
    key, certificate = pki.authority("old", days)
    vault.put("ca/key", key)
    vault.put("ca/cert", certificate)
    secrets.ensure(vault, demo_site())
    return vault


def test_a_young_authority_stays(tmp_path: Path) -> None:
    assert renewal.step(aged(tmp_path, pki.AUTHORITY_RENEW_DAYS + 1)) is None


def test_three_steps_each_believed_by_who_had_the_last(tmp_path: Path) -> None:
    site, vault = demo_site(), aged(tmp_path, pki.AUTHORITY_RENEW_DAYS - 1)
    keys = {name: vault[name] for name in vault if name.startswith("host/") and "/key" in name}
    steps, believed = [], [{vault["ca/cert"]}]
    while step := renewal.step(vault):
        renewal.take(vault, site, step)
        assert secrets.ensure(vault, site) == (), "a step must leave nothing to do"
        steps.append(step)
        believed.append({vault[it] for it in AUTHORITIES if it in vault})
        # Who still has the last step's authorities believes the certificates of this one.
        for machine in site.machines:
            shown = vault[f"host/{machine.name}/cert"]
            for known in believed[-2:]:
                assert any(pki.issued_by(shown, one) for one in known)
    assert steps == [Step.ANNOUNCE, Step.SIGN, Step.FORGET]
    assert keys == {name: vault[name] for name in keys}, "renewal keeps keys"
    assert set(AUTHORITIES) & set(vault) == {"ca/cert"}


def test_machines_get_no_key_of_a_successor(tmp_path: Path) -> None:
    site, vault = demo_site(), aged(tmp_path, 100)
    renewal.take(vault, site, Step.ANNOUNCE)
    for machine in site.machines:
        held = secrets.for_machine(vault, site, machine)
        assert "ca-next/cert" in held
        assert "ca-next/key" not in held


def test_a_stolen_authority_takes_its_successor_with_it(tmp_path: Path) -> None:
    site, vault = demo_site(), aged(tmp_path, 100)
    renewal.take(vault, site, Step.ANNOUNCE)
    secrets.rotate(vault, site, ["ca"])
    assert not {"ca-next/key", "ca-next/cert", "ca-former/cert"} & set(vault)


def test_no_certificate_outlives_its_authority() -> None:
    ca = pki.authority("short", 5)
    _, certificate = pki.issue(*ca, "store.demo.internal")
    now = datetime.now(UTC)
    assert pki.days_left(certificate, now) <= pki.days_left(ca[1], now) <= 5


def state_of(vault: Mapping[str, str]) -> HostState:
    return build(demo_site(), vault, Internet())["gateway"]


def test_only_what_follows_from_a_renewal_is_its_own(tmp_path: Path) -> None:
    vault = aged(tmp_path, 3000)
    renewed = renewal.another(vault, demo_site())
    own = renewal.touched(state_of(vault), state_of(renewed))
    assert {
        "/etc/mastio/pki/ca.pem",
        "/etc/mastio/pki/host.pem",
        "/etc/mastio/pki/public.pem",
    } <= own
    assert "/etc/mastio/pki/host.key" not in own
    assert "/etc/postfix/main.cf" not in own
    assert any("dkim" in it for it in own)
    assert renewal.touched(state_of(vault), state_of(vault)) == frozenset()


def path(name: str, kind: Kind = Kind.CHANGE) -> PathChange:
    return PathChange(name, kind, "file")


@pytest.mark.parametrize(("plan", "foreign"), [
    (MachinePlan(), ()),
    (MachinePlan(paths=(path("/k/a.pem"),), units=(Action("restart", "nginx.service", ""),), finish="x"), ()),
    # The key that signed until now.
    (MachinePlan(paths=(path("/k/old.key", Kind.REMOVE),)), ()),
    (MachinePlan(paths=(path("/etc/old", Kind.REMOVE),)), ("/etc/old",)),
    (MachinePlan(paths=(path("/k/a.pem"), path("/etc/hosts"))), ("/etc/hosts",)),
    (MachinePlan(packages=("clamav",)), ("clamav",)),
    (MachinePlan(users=(Action("create", "vmail", ""),)), ("vmail",)),
    (MachinePlan(firewall=path("/etc/nftables.conf")), ("the firewall",)),
])  # fmt: skip
def test_what_somebody_is_changing_is_foreign(plan: MachinePlan, foreign: tuple[str, ...]) -> None:
    assert renewal.foreign(plan, {"/k/a.pem"}) == foreign
