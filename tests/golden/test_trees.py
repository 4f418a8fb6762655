"""The rendered configuration of whole sites, kept in git so that a change shows as a diff.

`pytest tests/golden --update` writes it anew. Secrets and certificates never get there: files that
hold them are named only; fingerprints and dates are replaced by what they stand for. Of `split`,
`single` and `webmail` only that is kept in which they differ from `separated`, and of `webmail` from `single`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mastio import pki, secrets
from mastio.build import build
from mastio.context import Internet
from mastio.site.model import Site
from mastio.state import HostState
from mastio.vault import Vault
from tests.sites import demo_site, single_site, split_site, webmail_site

HERE = Path(__file__).parent
DATE = re.compile(r"\b20\d\d-\d\d-\d\dT[0-9:]+Z?|(?<=have signed since )[0-9-]+")
"""A moment, as in security.txt: it depends on a certificate's, or on a key's."""
SSH_KEY = re.compile(r"ecdsa-sha2-nistp256 \S+")
SITES = {
    "separated": demo_site, "single": single_site, "split": split_site, "webmail": webmail_site,
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(SITES))
def rendered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    files = tree(SITES[request.param](), tmp_path_factory.mktemp("vault"))
    if request.param != "separated":
        usual = tree(demo_site(), tmp_path_factory.mktemp("vault"))
        # A machine with the roles of several has the files of all of them: what any of them has is nothing new.
        known = {(below(place), text) for place, text in usual.items()}
        alone = request.param in ("single", "webmail")
        if request.param == "webmail":
            single = tree(single_site(), tmp_path_factory.mktemp("vault"))
            known |= {(below(place), text) for place, text in single.items()}
        files = {
            place: text
            for place, text in files.items()
            if usual.get(plain(place)) != text and not (alone and (below(place), text) in known)
        }
    yield request.param, files


def below(place: str) -> str:
    """The path on its machine."""
    return place.partition("/")[2]


def plain(place: str) -> str:
    """Where the default topology has what stands at `place`: its gateway is one machine."""
    return re.sub(r"^gateway-(in|out)/", "gateway/", place)


def tree(site: Site, folder: Path) -> dict[str, str]:
    """Every file of every machine, by its place below the golden folder."""
    vault = Vault(folder, {})
    secrets.ensure(vault, site)
    hide = {
        pki.fingerprint(vault[n]): f"<fingerprint of {n}>" for n in vault if n.endswith("/cert")
    }
    found: dict[str, str] = {}
    for machine, state in build(site, vault, Internet()).items():
        found[f"{machine}/STATE"] = summary(state)
        found[f"{machine}/etc/nftables.conf"] = state.firewall
        for file in state.files:
            if not file.secret and "-----BEGIN" not in file.content:
                text = file.content
                for print_, name in hide.items():
                    text = text.replace(print_, name)
                text = SSH_KEY.sub("<ssh key>", DATE.sub("<date>", text))
                found[f"{machine}{file.path}"] = text
    return found


def summary(state: HostState) -> str:
    """Everything that is not a file's content, a line each."""
    lines = [f"package {name}" for name in state.packages]
    lines += [
        f"file {f.path} {f.owner}:{f.group} {f.mode:04o}{' secret' * f.secret}" for f in state.files
    ]
    lines += [f"directory {d.path} {d.owner}:{d.group} {d.mode:04o}" for d in state.directories]
    lines += [f"link {link.path} -> {link.target}" for link in state.links]
    lines += [f"removed {path}" for path in state.removed]
    lines += [f"user {user.name} {' '.join(user.groups)}".rstrip() for user in state.users]
    lines += [f"unit {unit.name}{' masked' * unit.masked}" for unit in state.units]
    lines += [f"check {check.name}: {' '.join(check.argv)}" for check in state.checks]
    lines += [f"command {command.name}: {' '.join(command.argv)}" for command in state.commands]
    lines += [f"listener {it.transport} {it.address} {it.port}" for it in state.listeners]
    return "\n".join(lines) + "\n"


def test_the_tree_is_as_kept(
    rendered: tuple[str, dict[str, str]], request: pytest.FixtureRequest
) -> None:
    name, files = rendered
    top = HERE / name
    if request.config.getoption("--update"):
        for path in sorted(top.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        for place, text in files.items():
            (top / place).parent.mkdir(parents=True, exist_ok=True)
            (top / place).write_bytes(text.encode())
    kept = {
        str(path.relative_to(top)): path.read_bytes().decode()
        for path in top.rglob("*")
        if path.is_file()
    }
    assert sorted(files) == sorted(kept)
    for place, text in files.items():
        assert text == kept[place], (
            f"{name}/{place} (pytest tests/golden --update shows the diff in git)"
        )


def test_no_secret_is_in_a_file_that_is_not_marked(rendered: tuple[str, dict[str, str]]) -> None:
    for place, text in rendered[1].items():
        assert "PRIVATE KEY" not in text, place


@pytest.mark.parametrize("name", sorted(SITES))
def test_building_twice_is_byte_equal(name: str, tmp_path: Path) -> None:
    site = SITES[name]()
    vault = Vault(tmp_path, {})
    secrets.ensure(vault, site)
    assert build(site, vault, Internet()) == build(site, vault, Internet())
