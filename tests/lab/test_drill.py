"""`mastio drill breach` on the real site: what lies there by design is granted, what is planted is found.

Each planted thing lies there for seconds, and is taken away whatever happens.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio

pytestmark = pytest.mark.lab

PLACE = "/usr/local/share/forgotten"
MAIL = b"Return-Path: <x@outside.test>\r\nFrom: x@outside.test\r\nSubject: secret\r\n\r\nsecret\r\n"


def drill(lab: Lab, *machines: str) -> dict[str, Any]:
    """Run `mastio drill breach --json`; its report."""
    done = mastio(lab.folder, "drill", "breach", "--json", *machines)
    assert done.returncode in (0, 1, 69), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    report["code"] = done.returncode
    return report


@contextmanager
def planted(lab: Lab, machine: str, name: str, content: bytes) -> Iterator[None]:
    """A file on a machine; none afterwards."""
    path = f"{PLACE}/{name}"
    script = f"umask 077; mkdir -p $(dirname {path}); cat > {path}"
    try:
        assert lab.transport.run(machine, ["sh", "-euc", script], content).code == 0
        yield
    finally:
        assert lab.run(machine, ["rm", "-rf", PLACE]).code == 0


def test_each_machine_has_what_the_design_grants(lab: Lab) -> None:
    report = drill(lab)
    print(json.dumps(report, indent=1))
    assert report["code"] == 0 and report["verdict"] == "passed"
    by_name = {it["machine"]: it for it in report["machines"]}
    assert set(by_name) == {it.name for it in lab.site.machines}
    powers = {name: {x["power"] for x in it["powers"]} for name, it in by_name.items()}
    # By hand: these hold whatever the table of grants says.
    store, webmail, watch = (
        mail.the(lab, it).name for it in (Role.STORE, Role.WEBMAIL, Role.WATCH)
    )
    assert [name for name, it in powers.items() if "read stored mail" in it] == [store]
    assert [name for name, it in powers.items() if "guess passwords from their hashes" in it] == [
        store
    ]
    assert [name for name, it in powers.items() if "send to the internet by itself" in it] == [
        "gateway"
    ]
    assert [name for name, it in powers.items() if "read and change the kept logs" in it] == [watch]
    assert {(x["target"], x["service"]) for x in by_name[webmail]["reaches"] if x["target"] == store} == {
        (store, it) for it in ("imaps", "submissions", "sieve", "password")
    }  # fmt: skip
    keys = {
        (name, x["path"]): x["of"]
        for name, it in by_name.items()
        for x in it["secrets"]
        if x["path"] == "/etc/mastio/pki/host.key"
    }
    assert keys == {
        (name, "/etc/mastio/pki/host.key"): [lab.site.internal_name(name)] for name in by_name
    }


def key_of_the_store(lab: Lab) -> bytes:
    store = mail.the(lab, Role.STORE).name
    return lab.run(store, ["cat", "/etc/mastio/pki/host.key"]).stdout


@pytest.mark.parametrize(("name", "kind", "power"), [
    ("notes.txt", "private key", ""),
    ("alice/cur/1", "mail", "read stored mail"),
])  # fmt: skip
def test_what_is_planted_is_found_and_clean_afterwards(
    lab: Lab, name: str, kind: str, power: str
) -> None:
    webmail = mail.the(lab, Role.WEBMAIL).name
    content = MAIL if kind == "mail" else key_of_the_store(lab)
    with planted(lab, webmail, name, content):
        if kind == "mail":
            lab.run(webmail, ["mkdir", f"{PLACE}/alice/new", f"{PLACE}/alice/tmp"])
        report = drill(lab, webmail)
        shown = mastio(lab.folder, "drill", "breach", webmail)
    (machine,) = report["machines"]
    surplus = [it for it in machine["secrets"] if not it["granted"]]
    path = f"{PLACE}/alice" if kind == "mail" else f"{PLACE}/{name}"
    assert [(it["kind"], it["path"], it["count"]) for it in surplus] == [(kind, path, 1)]
    assert [it["power"] for it in machine["powers"] if not it["granted"]] == [power] * bool(power)
    assert report["code"] == 1 and any(path in words for words in machine["findings"])
    assert shown.returncode == 1 and path in shown.stdout
    assert content.splitlines()[1].decode() not in shown.stdout + json.dumps(report)
    after = drill(lab, webmail)
    assert after["code"] == 0 and after["machines"][0]["findings"] == []


def test_the_page_tells_of_every_machine(lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "verify.html"
    done = mastio(lab.folder, "verify", "--only", "N2,N5,H7", "--html", str(page))
    assert done.returncode == 0, done.stdout
    content = page.read_text().partition("If a machine is broken into")[2]
    for machine in lab.site.machines:
        assert f'<h3>{machine.name}<span class="tag passed">as the design grants' in content


def test_a_machine_that_does_not_answer_is_not_green(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over ssh, as in production, with its sshd away."""
    webmail = mail.the(lab, Role.WEBMAIL).name
    monkeypatch.setenv("MASTIO_OVER_SSH", "1")
    lab.run(
        webmail, ["sh", "-c", "systemctl stop ssh.socket 2>/dev/null; systemctl stop ssh.service"]
    )
    try:
        report = drill(lab, webmail)
    finally:
        lab.run(webmail, ["systemctl", "start", "ssh.service"])
    (machine,) = report["machines"]
    assert report["code"] == 69 and machine["verdict"] == "could not check"
    assert machine["could_not_look"] and not machine["cannot"] and not machine["findings"]
