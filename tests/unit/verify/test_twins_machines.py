"""Broken twins of machines: C4, C5, P1, P3; and of what other people's tools say: X1, X2, X3."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mastio.errors import MastioError
from mastio.site.model import Reach
from mastio.verify import runner
from mastio.verify.checks import content, eyes, host
from mastio.verify.model import Secret, Verdict
from mastio.verify.probes import eyes as eyes_probe
from mastio.verify.probes import host as host_probe
from mastio.verify.vantage import NotRunError, Vantage, not_run
from tests import sites
from tests.unit.verify.fakes import Here, Says, check, ground, vantage

REPORTS = Path(__file__).parent / "reports"
"""What the tools of Debian 13 wrote about machines of the lab, less the lines that no check reads."""


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
    """Every probe gives what `answer` says; it gets the function and its arguments."""
    monkeypatch.setattr(Vantage, "ask", lambda self, function, *args, **kw: answer(function, *args))


def at(name: str, text: str = "", reach: Reach = Reach.SSH) -> Vantage:
    """A vantage of a site that is no lab; its commands print `text`."""
    site = replace(sites.demo_site(), reach=reach)
    return Vantage(name, ground(Says(text), site), time.monotonic() + 10)


def test_what_has_nothing_to_look_at_is_not_run() -> None:
    def nothing(_: Vantage) -> Any:
        raise not_run("it is not installed")
        yield

    def something(_: Vantage) -> Any:
        yield "a fault"
        raise not_run("and then nothing")

    found = [
        runner.look(ground(Here()), check(it), "store", time.monotonic() + 5)
        for it in (nothing, something)
    ]
    assert [it.verdict for it in found] == [Verdict.NOT_RUN, Verdict.FAILED]
    assert found[0].seen == ("it is not installed",)


def test_a_process_may_call_itself_what_it_likes(tmp_path: Path) -> None:
    """Anybody may, and in no alphabet (prctl(2), PR_SET_NAME): no probe ends by it."""
    own = Path("/proc/self/comm")
    name = own.read_bytes()
    shell = tmp_path / "shell"
    shell.write_bytes(Path("/bin/sh").read_bytes())
    shell.chmod(0o755)
    rename = "printf '\\377\\033' >/proc/$$/comm; echo; read line"
    with (
        socket.socket() as door,
        subprocess.Popen(
            [shell, "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as odd,
    ):
        assert odd.stdout and odd.stdout.readline()
        shell.unlink()
        assert "\\xff\x1b: its program" in host_probe.deleted()
        inode = str(os.fstat(door.fileno()).st_ino)
        own.write_bytes(b"\xff")
        try:
            file = os.path.realpath("/proc/self/exe")
            assert host_probe._programs({inode}) == {inode: {("\\xff", file)}}
        finally:
            own.write_bytes(name)
        odd.communicate()


def test_what_an_odd_machine_says_lies_there_is_no_secret_of_a_kind() -> None:
    """H7: what is no answer is no green, and what is one can be printed."""
    row = {
        "kind": "mail",
        "path": "/\ud800\n",
        "owner": "\x1b[2J",
        "mode": 5,
        "count": 1,
        "of": [5],
    }
    seen = json.dumps({"answer": {"found": [row], "unread": []}})
    (secret,) = (it for it in host.belongings(at("store", seen)) if isinstance(it, Secret))
    assert secret.words == r"mail of 5 at /\ud800\n (\x1b[2J 5)"
    with pytest.raises(ValueError, match="nonsense"):
        list(host.belongings(at("store", seen.replace("mail", "nonsense"))))


_RULE = {
    "action": "soft reject",
    "expression": "CLAM_FAIL",
    "require_action": ["no action", "greylist"],
}


@pytest.mark.parametrize(("change", "holds"), [
    ({}, True),
    ({"expression": "CLAM_FAIL | OTHER"}, True),
    ({"action": "no action"}, False),
    ({"expression": "CLAM_FAIL & OTHER"}, False),
    ({"expression": "NOT_CLAM_FAIL"}, False),
    ({"enabled": False}, False),
    ({"require_action": ["greylist"]}, False),
    ({"honor_action": ["no action"]}, False),
])  # fmt: skip
def test_c4_a_rule_that_defers(change: dict[str, Any], holds: bool) -> None:
    assert content.defers(_RULE | change, "CLAM_FAIL") is holds


@pytest.mark.parametrize(("made", "mirrors", "faults"), [
    ({"main": 400, "daily": 1}, True, 0),
    ({"main": 400, "daily": 9}, True, 1),
    ({"daily": 1}, True, 1),
    ({}, True, 2),
    ({}, False, 2),
])  # fmt: skip
def test_c5(
    monkeypatch: pytest.MonkeyPatch, made: dict[str, int], mirrors: bool, faults: int
) -> None:
    now = datetime.now(UTC)
    rows = [
        [f"{it}.cvd", f"{now - timedelta(days=days):%d %b %Y %H-%M +0000}"]
        for it, days in made.items()
    ]
    answering(monkeypatch, lambda ask, *_: rows if ask is host_probe.signatures else [1, 0, 1])
    here = at("gateway")
    assert len(list(content.signatures(here))) == faults


@pytest.mark.parametrize(("file", "hours", "loaded", "faults"), [
    (27701, 9, 27701, 0),
    (27701, 9, 27702, 0),  # a version that was taken back
    (27701, 1, 27700, 0),  # it may still be at it
    (27701, 3, 27700, 1),
    (27701, 3, 0, 1),
    (27701, 3, None, 0),  # it does not answer: C1 and the gateway's pulse say so
])  # fmt: skip
def test_c5_what_has_come_must_be_loaded(
    monkeypatch: pytest.MonkeyPatch, file: int, hours: int, loaded: int | None, faults: int
) -> None:
    built = f"{datetime.now(UTC):%d %b %Y %H-%M +0000}"
    rows = [[f"{it}.cvd", built] for it in ("main", "daily")]
    state = [file, hours * 3600 + 60, loaded]
    answering(monkeypatch, lambda ask, *_: rows if ask is host_probe.signatures else state)
    found = list(content.signatures(at("gateway")))
    assert len(found) == faults
    assert all(f"has not loaded the daily signatures {file}" in it for it in found)


@pytest.mark.parametrize(("says", "loaded"), [
    (b"ClamAV 1.4.6/27701/Tue Jul 15 10:32:00 2025\0", 27701),
    (b"ClamAV 1.4.6\0", 0),
    (b"UNKNOWN COMMAND\0", None),
    (b"", None),
])  # fmt: skip
def test_c5_asks_the_scanner_what_it_has_loaded(
    tmp_path: Path, says: bytes, loaded: int | None
) -> None:
    (tmp_path / "daily.cld").write_text("ClamAV-VDB:15 Jul 2025 06-32 -0400:27701:1:90:x:x:x:1:")
    path = str(tmp_path / "clamd.ctl")
    heard = []
    with socket.socket(socket.AF_UNIX) as server, ThreadPoolExecutor() as pool:
        server.bind(path)
        server.listen()

        def clamd() -> None:
            conversation = server.accept()[0]
            with conversation:
                heard.append(conversation.recv(100))
                conversation.sendall(says)

        answered = pool.submit(clamd)
        version, seconds, found = host_probe.daily(str(tmp_path), path)
        answered.result()
    assert (version, found, heard) == (27701, loaded, [b"zVERSION\0"])
    assert seconds is not None and 0 <= seconds < 600
    assert host_probe.daily(str(tmp_path), f"{path}x")[2] is None
    assert host_probe.daily(f"{tmp_path}/none", path)[:2] == (0, 0)


def test_c5_the_lab_has_no_way_to_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, lambda *_: [])
    with pytest.raises(NotRunError, match="lab"):
        list(content.signatures(at("gateway", reach=Reach.LAB)))


def test_c5_reads_the_header_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "daily.cvd").write_text(
        "ClamAV-VDB:15 Jul 2025 06-32 -0400:27701:355:90:x:y:builder:1752:"
    )
    (tmp_path / "main.cvd").write_text("no such thing")
    assert host_probe.signatures(str(tmp_path)) == [["daily.cvd", "15 Jul 2025 06-32 -0400"]]


_LISTS = {
    "lists": ["deb.debian.org_debian-security_dists_trixie-security_InRelease"],
    "seconds": 60,
}
_APT = """Reading package lists...
Inst base-files [13.8+deb13u8] (99 {label}:stable-security [amd64])
Conf base-files (99 {label}:stable-security [amd64])
"""


@pytest.mark.parametrize(("text", "fires"), [
    ("0 upgraded\n", False),
    (_APT.format(label="Debian"), False),
    (_APT.format(label="Debian-Security"), True),
])  # fmt: skip
def test_p1(monkeypatch: pytest.MonkeyPatch, text: str, fires: bool) -> None:
    answering(monkeypatch, lambda *_: _LISTS)
    assert bool(list(host.security_updates(at("store", text)))) is fires


@pytest.mark.parametrize("known", [
    _LISTS | {"lists": []}, _LISTS | {"seconds": 9 * 86400}, _LISTS | {"lists": ["deb.debian.org_InRelease"]},
])  # fmt: skip
def test_p1_without_fresh_lists_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, Any]
) -> None:
    answering(monkeypatch, lambda *_: known)
    with pytest.raises(MastioError, match="apt-get update") as caught:
        list(host.security_updates(at("store")))
    assert not isinstance(caught.value, NotRunError)


@pytest.mark.parametrize(("running", "installed", "fires"), [
    ("6.12.48+deb13-amd64", ["6.12.9+deb13-amd64", "6.12.48+deb13-amd64"], False),
    ("6.12.9+deb13-amd64", ["6.12.9+deb13-amd64", "6.12.48+deb13-amd64"], True),
])  # fmt: skip
def test_p3(
    monkeypatch: pytest.MonkeyPatch, running: str, installed: list[str], fires: bool
) -> None:
    answering(monkeypatch, lambda *_: {"running": running, "installed": installed})
    assert bool(list(host.newest_kernel(vantage("store")))) is fires


def test_p3_a_container_has_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, lambda *_: {"running": "6.12.9", "installed": []})
    with pytest.raises(NotRunError, match="no kernel"):
        list(host.newest_kernel(vantage("store")))


def test_x1_lynis() -> None:
    report = (REPORTS / "lynis.txt").read_text()
    (words,) = eyes.lynis_warnings(report)
    assert words == "PKGS-7390 apt-get check returned a non successful exit code."
    clean = "\n".join(it for it in report.splitlines() if not it.startswith("warning[]"))
    ours = "warning[]=FINT-4315|No AIDE configuration file was found|-|-|"
    assert list(eyes.lynis_warnings(f"{clean}\n{ours}")) == []
    with pytest.raises(ValueError, match="did not finish"):
        list(eyes.lynis_warnings(report.partition("report_datetime_end")[0]))


def test_x2_ssh_audit() -> None:
    found = list(eyes.ssh_failures(json.loads((REPORTS / "ssh-audit.json").read_text())))
    assert found == [
        "mac hmac-sha1-etm@openssh.com: using broken SHA-1 hash algorithm",
        "mac hmac-sha1: using broken SHA-1 hash algorithm",
    ]
    clean = json.loads((REPORTS / "ssh-audit-clean.json").read_text())
    assert list(eyes.ssh_failures(clean)) == []
    hole = {"name": "CVE-2024-6387", "description": "regreSSHion"}
    assert list(eyes.ssh_failures(clean | {"cves": [hole]})) == ["CVE-2024-6387: regreSSHion"]


def test_x3_testssl() -> None:
    rows = json.loads((REPORTS / "testssl.json").read_text())
    assert [it.partition(":")[0] for it in eyes.tls_findings(rows)] == [
        "cert_trust",
        "cert_revocation",
    ]
    assert list(eyes.tls_findings([it for it in rows if it["severity"] != "HIGH"])) == []
    with pytest.raises(ValueError, match="no door"):
        list(
            eyes.tls_findings(
                [*rows, {"id": "scanProblem", "severity": "FATAL", "finding": "no door"}]
            )
        )


@pytest.mark.parametrize(
    ("look", "where"), [(eyes.system, "store"), (eyes.sshd, "watch"), (eyes.tls, "outside")]
)
def test_x1_x2_x3_a_tool_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[Vantage], Any], where: str
) -> None:
    answering(
        monkeypatch,
        lambda function, *_: "" if function is eyes_probe.found else pytest.fail("it ran"),
    )
    with pytest.raises(NotRunError, match="apt-get install"):
        list(look(vantage(where)))


def test_a_tool_works_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "lynis"
    tool.write_text(
        '#!/bin/sh\nwhile [ "$1" != --report-file ]; do shift; done\necho done > "$2"; dirname "$2" > "$0.at"\n'
    )
    tool.chmod(0o755)
    with pytest.raises(ValueError, match="none of the tools"):
        eyes_probe.lynis(str(tool), 10)  # not where tools are
    monkeypatch.setattr(eyes_probe, "_PATH", f"{tmp_path}:{eyes_probe._PATH}")
    assert eyes_probe.lynis(str(tool), 10) == "done\n"
    assert not Path((tmp_path / "lynis.at").read_text().strip()).exists()
