"""The part that every machine has: names, keys, sshd, logs, time, packages."""

from dataclasses import replace

import pytest

from mastio.context import Context, Internet
from mastio.flows import expand
from mastio.roles import common, firewall
from mastio.site.model import Site
from mastio.state import File, HostState
from tests import sites


class Vault(dict[str, str]):
    """Gives any secret a content that tells its name."""

    def __missing__(self, name: str) -> str:
        return f"content of {name}\n"


def built(site: Site, machine: str) -> HostState:
    context = Context(
        site,
        expand(site),
        site.machine(machine),
        Internet(),
        Vault({"ca/cert": "content of ca/cert\n"}),
    )
    return common.build(context)


def file(state: HostState, path: str) -> File:
    return next(it for it in state.files if it.path == path)


def paths(state: HostState) -> set[str]:
    return {it.path for it in state.files}


def test_all_machines_know_all_names_in_both_families() -> None:
    site = sites.demo_site()
    hosts = file(built(site, "store"), "/etc/hosts").content.splitlines()
    for machine in site.machines:
        for address in machine.addresses:
            assert f"{address} {machine.name}.demo.internal {machine.name}" in hosts


def test_a_machine_gets_its_own_key_and_no_other() -> None:
    keys = [it for it in built(sites.demo_site(), "store").files if it.path.endswith(".key")]
    assert [(it.path, it.content, it.mode, it.secret) for it in keys] == [
        ("/etc/mastio/pki/host.key", "content of host/store/key\n", 0o600, True)
    ]


@pytest.mark.parametrize(
    ("machine", "name"), [("gateway", "mx.fortress.test"), ("webmail", "mail.fortress.test")]
)
def test_the_public_certificate_is_where_the_internet_looks(machine: str, name: str) -> None:
    state = built(sites.demo_site(), machine)
    assert file(state, "/etc/mastio/pki/public.pem").content == f"content of public/{name}/cert\n"
    assert file(state, "/etc/mastio/pki/public.key").secret


def test_sshd_listens_where_a_flow_ends_and_takes_keys_alone() -> None:
    site = sites.demo_site()
    state = built(site, "store")
    sshd = file(state, "/etc/ssh/sshd_config.d/10-mastio.conf").content
    for address in site.machine("store").addresses:
        assert f"ListenAddress {address}\n" in sshd
    assert "AuthenticationMethods publickey\n" in sshd
    assert "AllowTcpForwarding no\n" in sshd
    assert file(state, "/etc/ssh/authorized_keys.d/root").content == f"{sites.ADMIN_KEY}\n"


def test_only_the_bastion_forwards() -> None:
    sshd = file(built(sites.demo_site(), "watch"), "/etc/ssh/sshd_config.d/10-mastio.conf").content
    assert "AllowTcpForwarding local\n" in sshd


def test_without_a_flow_there_is_no_sshd() -> None:
    state = built(replace(sites.single_site(), admin_networks=()), "mail")
    assert "/etc/ssh/sshd_config.d/10-mastio.conf" not in paths(state)
    assert [it.masked for it in state.units if it.name == "ssh.service"] == [True]
    assert "sshd" not in {it.name for it in state.checks}


def test_logs_go_to_watch_over_mutual_tls_from_a_disk_queue() -> None:
    config = file(built(sites.demo_site(), "store"), "/etc/rsyslog.conf").content
    assert 'type="omrelp" target="watch.demo.internal" port="6514"' in config
    assert 'tls.authMode="name" tls.permittedPeer=["watch.demo.internal"]' in config
    assert 'queue.type="Disk"' in config
    assert 'action.resumeRetryCount="-1"' in config


def test_a_machine_alone_sends_its_logs_nowhere() -> None:
    state = built(sites.single_site(), "mail")
    assert "omrelp" not in file(state, "/etc/rsyslog.conf").content
    assert "/etc/apt/apt.conf.d/80-mastio" not in paths(state)


def test_time_and_packages_come_from_watch() -> None:
    state = built(sites.demo_site(), "store")
    chrony = file(state, "/etc/chrony/chrony.conf").content
    assert "server watch.demo.internal iburst minpoll 2 maxpoll 3\n" in chrony
    assert "\nport 0\n" in chrony
    apt = file(state, "/etc/apt/apt.conf.d/80-mastio").content
    assert 'Acquire::http::Proxy "http://10.77.4.10:3128";' in apt


def test_who_resolves_names_brings_its_own_resolver() -> None:
    site = sites.demo_site()
    assert "/etc/resolv.conf" not in paths(built(site, "gateway"))
    assert "nameserver" not in file(built(site, "store"), "/etc/resolv.conf").content


def test_only_the_firewall_routes() -> None:
    site = sites.demo_site()
    context = Context(site, expand(site), site.machine("firewall"), Internet(), Vault())
    router = firewall.build(context).files[0].content
    assert "net.ipv4.ip_forward = 1\n" in router
    assert "net.ipv6.conf.all.forwarding = 1\n" in router
    for machine in site.machines:
        sysctl = file(built(site, machine.name), "/etc/sysctl.d/80-mastio.conf").content
        assert "forward" not in sysctl


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_it_builds_everywhere_and_twice_the_same(site: Site) -> None:
    for machine in site.machines:
        assert built(site, machine.name) == built(site, machine.name)
        assert all(it.content.endswith("\n") for it in built(site, machine.name).files)
