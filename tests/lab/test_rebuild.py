"""Each machine but the store, whose own test is with the archives, comes back from nothing."""

import json

import pytest

from mastio.cli.common import OVER_SSH, App
from mastio.lab import ground, ssh
from mastio.lab.model import machines
from mastio.lab.provider import Lab as Provider
from mastio.site.model import Role
from tests.lab.arrivals import arrived, talk, write
from tests.lab.conftest import Quiet, mastio
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, await_known, deliver, inbox, message, submit, the, token

pytestmark = pytest.mark.lab


def rebuilt(lab: Lab, role: Role) -> str:
    """The archive that came back; empty: none."""
    done = mastio(lab.folder, "rebuild", the(lab, role).name, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["machine"] == the(lab, role).name
    return str(told["archive"])


@pytest.mark.parametrize("role", [Role.FIREWALL, Role.GATEWAY_IN, Role.WEBMAIL])
def test_it_does_its_work_again(lab: Lab, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    user, known = next(iter(lab.accounts)), CAROL.replace("@", f"+{token()}@")
    code, reply = submit(lab, user, lab.accounts[user], message(user, known, token()))
    assert code == 250, reply
    await_known(lab, known)
    rebuilt(lab, role)
    await_known(lab, known)  # younger than any archive
    with monkeypatch.context() as over_ssh:
        over_ssh.setenv(OVER_SSH, "1")
        assert "Nothing to do" in lab.mastio("plan"), "ssh knows it by its former host key"
    word = token()
    code, reply = deliver(lab, message(CAROL, user, word))
    assert code == 250, reply
    assert inbox(lab, user, lab.accounts[user], word)
    looked = mastio(lab.folder, "verify", "--only", "N1,R1,R3,A3,W4,H1,H7")
    assert looked.returncode == 0, looked.stdout


def test_what_somebody_put_in_its_place_is_rebuilt_over_ssh(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As elsewhere than in the lab: a fresh Debian 13 at its addresses, root's key in it and nothing of ours."""
    name, app, provider = the(lab, Role.WEBMAIL).name, App(str(lab.folder)), Provider(lab.site.name)
    lab.mastio("backup", "now")
    provider.reset(name)
    provider.up(machines(lab.site, ground.states(lab.site, app.vault)), Quiet())
    ssh.write(lab.site)  # the pin of a host key that has changed is the administrator's affair
    key = "mkdir -p -m 700 /root/.ssh; cat >/root/.ssh/authorized_keys; systemctl start ssh.service"
    assert lab.run(name, ["sh", "-c", key], ssh.admin_key(lab.site.name).encode()).code == 0
    assert lab.run(name, ["systemctl", "is-active", "nginx.service"]).code, "it is not fresh"
    monkeypatch.setenv(OVER_SSH, "1")
    assert rebuilt(lab, Role.WEBMAIL), "its users' settings did not come back"
    assert "Nothing to do" in lab.mastio("plan")
    monkeypatch.delenv(OVER_SSH)
    looked = "verify", "--only", "N1,W1,W4,H1,H7"
    # The key that let its administrator in is worth nothing any more, and his to take away.
    assert "/root/.ssh/authorized_keys" in mastio(lab.folder, *looked).stdout
    assert lab.run(name, ["rm", "-r", "/root/.ssh"]).code == 0
    lab.mastio(*looked)


def test_a_watch_that_is_new_gets_what_waited_for_it(lab: Lab) -> None:
    """Its logs and archives are gone with it; what machines wrote meanwhile waited there."""
    watch, store, word = the(lab, Role.WATCH).name, the(lab, Role.STORE).name, token()
    talk(lab)
    lab.mastio("lab", "reset", watch)
    write(lab, store, f"{word} while there was no watch")
    rebuilt(lab, Role.WATCH)
    talk(lab)
    assert arrived(lab, f"{word} while", 1)
    # All of them: a site without archives is not well, and other tests look at this one.
    assert lab.mastio("backup", "now")
    assert "Nothing to do" in lab.mastio("plan")
