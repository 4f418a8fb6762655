"""Other people's tools: what lynis(8), ssh-audit(1) and testssl(1) find, as their machine-readable reports say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TOOLS = ("lynis", "ssh-audit", "testssl", "testssl.sh")


def found(names: list[str]) -> str:
    """Where the first of these programs is; "" when none is installed."""
    return next((path for it in names if (path := shutil.which(it, path=_PATH))), "")


def lynis(program: str, seconds: float) -> str:
    """lynis's report on this machine; log and report are in a folder of their own, and gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        report = f"{folder}/report"
        _run([program, "audit", "system", "--quick", "--no-colors", "--quiet", "--logfile", f"{folder}/log",
              "--report-file", report], seconds)  # fmt: skip
        return _text(report)


def ssh_audit(program: str, address: str, port: int, seconds: float) -> str:
    """ssh-audit's report on one sshd, JSON."""
    done = _run([program, "--json", "--port", str(port), address], seconds)
    if done.returncode not in (0, 2, 3):  # 2 and 3 are "there are warnings", "there are failures"
        raise ValueError(f"ssh-audit of {address}: {_last(done.stdout) or done.returncode}")
    return done.stdout.decode(errors="replace")


def testssl(
    program: str, address: str, port: int, name: str, opening: str, seconds: float
) -> list[dict[str, str]]:
    """testssl's findings on one door, met under `name`."""
    with tempfile.TemporaryDirectory() as folder:
        report = f"{folder}/report.json"
        argv = [program, "--quiet", "--color", "0", "--warnings", "off", "-p", "-s", "-f", "-S", "-U",
                "--add-ca", "/etc/ssl/certs/ca-certificates.crt", "--jsonfile", report, "--ip", address]  # fmt: skip
        argv += [*(["--starttls", opening] if opening else []), f"{name}:{port}"]
        done = _run(argv, seconds)
        if not os.path.exists(report):
            raise ValueError(f"testssl of {name}: {_last(done.stdout) or done.returncode}")
        rows: list[dict[str, str]] = json.loads(_text(report))
        return rows


def _run(argv: list[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
    name = os.path.basename(argv[0])
    if name not in _TOOLS or argv[0] != found([name]):
        raise ValueError(f"{argv[0]} is none of the tools that may be run")
    env = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "TERM": "dumb", "HOME": "/root"}
    try:
        return subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, env=env, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{argv[0]} took longer than {seconds:.0f} s") from None


def _text(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read()


def _last(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
