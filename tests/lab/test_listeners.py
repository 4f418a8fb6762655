"""Who listens at a declared port: another program there is told, its own never is, whatever it calls itself."""

import json
import shlex

import pytest

from mastio import services
from mastio.context import ALARMS
from tests.lab.conftest import TheLab as Lab
from tests.lab.sabotage import on
from tests.lab.test_integrity import begun, changed, check, different, store, watch
from tests.lab.test_verify import verify

pytestmark = pytest.mark.lab
__all__ = ("begun", "store", "watch")  # fixtures

_EAR = """
import socket, sys, time
open("/proc/self/comm", "w").write("dovecot")
ear = socket.socket()
ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
ear.bind((sys.argv[1], int(sys.argv[2])))
ear.listen()
time.sleep(3600)
"""
"""A program that calls itself by another's name."""
_UNIT = "/run/systemd/transient/ear.service"
_DISGUISE = "/usr/sbin/dovecot"


def usurper(address: str, port: int, *options: str, program: str = "/usr/bin/python3") -> str:
    """A script that has `_EAR` listen there, in a unit of its own."""
    run = (
        "systemd-run",
        "--quiet",
        "--unit=ear",
        *options,
        program,
        "-c",
        _EAR,
        address,
        f"{port}",
    )
    wait = f"timeout 60 sh -c 'until ss -Hltn src {address}:{port} | grep -q .; do sleep 0.1; done'"
    return f"{shlex.join(run)}; {wait}"


@pytest.mark.parametrize("disguised", [False, True])
def test_another_program_at_a_declared_port_is_told_and_its_own_never_is(
    lab: Lab, store: str, watch: str, disguised: bool
) -> None:
    address, port = lab.site.machine(store).addresses[0], services.IMAPS.port
    python = on(lab, store, "readlink -f /usr/bin/python3").strip()
    # By a mount that only the unit sees, the very path is right.
    mount = ("--property", f"BindReadOnlyPaths={python}:{_DISGUISE}") if disguised else ()
    begin = usurper(f"{address}", port, *mount, program=_DISGUISE if disguised else python)
    who = f"another file than {_DISGUISE}" if disguised else python
    words = f"held by {who}, not /usr/sbin/dovecot or /usr/lib/dovecot/*"
    end = "systemctl stop ear.service || true; systemctl start dovecot.service"
    with changed(lab, store, f"systemctl stop dovecot.service; {begin}", end):
        found = different(check(lab, store)[1][store])
        what = f"tcp {address} port {port} ({words})"
        assert found.pop(what)[0] == "new listener" and [*found] == [_UNIT], found
        book = json.loads(on(lab, watch, f"cat {ALARMS}/book.json"))
        assert what in book[f"integrity {store}"]["alarm"]["text"]
        report = verify(lab, "--only", "H1")
        seen = [
            it for one in report["findings"] if one["verdict"] == "failed" for it in one["seen"]
        ]
        assert f"{store}: {address} {port}/tcp is {words}" in seen, report
    for unit in ("dovecot", "postfix", "ssh"):
        on(lab, store, f"systemctl restart {unit}.service")
    code, again = check(lab, store)
    assert code == 0, again
    assert {it["verdict"] for it in verify(lab, "--only", "H1")["findings"]} == {"passed"}


def test_another_address_of_a_declared_port_is_no_door(lab: Lab, store: str) -> None:
    address, port = "198.18.0.1", services.IMAPS.port
    begin = f"ip address add {address}/32 dev lo; {usurper(address, port)}"
    end = f"systemctl stop ear.service || true; ip address del {address}/32 dev lo"
    with changed(lab, store, begin, end):
        found = different(check(lab, store)[1][store])
        assert {*found} == {_UNIT, f"tcp {address} port {port} (dovecot)"}, found
    code, again = check(lab, store)
    assert code == 0, again
