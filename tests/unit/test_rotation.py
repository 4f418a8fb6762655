"""Each generated secret can be made anew by a command, or is argued to need none."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner

from mastio import certificates, pki, renewal, rotation, secrets, vpn
from mastio.build import build
from mastio.cli.common import App
from mastio.cli.secrets import rotate
from mastio.context import Internet
from mastio.errors import Exit, MastioError
from mastio.renewal import Step
from mastio.roles.certificates import given
from mastio.site.model import Acme, Backup, Challenge, Clients, Site
from mastio.vault import Vault
from mastio.verify.grants import EVERY_MACHINE, GRANTS
from mastio.verify.model import Kind
from tests.sites import ADMIN_KEY, demo_site, split_site

ACME = Acme(
    directory="https://acme.test/dir", challenge=Challenge.DNS, dns_server="192.0.2.1"
)  # fmt: skip
COPIED = Backup(copy="ssh://copies@192.0.2.9/srv", copy_host_key=ADMIN_KEY)
TUNNEL = (IPv4Network("10.77.200.0/24"),)
PEM = "-----BEGIN PRIVATE KEY-----"


def sites() -> Iterator[tuple[str, Site]]:
    yield "own authority", demo_site()
    yield "split", split_site()
    yield "public authority", replace(demo_site(), acme=ACME, backup=COPIED)
    yield "given", demo_site()
    yield "authority followed", demo_site()
    yield "tunnel", replace(demo_site(), clients=Clients.VPN, vpn_networks=TUNNEL)


def filled(kind: str, site: Site, folder: Path) -> Vault:
    vault = Vault(folder, {})
    secrets.ensure(vault, site)
    if kind == "given":
        key, chain = pki.issue(*pki.authority("bought"), site.mx_host)
        vault.put(secrets.following(site.mx_host), key)
        certificates.give(vault, site, site.mx_host, chain)
        assert given(site.mx_host) in vault
    if kind == "tunnel":
        vpn.add(vault, site, "phone")
    if kind == "authority followed":
        renewal.take(vault, site, Step.ANNOUNCE)
    return vault


CASES = [pytest.param(kind, site, id=kind) for kind, site in sites()]


@pytest.mark.parametrize(("kind", "site"), CASES)
def test_every_secret_of_a_vault_is_another_after_its_command(
    kind: str, site: Site, tmp_path: Path
) -> None:
    before = dict(filled(kind, site, tmp_path))
    gone: dict[str, Vault] = {}
    for name, value in before.items():
        command = rotation.way(name, site, before)
        if not command:
            assert PEM not in value, f"{name} is a key that no command changes"
            continue
        if command not in gone:
            vault = gone[command] = Vault(tmp_path, dict(before))
            go(command, vault, site)
        assert gone[command].get(name) != value, f"{name} is what it was after {command}"


def go(command: str, vault: Vault, site: Site) -> None:
    """What the command does to the vault; what it asks of DNS and authorities beforehand is the lab's to test."""
    match shlex.split(command):
        case ["mastio", "secrets", "rotate", name]:
            secrets.rotate(vault, site, [name])
        case ["mastio", "dkim", "rotate", domain, "--compromised"]:
            # A generation that is published and does not sign yet goes when it has come to its turn.
            for _ in range(2):
                secrets.rotate_dkim(vault, site, domain, compromised=True)
        case ["mastio", "certificates", "rotate", host]:
            secrets.rotate(vault, site, [f"public/{host}"])
        case ["mastio", "certificates", "give", host]:
            key, chain = pki.issue(*pki.authority("another"), host)
            while (
                certificates.give(vault, site, host, chain, key) is not certificates.Outcome.SHOWN
            ):
                pass
        case ["mastio", "vpn", "revoke", name]:
            vpn.revoke(vault, site, name)
        case _:
            raise AssertionError(command)


@pytest.mark.parametrize(("kind", "site"), CASES)
def test_what_has_an_order_to_keep_is_refused_with_its_command(
    kind: str, site: Site, tmp_path: Path
) -> None:
    vault = filled(kind, site, tmp_path)
    host = site.mx_host
    what = "give" if kind == "given" else "rotate"
    first = site.imap_host if kind == "tunnel" else site.webmail_host
    for pattern, command in (
        (f"public/{host}", f"mastio certificates {what} {host}"),
        ("public/*", f"mastio certificates rotate {first}"),
        (f"public/{site.webmail_host}/cert", f"mastio certificates rotate {site.webmail_host}"),
        ("dkim/*/k1r", "mastio dkim rotate fortress.test --compromised"),
    ):
        with pytest.raises(MastioError, match="must be in DNS, or signed") as refused:
            rotation.plain(secrets.select(vault, [pattern]), site, vault)
        assert f"`{command}`" in refused.value.hint
        assert refused.value.code is Exit.USAGE


@pytest.mark.parametrize(("kind", "site"), CASES)
def test_what_has_none_is_not_refused(kind: str, site: Site, tmp_path: Path) -> None:
    vault = filled(kind, site, tmp_path)
    for name in vault:
        if rotation.way(name, site, vault).startswith("mastio secrets rotate"):
            rotation.plain([name], site, vault)
    names = ["host/*", "ca", "public-ca", "backup/*", "webmail/*"]
    if kind != "given":
        names.append(secrets.following(site.mx_host))
    rotation.plain(secrets.select(vault, names), site, vault)


def test_the_command_refuses_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTIO_IDENTITY", str(tmp_path / "keys" / "identity"))
    folder = tmp_path / "site"
    vault = Vault(folder, dict(filled("", demo_site(), folder)))
    vault.rekey()  # writes it
    before = (folder / "secrets.age").read_bytes()
    app = App(str(folder))
    app.__dict__["_site"] = demo_site()
    refused = CliRunner().invoke(
        rotate, ["public/mx.fortress.test"], obj=app, standalone_mode=False
    )
    assert isinstance(refused.exception, MastioError)
    assert (folder / "secrets.age").read_bytes() == before
    done = CliRunner().invoke(rotate, ["webmail/des-key"], obj=app, standalone_mode=False)
    assert "new: webmail/des-key" in done.output
    assert (folder / "secrets.age").read_bytes() != before


def test_a_next_key_is_made_anew_by_its_whole_name_alone(tmp_path: Path) -> None:
    site = demo_site()
    vault = filled("", site, tmp_path)
    name = secrets.following(site.mx_host)
    coming = vault[name]
    assert secrets.rotate(vault, site, [name]) == (name,)
    assert vault[name] != coming
    coming = vault[name]
    secrets.rotate(vault, site, ["public/*"])
    assert vault[f"public/{site.mx_host}/key"] == coming


def test_every_key_that_may_lie_on_a_machine_is_of_the_vault_or_argued_for(tmp_path: Path) -> None:
    keys = {Kind.PRIVATE_KEY, Kind.SSH_KEY, Kind.SESSION_KEY, Kind.VAULT, Kind.VAULT_KEY}
    site = replace(demo_site(), acme=ACME, backup=COPIED)
    states = build(site, filled("", site, tmp_path), Internet()).values()
    put = {it.path for state in states for it in state.files if it.secret}
    argued = [place for it in rotation.ELSEWHERE for place in it.places]
    rows = [row for it in (EVERY_MACHINE, *GRANTS.values()) for row in it.secrets]
    places = {row.place for row in rows if row.kind in keys}
    assert places
    for place in places:
        # What lies in /run is a copy.
        assert (
            place.startswith("/run/")
            or place in argued
            or any(fnmatchcase(path, place) for path in put)
        ), place


def test_no_argument_is_left_over() -> None:
    granted = {row.place for it in (EVERY_MACHINE, *GRANTS.values()) for row in it.secrets}
    assert {place for it in rotation.ELSEWHERE for place in it.places} <= granted
    assert all(it.way for it in rotation.ELSEWHERE)


def test_what_is_left_to_do_is_said_of_secrets_that_there_are(tmp_path: Path) -> None:
    known = {name for kind, site in sites() for name in filled(kind, site, tmp_path)}
    known |= {name.removesuffix("/key") for name in known}
    for pattern, _ in rotation.AFTER:
        assert any(fnmatchcase(name, pattern) for name in known), pattern


def test_a_device_is_not_made_anew_behind_its_back(tmp_path: Path) -> None:
    site = dict(sites())["tunnel"]
    vault = filled("tunnel", site, tmp_path)
    with pytest.raises(MastioError, match="the other half") as refused:
        rotation.plain(secrets.select(vault, ["vpn/*"]), site, vault)
    assert "`mastio vpn revoke phone`" in (refused.value.hint or "")
