"""Unit tests touch nothing, and none changes what the next one meets."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a lab keeps is in a folder of the tests' own, such as the key that a site with `reach = "lab"` gets.

    And no site of whoever runs them is seen.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MASTIO_SITE", "MASTIO_IDENTITY", "MASTIO_PORT"):
            patch.delenv(name, raising=False)
        patch.setenv("MASTIO_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Programs for machines set theirs; here it ends with the test."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
