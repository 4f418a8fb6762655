"""Which secrets a site needs, when they are made anew, and which machine may hold them."""

from dataclasses import replace
from pathlib import Path

import pytest

from mastio import pki, secrets
from mastio.errors import MastioError
from mastio.vault import Vault
from tests.sites import demo_site, split_site


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    fresh = Vault(tmp_path, {})
    secrets.ensure(fresh, demo_site())
    return fresh


def test_a_second_time_nothing_is_made(vault: Vault) -> None:
    assert secrets.ensure(vault, demo_site()) == ()


def test_every_machine_gets_a_certificate_by_the_internal_authority(vault: Vault) -> None:
    for machine in demo_site().machines:
        cert = vault[f"host/{machine.name}/cert"]
        assert pki.names(cert) == {f"{machine.name}.demo.internal"}
        assert pki.issued_by(cert, vault["ca/cert"])


def test_a_machine_holds_no_key_of_another(vault: Vault) -> None:
    site = demo_site()
    for machine in site.machines:
        held = secrets.for_machine(vault, site, machine)
        keys = {name for name in held if name.startswith("host/") and name.endswith("/key")}
        assert keys == {f"host/{machine.name}/key"}
        assert "ca/key" not in held
        assert "public-ca/key" not in held


def test_only_the_sending_gateway_holds_signing_keys(vault: Vault) -> None:
    site = split_site()
    secrets.ensure(vault, site)
    holders = {
        m.name
        for m in site.machines
        if any(n.startswith("dkim/") for n in secrets.for_machine(vault, site, m))
    }
    assert holders == {"gateway-out"}


def test_a_certificate_about_to_expire_is_made_anew(vault: Vault) -> None:
    ca = vault["ca/key"], vault["ca/cert"]
    key, cert = pki.issue(*ca, "store.demo.internal", days=pki.RENEW_DAYS - 1)
    vault.put("host/store/key", key)
    vault.put("host/store/cert", cert)
    assert secrets.ensure(vault, demo_site()) == ("host/store",)
    assert pki.days_left(vault["host/store/cert"]) > pki.RENEW_DAYS
    assert vault["host/store/key"] == key, "machines know it in ssh by this key"


def test_rotation_changes_keys(vault: Vault) -> None:
    before = vault["host/store/key"]
    secrets.rotate(vault, demo_site(), ["host/store"])
    assert vault["host/store/key"] != before


def test_a_renamed_host_gets_a_new_certificate(vault: Vault) -> None:
    made = secrets.ensure(vault, replace(demo_site(), webmail_host="post.fortress.test"))
    assert made == ("public/post.fortress.test",)
    assert "public/mail.fortress.test/key" not in vault


def test_what_opens_its_archives_outlives_a_machine(vault: Vault) -> None:
    secrets.ensure(vault, split_site())
    opens = vault["backup/gateway-in/passphrase"]
    secrets.ensure(vault, demo_site())
    assert "host/gateway-in/key" not in vault
    assert vault["backup/gateway-in/passphrase"] == opens


def test_a_new_authority_signs_all_again(vault: Vault) -> None:
    made = secrets.rotate(vault, demo_site(), ["ca"])
    machines = [f"host/{machine.name}" for machine in demo_site().machines]
    watch = [f"{it}/watch" for it in ("inspection", "integrity", "patching", "backup", "restore")]
    assert made == ("ca", *machines, *watch)


def test_one_token_can_be_rotated(vault: Vault) -> None:
    before = dict(vault)
    assert secrets.rotate(vault, demo_site(), ["webmail/des-key"]) == ("webmail/des-key",)
    assert {n for n in vault if vault[n] != before[n]} == {"webmail/des-key"}


def test_a_name_that_matches_nothing_is_refused(vault: Vault) -> None:
    with pytest.raises(MastioError, match="no secret is called 'host/stoer'"):
        secrets.rotate(vault, demo_site(), ["host/stoer"])


def test_only_the_keys_that_sign_leave_the_vault(vault: Vault) -> None:
    site = demo_site()
    held = secrets.for_machine(vault, site, site.machine("gateway"))
    assert {name for name in held if name.startswith("dkim/")} == {
        "dkim/fortress.test/ring",
        "dkim/fortress.test/k1r",
        "dkim/fortress.test/k1e",
    }
    assert not any(name.endswith("/next") for name in held)


def test_a_rotation_signs_with_the_keys_that_were_next(vault: Vault) -> None:
    site = demo_site()
    coming = vault["dkim/fortress.test/k2r"]
    secrets.rotate_dkim(vault, site, "fortress.test")
    held = secrets.for_machine(vault, site, site.machine("gateway"))
    assert held["dkim/fortress.test/k2r"] == coming
    assert "dkim/fortress.test/k1r" not in held
    assert {"dkim/fortress.test/k1r", "dkim/fortress.test/k3e"} <= set(vault)


def test_a_compromised_key_is_forgotten(vault: Vault) -> None:
    secrets.rotate_dkim(vault, demo_site(), "fortress.test", compromised=True)
    assert "dkim/fortress.test/k1r" not in vault


def test_a_dkim_key_is_never_replaced_under_its_name(vault: Vault) -> None:
    with pytest.raises(MastioError, match="DKIM keys follow each other"):
        secrets.rotate(vault, demo_site(), ["dkim/*"])


def test_the_mx_takes_over_the_key_that_dns_knows_already(vault: Vault) -> None:
    coming = vault["public/mx.fortress.test/next"]
    secrets.rotate(vault, demo_site(), ["public/mx.fortress.test"])
    assert vault["public/mx.fortress.test/key"] == coming
    assert vault["public/mx.fortress.test/next"] != coming


def test_what_ends_with_its_authority_is_not_made_anew_each_time(vault: Vault) -> None:
    for half, value in zip(("key", "cert"), pki.authority("short", 50), strict=True):
        vault.put(f"ca/{half}", value)
    assert "host/store" in secrets.ensure(vault, demo_site())
    assert secrets.ensure(vault, demo_site()) == ()


def test_the_interim_authority_needs_no_successor(vault: Vault) -> None:
    for half, value in zip(
        ("key", "cert"), pki.authority("old", pki.AUTHORITY_RENEW_DAYS - 1), strict=True
    ):
        vault.put(f"public-ca/{half}", value)
    key = vault["public/mx.fortress.test/key"]
    made = secrets.ensure(vault, demo_site())
    assert {"public-ca", "public/mx.fortress.test"} <= set(made)
    assert vault["public/mx.fortress.test/key"] == key
    assert secrets.ensure(vault, demo_site()) == ()
