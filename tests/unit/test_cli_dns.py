"""`mastio dns` of a domain that the site file does not know."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mastio import secrets
from mastio.cli.common import App
from mastio.cli.dns import dns
from mastio.errors import Exit, MastioError
from mastio.site.model import Site
from mastio.vault import Vault
from tests.sites import demo_site


class Fake(App):
    """The demonstration's site."""

    def site(self) -> Site:
        return demo_site()


def test_a_domain_that_is_data_alone_gets_the_way_into_the_site_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTIO_IDENTITY", str(tmp_path / "identity"))
    vault = Vault.open(tmp_path)
    secrets.ensure(vault, demo_site())
    vault.save()
    with pytest.raises(MastioError, match=r"publishes nothing in new\.example") as error:
        CliRunner().invoke(
            dns, ["new.example"], obj=Fake(str(tmp_path)), standalone_mode=False,
            catch_exceptions=False,
        )  # fmt: skip
    assert error.value.code == Exit.USAGE
    for words in ("fortress.test", "`domains` in site.toml", "`mastio apply`", "mastio domain add"):
        assert words in error.value.hint
