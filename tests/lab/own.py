"""A lab of a module's own beside the session's, in another topology than the default; taken down at the end."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mastio.lab import demo, forward, host, up
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio


@contextmanager
def own_lab_of(topology: str, folder: Path, *public: str, machines: str = "") -> Iterator[Lab]:
    """The demonstration site in that topology, up; its folder is `folder`.

    `public`: further addresses of it; `machines`: tables of the site file that place its roles by hand.
    """
    from mastio.cli.common import App

    file = folder / "site.toml"
    demo.found(file, f"{topology}{os.getpid()}")
    text = file.read_text().replace('topology = "separated"', f'topology = "{topology}"')
    more = "".join(f'    "{it}",\n' for it in public)
    before, begin, after = text.partition("public = [\n")
    file.write_text(f"{before}{begin}{after.replace(']', f'{more}]', 1)}\n{machines}")
    site = App(str(folder)).site()
    provider = Provider(site.name)
    with socket.create_server((host.LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    try:
        done = mastio(folder, "lab", "up", "--port", str(port))
        assert done.returncode == 0, done.stdout + done.stderr
        accounts = json.loads(up.accounts_path(site.name).read_text())
        (way,) = forward.forwards(site.name)
        url = f"https://{host.LOOPBACK}:{way.port}/"
        yield Lab(folder, site, accounts, url, NspawnTransport(site.name))
    finally:
        provider.down(purge=True)
