"""The box's own Debian mirror is found in every form that sources take."""

from pathlib import Path

import pytest

from mastio.errors import MastioError
from mastio.lab import mirror
from mastio.lab.mirror import Mirror, Source

DEB822 = """\
# the archive
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
deb [arch=amd64] https://packages.example/php bookworm main
# deb http://commented.example/debian bookworm main
deb-src http://sources.example/debian bookworm main
deb [ signed-by=/a/key trusted=no ] http://one.example/debian bookworm main non-free # a comment
"""


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(mirror.SETTING, raising=False)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_deb822(etc: Path) -> None:
    (etc / "sources.list.d/debian.sources").write_text(DEB822)
    assert mirror.find(etc) == Mirror(
        "http://mirror.example/debian", "http://mirror.example/debian-security"
    )
    found = list(mirror.deb822(DEB822))
    assert found[0] == Source("http://mirror.example/debian", "bookworm", ("main", "contrib"))
    assert [it.suite for it in found] == ["bookworm", "bookworm-updates", "bookworm-security"]


def test_one_line_style_passes_over_other_archives(etc: Path) -> None:
    (etc / "sources.list").write_text(ONE_LINE)
    assert mirror.find(etc) == Mirror(
        "http://one.example/debian", "http://one.example/debian-security"
    )


def test_a_list_of_mirrors(etc: Path) -> None:
    (etc / "mirrors").write_text(
        "# nearest first\nhttp://near.example/debian\tpriority:1\nhttp://far/debian\n"
    )
    (etc / "sources.list").write_text(f"deb mirror+file:{etc}/mirrors trixie main\n")
    assert mirror.find(etc).archive == "http://near.example/debian"


def test_none(etc: Path) -> None:
    (etc / "sources.list").write_text("deb http://archive.example/ubuntu noble main\n")
    with pytest.raises(MastioError) as error:
        mirror.find(etc)
    assert mirror.SETTING in error.value.hint


def test_the_setting_wins(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mirror.SETTING, "http://set.example/debian http://sec.example/security")
    assert mirror.find(etc) == Mirror("http://set.example/debian", "http://sec.example/security")
    monkeypatch.setenv(mirror.SETTING, "http://set.example/debian")
    assert mirror.find(etc).security == "http://set.example/debian-security"


def test_sources_have_updates_and_security() -> None:
    text = Mirror("http://m/debian", "http://m/debian-security").sources("trixie", "signed-by=/k")
    assert text.splitlines() == [
        "deb [signed-by=/k] http://m/debian trixie main",
        "deb [signed-by=/k] http://m/debian trixie-updates main",
        "deb [signed-by=/k] http://m/debian-security trixie-security main",
    ]
