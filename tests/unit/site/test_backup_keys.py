"""The settings of backups: where the second copy goes."""

import pytest

from mastio import services
from mastio.flows import INTERNET, expand
from mastio.site import parse, plain
from mastio.site.model import Role, Site
from mastio.site.problems import SiteFileError
from mastio.site.values import copy
from tests.unit.site.test_verify_keys import BASE

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def given(text: str) -> Site:
    return parse.parse(f"{BASE}[backup]\n{text}\n", "site.toml")


@pytest.mark.parametrize(
    "text",
    [
        "/mnt/copies",
        "ssh://copies@backup.example.net/srv/copies",
        "ssh://u1@[2001:db8::1]/./copies",
    ],
)
def test_a_folder_here_or_on_a_host(text: str) -> None:
    assert copy(text) == text


@pytest.mark.parametrize(
    "text",
    ["copies", "/mnt/../etc", "ssh://backup.example.net/srv", "ssh://u@h:2222/srv", "ssh://u@h", "ssh://u:p@h/srv",
     "ssh://-o@h/srv", "ssh://u@h/a b", "ssh://u@h:x/srv", "https://u@h/srv"],
)  # fmt: skip
def test_what_is_no_place_for_a_copy(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        copy(text)


def test_a_host_that_could_be_anybody_is_refused() -> None:
    with pytest.raises(SiteFileError, match="whoever answers there could be anybody"):
        given('copy = "ssh://copies@backup.example.net/srv/copies"')


def test_watch_may_leave_by_ssh_only_for_a_copy_that_goes_there() -> None:
    def leaves(it: Site) -> bool:
        return expand(it).allows(it.carrying(Role.WATCH)[0].name, INTERNET, services.SSH)

    assert not leaves(given('copy = "/mnt/copies"'))
    far = given(
        f'copy = "ssh://copies@backup.example.net/srv/copies"\ncopy_host_key = "{HOST_KEY}"'
    )
    assert leaves(far)
    assert plain.recall(plain.record(far)) == far
