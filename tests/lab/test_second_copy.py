"""The second copy of backups: in a folder that is mounted on watch, and on a host beyond the site."""

import shlex
from collections.abc import Iterator

import pytest

from mastio.context import ALARMS
from mastio.lab import internet
from mastio.roles.backup import FOLDER, KEYS
from mastio.site.model import Role
from mastio.transport import OUTSIDE
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import the
from tests.lab.sabotage import on
from tests.lab.test_integrity import told
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

PLACE = "/srv/copies"
USER = "copies"
TOLD = "archives were not pruned or not copied"


@pytest.fixture(scope="module", autouse=True)
def archived_again(lab: Lab) -> Iterator[None]:
    """Each machine has an archive when this is over: these tests throw the site's away."""
    yield
    lab.mastio("backup", "now")


@pytest.fixture(autouse=True)
def begun(lab: Lab) -> Iterator[None]:
    """Archives and copies from nothing, and no alarms of former runs."""
    watch = the(lab, Role.WATCH).name
    clean = f"umount {PLACE} 2>/dev/null || true; rm -rf {FOLDER}/* {ALARMS}/* {PLACE}"
    on(lab, watch, clean)
    words = shlex.join(("mailbox", "INBOX", "subject", f"[{lab.site.name}]"))
    on(lab, the(lab, Role.STORE).name, f"doveadm expunge -u {lab.site.admin_mail} {words}")
    yield
    on(lab, watch, clean)
    on(lab, OUTSIDE, f"userdel -rf {USER} 2>/dev/null || true; rm -rf {PLACE}")


def archives(lab: Lab, where: str, machine: str) -> list[str]:
    """What borg finds in the copy, as somebody who has it and the passphrase, and nothing else of the site."""
    passphrase = lab.run(the(lab, Role.WATCH).name, ["cat", f"{KEYS}/{machine}"]).stdout
    script = (
        "export BORG_PASSPHRASE=$(cat) BORG_BASE_DIR=$(mktemp -d) BORG_RELOCATED_REPO_ACCESS_IS_OK=yes; "
        f"borg list --short {PLACE}/{lab.site.name}-{machine}; rm -r $BORG_BASE_DIR"
    )
    return lab.run(where, ["sh", "-c", script], passphrase).stdout.decode().split()


def nightly(lab: Lab) -> None:
    on(lab, the(lab, Role.WATCH).name, "systemctl start mastio-backup@daily.service")


def test_a_folder_on_watch_gets_the_newest_archives(lab: Lab) -> None:
    watch, store = the(lab, Role.WATCH).name, the(lab, Role.STORE).name
    with tuned(lab, f'[backup]\ncopy = "{PLACE}"\n'):
        lab.mastio("backup", "now", store)
        on(lab, watch, f"mkdir {PLACE}")
        nightly(lab)
        (why,) = told(lab, TOLD)
        assert "on the same disk as the archives" in why, "no disk is mounted there"
        on(lab, watch, f"mount -t tmpfs tmpfs {PLACE}")
        nightly(lab)
        (copied,) = archives(lab, watch, store)
        assert copied in lab.mastio("backup", "list", store)
        # Another disk than the one that had them is no copy.
        on(lab, watch, f"umount {PLACE}; mount -t tmpfs tmpfs {PLACE}")
        nightly(lab)
        assert any("is gone" in it for it in told(lab, TOLD, count=2))
        assert archives(lab, watch, store) == []


def test_a_host_beyond_the_site_gets_them_by_ssh(lab: Lab) -> None:
    store = the(lab, Role.STORE).name
    home = f"/home/{USER}/.ssh"
    on(
        lab,
        OUTSIDE,
        f"useradd --create-home {USER}; install -d -o {USER} {PLACE}; install -d -o {USER} {home}",
    )
    (host_key,) = on(lab, OUTSIDE, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").splitlines()
    address = internet.mta(lab.site)[0]

    def place(key: str) -> str:
        return f'[backup]\ncopy = "ssh://{USER}@{address}{PLACE}"\ncopy_host_key = "{key}"\n'

    refused = mastio(lab.folder, "backup", "copy-key")
    assert refused.returncode and "no second copy goes to another host" in refused.stderr
    with tuned(lab, place(host_key)):
        line = lab.mastio("backup", "copy-key").strip()
        on(lab, OUTSIDE, f"echo {shlex.quote(line)} > {home}/authorized_keys")
        lab.mastio("backup", "now", store)
        nightly(lab)
        assert "the second copy has the archive of" in lab.mastio("backup", "list")
        gateway = the(lab, Role.GATEWAY_IN).name
        (first,) = archives(lab, OUTSIDE, gateway)
        # The next night brings the next archive; nothing is brought twice.
        lab.mastio("backup", "now", gateway, store)
        nightly(lab)
        assert first in archives(lab, OUTSIDE, gateway)
        assert len(archives(lab, OUTSIDE, gateway)) == 2
        # With another passphrase what was copied still opens, and the next archive comes.
        lab.mastio("secrets", "rotate", f"backup/{gateway}/passphrase")
        lab.mastio("apply", "--yes")
        lab.mastio("backup", "now", gateway)
        nightly(lab)
        assert len(archives(lab, OUTSIDE, gateway)) == 3
        # The key opens borg in that folder and nothing else.
        known = "/etc/mastio/copy-known-hosts"
        words = (
            f"ssh -F none -i /etc/mastio/copy.key -o UserKnownHostsFile={known} {USER}@{address}"
        )
        watch = the(lab, Role.WATCH).name
        assert b"uid=" not in lab.run(watch, ["sh", "-c", f"{words} id </dev/null"]).stdout
        assert archives(lab, OUTSIDE, store)
    other = lab.run(store, ["cut", "-d ", "-f1,2", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    with tuned(lab, place(other.decode().strip())):
        nightly(lab)
        (why,) = told(lab, TOLD)
        assert "Host key verification failed" in why or "Connection closed by remote host" in why, (
            why
        )
