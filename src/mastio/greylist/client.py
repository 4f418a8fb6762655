"""From here to the gateways and back: give them the live lists, ask for what their greylists hold.

Greylist(site, transport, folder).push()
"""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mastio.errors import MastioError
from mastio.greylist import gateway, lists
from mastio.greylist.lists import Verdict
from mastio.site.model import Role, Site
from mastio.transport import Transport, last_line, unavailable

FOLDER = "/var/lib/mastio/filter"
SOCKET = "/run/valkey/valkey.sock"


@dataclass(frozen=True, slots=True)
class Told:
    """How it went with one gateway; `why` is empty when it went well."""

    gateway: str
    changed: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Greylist:
    """The greylists and live lists of a site."""

    site: Site
    transport: Transport
    folder: Path

    def set(self, senders: tuple[str, ...], verdict: Verdict | None) -> None:
        """Writes the senders' verdict into the site folder; None: they are forgotten."""
        known = lists.read(self.folder)
        for name in senders:
            known.pop(name, None)
            if verdict:
                known[name] = verdict
        lists.write(self.folder, known)

    def push(self) -> list[Told]:
        """Gives all gateways the lists. Harmless when they have them."""
        request = {"op": "write", "folder": FOLDER, "files": lists.files(lists.read(self.folder))}
        told = []
        for name in self._gateways:
            try:
                told.append(Told(name, tuple(self._ask(name, request)["changed"])))
            except MastioError as error:
                told.append(Told(name, why=error.message))
        return told

    def show(self) -> dict[str, dict[str, Any]]:
        """What each gateway's greylist holds; raises MastioError when one does not answer."""
        return {name: self._ask(name, {"op": "show", "socket": SOCKET}) for name in self._gateways}

    @property
    def _gateways(self) -> tuple[str, ...]:
        return tuple(it.name for it in self.site.carrying(Role.GATEWAY_IN))

    def _ask(self, name: str, request: dict[str, Any]) -> Any:
        source, payload = inspect.getsource(gateway), json.dumps(request).encode()
        result = self.transport.run_python(name, source, payload)
        if result.code:
            raise unavailable(name, last_line(result.stderr))
        return json.loads(result.stdout)
