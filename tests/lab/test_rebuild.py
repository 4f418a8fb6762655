"""Each machine but the store, whose own test is with the archives, comes back from nothing."""

import json

import pytest

from mastio.cli.common import OVER_SSH
from mastio.site.model import Role
from tests.lab.arrivals import arrived, talk, write
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, deliver, inbox, message, the, token

pytestmark = pytest.mark.lab


def rebuilt(lab: Lab, role: Role) -> None:
    done = mastio(lab.folder, "rebuild", the(lab, role).name, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["machine"] == the(lab, role).name


@pytest.mark.parametrize("role", [Role.FIREWALL, Role.GATEWAY_IN, Role.WEBMAIL])
def test_it_does_its_work_again(lab: Lab, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilt(lab, role)
    with monkeypatch.context() as over_ssh:
        over_ssh.setenv(OVER_SSH, "1")
        assert "Nothing to do" in lab.mastio("plan"), "ssh knows it by its former host key"
    user, word = next(iter(lab.accounts)), token()
    code, reply = deliver(lab, message(CAROL, user, word))
    assert code == 250, reply
    assert inbox(lab, user, lab.accounts[user], word)
    looked = mastio(lab.folder, "verify", "--only", "N1,R1,R3,A3,W4,H1,H7")
    assert looked.returncode == 0, looked.stdout


def test_a_watch_that_is_new_gets_what_waited_for_it(lab: Lab) -> None:
    """Its logs and archives are gone with it; what machines wrote meanwhile waited there."""
    watch, store, word = the(lab, Role.WATCH).name, the(lab, Role.STORE).name, token()
    talk(lab)
    lab.mastio("lab", "reset", watch)
    write(lab, store, f"{word} while there was no watch")
    rebuilt(lab, Role.WATCH)
    talk(lab)
    assert arrived(lab, f"{word} while", 1, 60)
    # All of them: a site without archives is not well, and other tests look at this one.
    assert lab.mastio("backup", "now")
    assert "Nothing to do" in lab.mastio("plan")
