"""The lab's own secrets: a vault that only might be changes nothing of them."""

from pathlib import Path

import pytest

from mastio import renewal, secrets
from mastio.lab import ground, outside
from mastio.vault import Vault
from tests.sites import demo_site


def test_what_outside_would_get_by_a_vault_that_might_be_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTIO_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MASTIO_IDENTITY", str(tmp_path / "identity"))
    site, vault = demo_site(), Vault.open(tmp_path)
    secrets.ensure(vault, site)
    before = ground.states(site, vault)[outside.MACHINE]
    might = ground.states(site, renewal.another(vault, site), keep=False)[outside.MACHINE]
    assert might != before
    assert ground.states(site, vault)[outside.MACHINE] == before
