"""Certificates that an administrator brings: one signed for a key of the vault, one with a key of his own.

Who signs is the public authority of the lab's internet, by hand, as one does that speaks no ACME.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mastio import pki
from mastio.errors import Exit
from mastio.roles.certificates import names
from mastio.vault import Vault
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.patience import at_last
from tests.lab.test_certificates import seen, standing, tlsa

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def desk(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the authority's pair. In the end nobody has given anything."""
    folder, vault = tmp_path_factory.mktemp("desk"), Vault.open(lab.folder)
    for name in ("cert", "key"):
        (folder / f"ca.{name}").write_text(vault[f"public-ca/{name}"])
    yield folder
    for host in (lab.site.webmail_host, lab.site.mx_host):
        mastio(lab.folder, "certificates", "forget", host)
    lab.mastio("lab", "up")


def sign(desk: Path, request: str) -> Path:
    """What the authority gives back: the server's certificate, and its own."""
    argv = [
        "openssl",
        "x509",
        "-req",
        "-CA",
        "ca.cert",
        "-CAkey",
        "ca.key",
        "-copy_extensions",
        "copyall",
        "-days",
        "60",
    ]
    done = subprocess.run(argv, input=request, cwd=desk, capture_output=True, text=True, check=True)
    chain = desk / "chain.pem"
    chain.write_text(done.stdout + (desk / "ca.cert").read_text())
    return chain


def test_one_is_signed_for_the_key_of_the_vault(lab: Lab, desk: Path) -> None:
    host, trusted = lab.site.webmail_host, (desk / "ca.cert").read_text()
    before = seen(lab, trusted)[host]
    chain = sign(desk, lab.mastio("certificates", "request", host))
    lab.mastio("certificates", "give", host, str(chain))
    assert seen(lab, trusted)[host] == before, "nothing changes before it is applied"
    lab.mastio("apply", "--yes")
    now = seen(lab, trusted)[host]
    assert now != before and chain.read_text().startswith(now)
    assert pki.key_digest(now) == pki.key_digest(before), "for the same key"
    given = [it for it in standing(lab) if it["source"] == "given"]
    assert [it["host"] for it in given] == [host] and 59 < given[0]["days_left"] <= 60
    lab.mastio("verify", "--only", "T9,T11,T12")


def test_one_with_a_key_that_dns_does_not_show_is_announced_first(lab: Lab, desk: Path) -> None:
    host, trusted = lab.site.mx_host, (desk / "ca.cert").read_text()
    before, key = seen(lab, trusted)[host], desk / "own.key"
    key.write_text(pki.server_key())
    chain = sign(desk, pki.request(key.read_text(), host))
    give = ("certificates", "give", host, str(chain), "--key", str(key))
    done = mastio(lab.folder, *give)
    assert done.returncode == Exit.CHANGES and "put its TLSA record into DNS" in done.stderr
    lab.mastio("lab", "up")  # it publishes what `mastio dns` prints
    assert seen(lab, trusted)[host] == before, "it is not shown yet"
    announced = pki.key_digest(chain.read_text())
    # The resolver outside remembers what it was told, for as long as the record says.
    assert announced in at_last(lambda: tlsa(lab), lambda it: announced in it, rest=1)
    lab.mastio(*give)
    lab.mastio("apply", "--yes")
    assert chain.read_text().startswith(seen(lab, trusted)[host])
    lab.mastio("verify", "--only", "T8,T9,T11,T12")


def test_one_that_does_not_serve_the_name_is_refused(lab: Lab, desk: Path) -> None:
    host = lab.site.webmail_host
    chain = sign(desk, pki.request(pki.server_key(), *names(lab.site)[host]))
    done = mastio(lab.folder, "certificates", "give", host, str(chain))
    assert done.returncode == Exit.DATA and "for no key of" in done.stderr
    assert lab.mastio("plan").startswith("Nothing to do")


def test_who_is_asked_again_signs_again(lab: Lab, desk: Path) -> None:
    host, trusted = lab.site.webmail_host, (desk / "ca.cert").read_text()
    given = seen(lab, trusted)[host]
    lab.mastio("certificates", "forget", host)
    lab.mastio("apply", "--yes")
    assert seen(lab, trusted)[host] != given
    assert all(it["source"] != "given" for it in standing(lab) if it["host"] == host)
