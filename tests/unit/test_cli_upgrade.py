"""`mastio upgrade`: the order, what waits, and what it refuses before anything is touched."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mastio.cli import upgrade as cli
from mastio.cli.common import App
from mastio.errors import Exit, MastioError
from mastio.site.model import Site
from mastio.watch.rounds import order
from tests.sites import demo_site

SAID = """\
Reading package lists...
The following packages have been kept back:
  later
Inst base-files [13.8+deb13u1] (13.8+deb13u2 Debian:13.2/stable [amd64])
Inst linux-image-6.12.57+deb13-amd64 (6.12.57-1 Debian:13.2/stable [amd64])
Inst libc6 [2.41-12] (2.41-12+deb13u1 Debian:13.2/stable [amd64]) []
Conf base-files (13.8+deb13u2 Debian:13.2/stable [amd64])
"""


class Fake(App):
    def site(self) -> Site:
        return demo_site()


def call(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli.upgrade, words, obj=Fake(str(folder)), standalone_mode=False)


def test_what_apt_would_install_is_read_with_its_versions() -> None:
    assert cli.packages(SAID) == (
        ("base-files", "13.8+deb13u1", "13.8+deb13u2"),
        ("linux-image-6.12.57+deb13-amd64", "", "6.12.57-1"),
        ("libc6", "2.41-12", "2.41-12+deb13u1"),
    )
    assert cli.packages("Reading package lists...\n") == ()


def test_mastio_itself_comes_to_watch_first_and_packages_last() -> None:
    site = demo_site()
    names = order(site, [it.name for it in site.machines])
    assert names[-1] == "watch"
    assert cli.watch_first(site, names) == ["watch", *names[:-1]]


def test_nothing_is_done_for_a_machine_that_is_not_or_when_nobody_can_answer(
    tmp_path: Path,
) -> None:
    found = call(tmp_path, "--only", "cellar", "--plan").exception
    assert isinstance(found, MastioError) and found.code is Exit.USAGE
    assert "no such machine: cellar" in found.message
    found = call(tmp_path).exception
    assert isinstance(found, MastioError) and "--yes" in found.hint


def test_what_stops_it_is_said() -> None:
    good = {"machine": "store", "error": "", "worse": []}
    assert cli._wrong([good], "store") == ""
    assert cli._wrong([good], "watch") == "watch did not say how it went"
    assert cli._wrong([{**good, "worse": ["H1: mail"]}], "store") == "H1: mail"


def test_the_first_ctrl_c_begins_no_other_machine_and_the_second_leaves_the_one_at_work() -> None:
    leave = cli.Leave()
    with leave.heard():
        leave.at = "store"
        assert leave.before("watch") is None
        os.kill(os.getpid(), signal.SIGINT)
        stop = leave.before("watch")
    assert stop and stop.machine == "watch" and stop.code is Exit.INTERRUPTED
    with (
        pytest.raises(MastioError, match="left while store is still at work") as caught,
        leave.heard(),
    ):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)
    assert caught.value.code is Exit.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
