"""What all commands share: the site folder, and from it the site, its vault, states and transport."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click

from mastio.context import Internet
from mastio.errors import Exit, MastioError
from mastio.report.plan import Style
from mastio.site.model import Reach, Site
from mastio.state import HostState
from mastio.transport import ServerTransport, SshTransport, Transport
from mastio.vault import Vault

COLOURS: dict[Style, dict[str, object]] = {
    Style.PLAIN: {},
    Style.TITLE: {"bold": True},
    Style.ADD: {"fg": "green"},
    Style.REMOVE: {"fg": "red"},
    Style.CHANGE: {"fg": "yellow"},
    Style.FAINT: {"fg": "cyan"},
    Style.WARN: {"fg": "magenta"},
}
"""What a line's style looks like."""
SITE_FILE = "site.toml"
OVER_SSH = "MASTIO_OVER_SSH"
"""Set in the environment, it makes a lab's machines be reached by ssh, as in production."""
INTERNET = "MASTIO_INTERNET"
"""Names a JSON file in the environment: the site stands in that internet (`context.Internet`), not in the real one."""
DEMO_FOLDER = "demo"
"""Where `lab up` puts the demonstration site."""


@dataclass
class App:
    """One run of the command line. Everything is read when first asked for."""

    given: str
    """The site folder from the command line or the environment; empty: look around."""

    @cached_property
    def folder(self) -> Path:
        """The site folder: the given one, else this folder, else ./demo. It need not exist yet."""
        if self.given:
            return Path(self.given).absolute()
        here = Path.cwd()
        return here if (here / SITE_FILE).exists() else here / DEMO_FOLDER

    @property
    def site_file(self) -> Path:
        """The site file's path."""
        return self.folder / SITE_FILE

    def site(self) -> Site:
        """The site; raises MastioError with all that is wrong with its file."""
        return self._site

    @cached_property
    def _site(self) -> Site:
        from mastio.site import parse

        if not self.site_file.exists():
            raise MastioError(
                f"{self.site_file}: there is no site here",
                hint="`mastio init FOLDER` makes one; `--site FOLDER` or MASTIO_SITE points at one; "
                "`mastio lab up` builds a demonstration",
                code=Exit.DATA,
            )
        site = parse.load(self.site_file)
        if site.reach is Reach.LAB:
            from mastio.lab import ground

            return ground.with_admin(site)
        return site

    @cached_property
    def vault(self) -> Vault:
        """The site's vault, with everything the site needs made and saved."""
        from mastio import secrets

        vault = Vault.open(self.folder)
        secrets.ensure(vault, self.site())
        vault.save()
        return vault

    def must_be_current(self) -> None:
        """MastioError when the vault that states were made from is no longer the site's: it was rotated meanwhile."""
        if "vault" in vars(self):
            self.vault.must_be_current()

    @property
    def in_lab(self) -> bool:
        """Whether commands go straight into the lab's machines (not over ssh)."""
        return self.site().reach is Reach.LAB and not os.environ.get(OVER_SSH)

    def states(self, vault: Mapping[str, str] | None = None) -> dict[str, HostState]:
        """The desired state of each machine, with the site's vault or another; in the lab, of `outside` too."""
        site, own = self.site(), vault is None
        vault = self.vault if vault is None else vault
        if site.reach is not Reach.LAB:
            from mastio.build import build
            from mastio.verify.kit import kit

            return build(site, vault, self._internet(), kit())
        from mastio.lab import ground, outside

        states = ground.states(site, vault, keep=own)
        if not self.in_lab:  # ssh leads to the site alone
            del states[outside.MACHINE]
        return states

    @staticmethod
    def _internet() -> Internet:
        file = os.environ.get(INTERNET)
        return Internet(**json.loads(Path(file).read_text())) if file else Internet()

    def transport(self) -> Transport:
        """How commands reach the site's machines."""
        if self.in_lab:
            from mastio.lab.transport import NspawnTransport

            return NspawnTransport(self.site().name)
        return self.way(self.site())

    def way(self, site: Site) -> SshTransport:
        """How commands reach the machines of `site`, this one or what it was, over ssh."""
        from mastio.adopt import pins

        known = pins.load(self.folder)
        over_server = site.reach is Reach.SERVER
        return ServerTransport(site, known) if over_server else SshTransport(site, known)


pass_app = click.make_pass_decorator(App)
