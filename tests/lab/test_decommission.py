"""A second gateway comes, and leaves again for good: refused while it holds mail, then forgotten by everybody."""

import json
import shlex
from collections.abc import Iterator

import pytest

from mastio.lab.machine import Machine
from mastio.roles.backup import FOLDER as BACKUP
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import the
from tests.lab.patience import eventually
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab
NAME = "spare"


@pytest.fixture(scope="module")
def spare(lab: Lab) -> Iterator[str]:
    """The site with a second receiving gateway; the site file does not name it any more when the test begins."""
    file = lab.folder / "site.toml"
    before = file.read_text()
    rows = [*((it.name, it.roles) for it in lab.site.machines), (NAME, (Role.GATEWAY_IN,))]
    free = "".join(f"\n[machines.{name}]\nroles = {json.dumps(roles)}\n" for name, roles in rows)
    try:
        file.write_text(before + free)
        lab.mastio("lab", "up")
        lab.mastio("backup", "now", NAME)
        done = mastio(lab.folder, "decommission", NAME, "--yes")
        assert done.returncode == 64 and f"the site file still names {NAME}" in done.stderr
        file.write_text(before)
        yield NAME
    finally:
        file.write_text(before)
        lab.mastio("lab", "up")
        # A machine that is kept and stopped would be mistaken for one that reboots.
        Machine(lab.site.name, NAME).wipe()
        # Once anything was archived, verification misses the archives of all the others.
        on(lab, the(lab, Role.WATCH).name, f"rm -rf {BACKUP}/*")


def port_25(lab: Lab) -> str:
    return lab.run(NAME, ["ss", "-Hltn", "sport = :25"]).stdout.decode()


def test_a_machine_with_mail_in_its_queue_stays(lab: Lab, spare: str) -> None:
    on(
        lab, spare,
        # Not reloaded: for a moment more the former queue manager would send it on.
        "postconf -e defer_transports=store,out && systemctl restart postfix.service && "
        "printf 'Subject: left behind\\n\\nx\\n' | sendmail -f alice@fortress.test bob@fortress.test",
    )  # fmt: skip
    on(lab, spare, "timeout 300 sh -c 'until postqueue -j | grep -q deferred; do sleep 0.2; done'")
    on(lab, spare, "postsuper -h ALL")
    done = mastio(lab.folder, "decommission", spare, "--yes", "--wait", "2")
    assert done.returncode == 1, done.stderr
    assert f"{spare} stays: 1 messages wait in its queue" in done.stderr
    assert "bob@fortress.test" in done.stderr and "postsuper -d" in done.stderr
    eventually(lambda: port_25(lab), "its doors do not open again", rest=0.3)
    assert mastio(lab.folder, "decommission", spare).returncode == 64, (
        "nobody was there to be asked"
    )
    on(lab, spare, "postsuper -H ALL")


def test_then_its_queue_is_delivered_it_is_bare_and_nobody_knows_it(lab: Lab, spare: str) -> None:
    watch, store = the(lab, Role.WATCH), the(lab, Role.STORE)
    secret = on(lab, spare, "cat /etc/mastio/pki/host.key")
    done = mastio(lab.folder, "decommission", spare, "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert all(it["ok"] for it in told["others"].values()) and "/var/log" in told["left"]
    # What waited was delivered before its way was closed.
    seen = ["grep", "-rqE", "to=<bob@fortress.test>.*status=sent", f"/var/log/remote/{spare}/"]
    lost = "it was not delivered, or watch does not know"
    eventually(lambda: lab.run(watch.name, seen).code == 0, lost, rest=0.3)

    assert "inet" not in on(lab, spare, "nft list ruleset")
    assert (
        lab.run(
            spare, ["grep", "-rlF", secret.splitlines()[1], "/etc", "/usr/local", "/var/lib/mastio"]
        ).code
        == 1
    )
    on(
        lab,
        spare,
        "test ! -e /etc/mastio && test ! -e /etc/ssh/sshd_config.d/10-mastio.conf && sshd -t",
    )
    assert on(lab, spare, "cat /root/.ssh/authorized_keys") == "".join(
        f"{it}\n" for it in lab.site.admin_keys
    )
    assert (
        on(lab, spare, "systemctl is-active postfix.service rspamd.service || true").split()
        == ["inactive"] * 2
    )
    # Its firewall is gone, and still nobody lets it in.
    address = store.addresses[0]
    probe = (
        f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/24' 2>/dev/null && echo open || echo shut"
    )
    assert on(lab, spare, f"timeout 9 bash -c {shlex.quote(probe)}").strip() == "shut"
    for machine in lab.site.machines:
        assert lab.run(
            machine.name, ["grep", "-rlw", spare, "/etc/hosts", "/etc/mastio", "/etc/nftables.conf"]
        ).code
    assert f"host/{spare}" not in lab.mastio("secrets", "list", "--json")
    # Its archives can still be read, on watch.
    folder = told["archives"]
    assert folder.startswith(f"{BACKUP}/former/{spare}-")
    borg = f"BORG_PASSCOMMAND='cat {folder}/passphrase' borg list --short {folder}/repository"
    names = on(lab, watch.name, f"BORG_RELOCATED_REPO_ACCESS_IS_OK=yes {borg}")
    assert names.strip()
    on(lab, watch.name, f"rm -r {folder}")


def test_a_second_time_nothing_is_done(lab: Lab, spare: str) -> None:
    done = mastio(lab.folder, "decommission", spare, "--yes")
    assert done.returncode == 0 and "nothing of mastio is on it any more" in done.stderr
