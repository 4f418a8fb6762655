"""The packages that the lab has fetched already, as an archive for a machine that has no other way to any."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from mastio.lab import demo, paths
from mastio.lab.images import Images, Recipe
from mastio.lab.model import machines
from tests.lab.conftest import Quiet

_PORT = 8099
_SERVE = """
import http.server, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
where = lambda *those: Quiet(*those, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), where)
print("listening", flush=True)
server.serve_forever()
"""
_WIREGUARD = ("wireguard-go", "wireguard-tools")
"""Of sites without a firewall, as the demonstration is none."""
_SERVERS = ("mmdebstrap", "nftables", "systemd-container", "unattended-upgrades")
"""Of one physical server that carries a site (`mastio.server.make`)."""
_PEOPLE = ("sudo",)
"""Of machines that let no root in before mastio comes."""
SOURCES = f"deb [trusted=yes] http://127.0.0.1:{_PORT}/debian-security/ ./\n"
"""For sources.list(5) of the machine on whose loopback it is served. It has the fixes as well, and is called so."""


def shelf(folder: Path) -> Path:
    """`folder`, which is empty, as the archive: every package of the cache, which has all that a site needs then."""
    _fetched(folder / "site")
    debs = sorted((paths.cache() / "debs").glob("*.deb"))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        (folder / "Packages").write_text("\n".join(pool.map(_stanza, debs)))
    (folder / "Release").write_text("Suite: trixie\nCodename: trixie\n")
    (folder / "debs").symlink_to(paths.cache() / "debs")
    (folder / "debian-security").symlink_to(".")
    return folder


def _fetched(folder: Path) -> None:
    """On a fresh box the cache is empty for who runs first: what the demonstration's machines are made of is built."""
    from mastio.cli.common import App

    folder.mkdir()
    demo.found(folder / "site.toml", "shelf")
    with pytest.MonkeyPatch.context() as here:
        here.setenv("MASTIO_STATE", str(folder))
        here.setenv("MASTIO_IDENTITY", str(folder / "identity"))
        app = App(str(folder))
        made = machines(app.site(), app.states())
    with Images.held(Quiet().note) as images:
        images.build(
            {
                *(Recipe(it.packages, it.debconf) for it in made),
                Recipe(_WIREGUARD),
                Recipe(_SERVERS),
                Recipe(_PEOPLE),
            }
        )
    shutil.rmtree(folder)


@contextmanager
def served(shelf: Path, namespace: str) -> Iterator[None]:
    """The archive in the folder `shelf`, on the loopback of a network namespace, meanwhile."""
    argv = [
        "nsenter",
        f"--net=/run/netns/{namespace}",
        sys.executable,
        "-c",
        _SERVE,
        str(shelf),
        str(_PORT),
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            # Who asks before it listens gets no package: on a busy box that takes seconds.
            assert server.stdout and server.stdout.readline(), "the archive is not served"
            yield
        finally:
            server.kill()


def _stanza(deb: Path) -> str:
    """A package's paragraph in the index (deb-control(5))."""
    argv = ["dpkg-deb", "--field", str(deb)]
    control = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    digest = sha256(deb.read_bytes()).hexdigest()
    return f"{control}Filename: ./debs/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
