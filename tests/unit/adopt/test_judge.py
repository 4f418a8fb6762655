"""What speaks against taking a machine, and what of it can be overruled."""

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mastio.adopt import judge, pins
from mastio.adopt.judge import Seen
from mastio.transport import Pins, SshTransport
from tests.sites import demo_site

SITE = replace(demo_site(), admin_networks=(ip_network("198.51.100.0/28"),))
GATEWAY, WATCH = SITE.machine("gateway"), SITE.machine("watch")
FRESH = Seen(
    release={"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"}, python=[3, 13], uid=0,
    systemd=True, packages=[], installed=180,
    listeners=[("tcp", 22, "sshd", False), ("tcp", 25, "exim4", True), ("udp", 323, "chronyd", True)],
    mail=[], firewall=0, ours="", memory=1024, disk=20000, free=18000, users=["debian"], host="vps1",
)  # fmt: skip
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3W1l8Y3mVbN0c0m2G6Vd1q0l0s8Xx7Yw0y8n6l0Q2b"
OTHER = KEY.replace("AAAAIJ3W", "AAAAIJ3X")


def against(**changes: Any) -> list[tuple[str, bool]]:
    seen: Seen = {**FRESH, **changes}  # type: ignore[typeddict-item]
    return [(it.what, it.final) for it in judge.judge(seen, SITE, GATEWAY)]


def test_a_fresh_debian_is_fit() -> None:
    """With a mail server that only serves itself, as Debian had for long."""
    assert against() == []


@pytest.mark.parametrize(
    ("changes", "words", "final"),
    [
        (
            {"release": {"id": "debian", "version": "12", "name": "Debian 12"}},
            "Debian 12, not",
            True,
        ),
        (
            {"release": {"id": "ubuntu", "version": "13", "name": "Ubuntu"}},
            "Ubuntu, not Debian",
            True,
        ),
        ({"systemd": False}, "systemd", True),
        ({"mail": ["/var/vmail/alice"]}, "there is mail: /var/vmail/alice", False),
        ({"packages": ["dovecot-core", "postfix"]}, "dovecot-core, postfix", False),
        ({"packages": ["ufw"]}, "ufw would fight", False),
        ({"firewall": 12}, "12 rules", False),
        ({"listeners": [("tcp", 80, "nginx", False)]}, "nginx (tcp 80)", False),
        ({"listeners": [("udp", 53, "", False)]}, "something (udp 53)", False),
        ({"ours": "another"}, "belongs to the site another", False),
        ({"free": 900}, "900 MiB", False),
        ({"memory": 200}, "200 MiB", False),
    ],
)
def test_what_speaks_against_it(changes: dict[str, Any], words: str, final: bool) -> None:
    ((said, is_final),) = against(**changes)
    assert words in said
    assert is_final is final


def test_what_is_ours_already_is_not_foreign() -> None:
    assert (
        against(ours=SITE.name, packages=["postfix"], listeners=[("tcp", 25, "master", False)])
        == []
    )


def test_who_would_lock_himself_out_is_told() -> None:
    assert judge.comes_from(SITE, WATCH, "198.51.100.7") is None
    assert judge.comes_from(SITE, GATEWAY, "192.0.2.7") is None, "the way there leads through watch"
    assert "192.0.2.7" in str(judge.comes_from(SITE, WATCH, "192.0.2.7"))
    assert "2001:db8::1" in str(judge.comes_from(SITE, WATCH, "2001:db8::1"))
    known = {pins.fingerprint(KEY): KEY}
    assert judge.comes_with(SITE, pins.fingerprint(KEY), known) is None
    assert "admins.keys" in str(judge.comes_with(SITE, pins.fingerprint(OTHER), known))


def test_pins_are_kept_and_the_transport_believes_them_alone(tmp_path: Path) -> None:
    assert pins.load(tmp_path) == Pins()
    pins.write(tmp_path, {"watch": KEY, "gateway": OTHER})
    pins.remember(tmp_path, "watch", through_watch=False)
    pins.remember(tmp_path, "gateway", through_watch=True)
    assert pins.read(tmp_path) == {"watch": KEY, "gateway": OTHER}
    assert pins.through(tmp_path) == {"gateway"}
    transport = SshTransport(SITE, pins.load(tmp_path))
    argv = transport.argv("gateway", ["true"])
    for option in ("StrictHostKeyChecking=yes", "HostKeyAlias=gateway", "User=root"):
        assert option in argv
    (way,) = [it for it in argv if it.startswith("ProxyCommand=")]
    assert "HostKeyAlias=watch" in way and way.endswith(f"-W [%h]:%p -- {WATCH.addresses[0]}")
    assert not [it for it in transport.argv("watch", ["true"]) if it.startswith("ProxyCommand=")]
    assert "HostKeyAlias=store" not in transport.argv("store", ["true"]), "it is not adopted"
    assert "HostKeyAlias=watch" in transport.fresh().argv("watch", ["true"])
