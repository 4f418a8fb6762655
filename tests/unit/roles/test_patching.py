"""Security updates: what a machine does when asked, and who may ask."""

import json
from pathlib import Path

import pytest

from mastio.build import build
from mastio.context import Internet
from mastio.roles import patching
from mastio.roles.patching import patch
from mastio.state import HostState
from mastio.vault import Vault
from mastio.verify import kit
from tests import sites


def text(state: HostState, path: str) -> str:
    return next(it.content for it in state.files if it.path == path)


@pytest.mark.parametrize("word", ["update", "reboot"])
def test_two_words_are_taken(word: str) -> None:
    assert patch.judged([word]) == word


@pytest.mark.parametrize(
    "words", [[], [""], ["id"], ["update", "x"], ["update;id"], ["-update"], ["update\n"]]
)
def test_and_no_other(words: list[str]) -> None:
    with pytest.raises(patch.RefusedError):
        patch.judged(words)


def test_what_lets_mail_in_restarts_last() -> None:
    units = [
        "ssh.service",
        "postfix.service",
        "nginx.service",
        "dovecot.service",
        "rspamd.service",
        "a.service",
    ]
    assert patch.order(units) == [
        "a.service", "rspamd.service", "dovecot.service", "postfix.service", "nginx.service", "ssh.service",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/system-postfix.slice/postfix@-.service\n", "postfix@-.service"),
        ("0::/user.slice/user-0.slice/user@0.service/init.scope\n", "user@0.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("0::/init.scope\n", ""),
        ("0::/\n", ""),
    ],
)
def test_a_process_belongs_to_a_service(cgroup: str, unit: str) -> None:
    assert patch.unit_of(cgroup) == unit


_MAP = "7f0000000000-7f0000001000 r-xp 00000000 00:1f 42     "


@pytest.mark.parametrize(
    ("program", "maps", "old"),
    [
        ("/usr/sbin/nginx", f"{_MAP}/usr/lib/libssl.so.3\n", False),
        ("/usr/sbin/nginx (deleted)", "", True),
        ("/usr/sbin/nginx", f"{_MAP}/usr/lib/libssl.so.3 (deleted)\n", True),
        ("/usr/sbin/nginx", f"{_MAP}/usr/lib/locale/x (deleted)\n", False),
        (
            "/usr/sbin/nginx",
            f"{_MAP.replace('r-xp', 'r--p')}/usr/lib/libssl.so.3 (deleted)\n",
            False,
        ),
    ],
)
def test_old_code_is_what_runs_from_a_file_that_is_gone(program: str, maps: str, old: bool) -> None:
    assert patch.is_old(program, maps) is old


def test_changes_are_named_with_both_versions() -> None:
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert patch.changes(before, after) == [["b", "1", "2"], ["c", "1", ""], ["d", "", "1"]]


def test_files_that_an_update_took_away_and_nobody_else_brings() -> None:
    before = {"b": {"/usr", "/usr/old", "/usr/moved", "/usr/stays"}, "a": {"/usr", "/usr/other"}}
    after = {"b": {"/usr", "/usr/stays"}, "a": {"/usr", "/usr/moved"}}
    assert patch.gone(before, after, [["b", "1", "2"]]) == ["/usr/old"]
    assert patch.gone(before, after, []) == []


def test_watch_alone_has_the_key_and_it_leads_to_one_program(built: dict[str, HostState]) -> None:
    keys = {
        name: [it.content for it in state.files if it.path.endswith("authorized_keys.d/patching")]
        for name, state in built.items()
    }
    assert keys.pop("watch") == []
    for (line,) in keys.values():
        assert line.startswith('restrict,from="') and f'command="{patching.PATCH}"' in line
    holders = [
        name
        for name, state in built.items()
        if any(it.path == "/etc/mastio/patching.key" for it in state.files)
    ]
    assert holders == ["watch"]


def test_debians_own_timers_are_masked_and_only_fixes_are_taken(
    built: dict[str, HostState],
) -> None:
    for state in built.values():
        masked = {it.name for it in state.units if it.masked}
        assert {
            "apt-daily.timer",
            "apt-daily-upgrade.timer",
            "unattended-upgrades.service",
        } <= masked
        config = text(state, "/etc/apt/apt.conf.d/81-mastio-patches")
        assert config.count("origin=") == 1 and "label=Debian-Security" in config
        assert config.index("#clear Unattended-Upgrade::Origins-Pattern;") < config.index("origin=")


def test_the_window_is_the_site_files_and_the_lab_sleeps(vault: Vault) -> None:
    site = sites.demo_site()
    awake = build(site, vault, Internet(), kit.kit())["watch"]
    timer = text(awake, "/etc/systemd/system/mastio-patches-window.timer")
    assert f"OnCalendar=*-*-* {site.patches.at}:00" in timer
    assert "mastio-patches-window.timer" in {it.name for it in awake.units}
    asleep = build(site, vault, Internet(), kit.kit(awake=False))["watch"]
    assert "mastio-patches-window.timer" not in {it.name for it in asleep.units}


def test_the_tracker_is_asked_only_where_the_site_allows(vault: Vault) -> None:
    site = sites.demo_site()
    for internet, asked in ((Internet(), True), (Internet(offline=True), False)):
        state = build(site, vault, internet, kit.kit())["watch"]
        assert bool(json.loads(text(state, patching.SETTINGS))["tracker"]) is asked


def test_the_services_that_run_old_code(tmp_path: Path) -> None:
    def process(pid: int, program: str, cgroup: str) -> None:
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "exe").symlink_to(program)
        (folder / "maps").write_text("")
        (folder / "cgroup").write_text(f"0::{cgroup}\n")

    process(1, "/usr/lib/systemd/systemd", "/init.scope")
    process(100_001, "/usr/sbin/nginx (deleted)", "/system.slice/nginx.service")
    process(100_002, "/usr/sbin/sshd", "/system.slice/ssh.service")
    process(100_003, "/bin/bash (deleted)", "/user.slice/user-0.slice/session-3.scope")
    assert patch.old_units(str(tmp_path)) == {"nginx.service"}
    (tmp_path / "1" / "exe").unlink()
    (tmp_path / "1" / "exe").symlink_to("/usr/lib/systemd/systemd (deleted)")
    assert patch.old_units(str(tmp_path)) == {"nginx.service", ""}


def test_sshd_takes_the_key_from_watch(built: dict[str, HostState]) -> None:
    for name, state in built.items():
        if name != "watch":
            sshd = text(state, "/etc/ssh/sshd_config.d/10-mastio.conf")
            assert "authorized_keys.d/patching" in sshd.partition("Match User root Address ")[2]
