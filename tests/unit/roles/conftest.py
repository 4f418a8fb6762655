"""The demonstration site as it is built, for tests of a role's part in it."""

import pytest

from mastio import secrets
from mastio.build import build
from mastio.context import Internet
from mastio.state import HostState
from mastio.vault import Vault
from mastio.verify import kit
from tests import sites


@pytest.fixture(scope="package")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    made = Vault(tmp_path_factory.mktemp("vault"), {})
    secrets.ensure(made, sites.demo_site())
    return made


@pytest.fixture(scope="package")
def built(vault: Vault) -> dict[str, HostState]:
    return build(sites.demo_site(), vault, Internet(), kit.kit())
