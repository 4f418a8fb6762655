from pathlib import Path

import pytest

from tests.sites import demo_site
from tests.unit.accounts.local import House


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(demo_site(), tmp_path, monkeypatch)
