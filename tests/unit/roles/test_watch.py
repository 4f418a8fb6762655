"""The watch's part: whose logs it takes, whose clock and proxy it is."""

import re
from dataclasses import replace

import pytest

from mastio.context import Context, Internet
from mastio.flows import expand
from mastio.roles import watch
from mastio.site.model import Intrusion, Site
from mastio.state import HostState
from tests import sites


def built(site: Site, machine: str = "watch", internet: Internet | None = None) -> HostState:
    matrix = expand(site)
    return watch.build(Context(site, matrix, site.machine(machine), internet or Internet(), {}))


def content(state: HostState, path: str) -> str:
    return next(it.content for it in state.files if it.path == path)


def test_each_machine_of_the_site_has_a_door_for_its_own_certificate() -> None:
    config = content(built(sites.demo_site()), "/etc/rsyslog.d/20-receive.conf")
    inputs = re.findall(
        r'address="(\S+)" port="(\d+)" ruleset="of-(\S+)"\s+.*tls.permittedPeer=\["(\S+)"\]', config
    )
    assert config.count('input(\n    type="imrelp"') == len(inputs) == 8
    for _, _, machine, peer in inputs:
        assert peer == f"{machine}.demo.internal"
    assert sorted({(port, machine) for _, port, machine, _ in inputs}) == [
        ("6515", "firewall"), ("6516", "gateway"), ("6517", "store"), ("6518", "webmail"),
    ]  # fmt: skip
    # No queue: a line is written before its sender hears that it is there.
    door = 'ruleset(name="of-store" queue.type="Direct") {\n    set $.machine = "store";'
    assert door in config


def test_whose_a_line_is_is_never_taken_from_the_line() -> None:
    config = content(built(sites.demo_site()), "/etc/rsyslog.d/20-receive.conf")
    assert 'string="/var/log/remote/%$.machine%/%$now%.log"' in config
    assert "%hostname%" not in config.lower()


def test_the_clock_serves_the_site_and_asks_the_internet_unless_offline() -> None:
    online = content(built(sites.demo_site()), "/etc/chrony/chrony.conf")
    offline = content(
        built(sites.demo_site(), internet=Internet(offline=True)), "/etc/chrony/chrony.conf"
    )
    assert "pool " in online
    assert "pool " not in offline
    for config in (online, offline):
        assert "local stratum 10\n" in config
        assert "allow 10.77.3.10\nallow fd6d:6173:7469:3::a\n" in config


def test_the_proxy_lets_through_the_mirrors_and_nothing_like_them() -> None:
    site = replace(sites.demo_site(), mirrors=("deb.debian.org",), ids=Intrusion(rules=""))
    state = built(site)
    assert content(state, "/etc/tinyproxy/allowed") == "^deb\\.debian\\.org$\n"
    config = content(state, "/etc/tinyproxy/tinyproxy.conf")
    assert "FilterDefaultDeny Yes\n" in config
    assert "ConnectPort 443\n" in config
    for address in site.machine("watch").addresses:
        assert f"Listen {address}\n" in config


def test_the_proxy_lets_through_where_rules_come_from_unless_nobody_reads_them() -> None:
    site = sites.demo_site()
    assert "^rules\\.emergingthreats\\.net$\n" in content(built(site), "/etc/tinyproxy/allowed")
    off = replace(site, ids=Intrusion(enabled=False))
    assert "emergingthreats" not in content(built(off), "/etc/tinyproxy/allowed")


def test_alone_it_serves_nobody() -> None:
    state = built(sites.single_site(), "mail")
    assert "imrelp" not in content(state, "/etc/rsyslog.d/20-receive.conf")
    assert "\nport 0\n" in content(state, "/etc/chrony/chrony.conf")
    assert "tinyproxy" not in state.packages


@pytest.mark.parametrize("site", [sites.demo_site(), sites.split_site(), sites.v4_site()])
def test_it_is_deterministic(site: Site) -> None:
    assert built(site) == built(site)


def test_policies_come_through_a_proxy_of_their_own_for_the_sending_gateway_alone() -> None:
    state = built(sites.split_site())
    config = content(state, "/etc/tinyproxy/mastio-policies.conf")
    assert re.findall("^Allow (.*)$", config, re.MULTILINE) == [
        "10.77.5.10",
        "fd6d:6173:7469:5::a",
    ]
    assert "Port 3129\n" in config and "ConnectPort 443\n" in config
    assert "FilterDefaultDeny Yes\n" in config
    (allowed,) = content(state, "/etc/tinyproxy/policies").splitlines()
    assert re.match(allowed, "mta-sts.example.com")
    assert not re.match(allowed, "evil.mta-sts.example.com")
    assert not re.match(allowed, "mta-stsx.example.com")
