"""What stands on a server that carries a site's machines."""

import subprocess
from dataclasses import replace
from ipaddress import ip_network

import pytest

from mastio.server import carry
from mastio.site.model import Role
from mastio.state import HostState
from tests.sites import demo_site, split_site, v4_site

SITE = replace(demo_site(), admin_networks=(ip_network("198.51.100.0/28"),), server="box")


def text(path: str) -> str:
    return carry.files(SITE, (2222,))[path]


def test_a_machine_has_wires_into_its_zones_alone() -> None:
    for machine in SITE.machines:
        lines = text(f"/etc/systemd/nspawn/{machine.name}.nspawn").splitlines()
        inner = {it.rpartition(":")[2] for it in lines if it.startswith("VirtualEthernetExtra=")}
        zones = {it.name for it in SITE.zones}
        walled = machine.has(Role.FIREWALL)
        assert inner == ({*zones, "internet"} if walled else {machine.zone})
        assert "PrivateUsers=pick" in lines


def test_every_wire_ends_in_the_bridge_of_its_zone() -> None:
    bridges = {carry.bridge(it.name) for it in SITE.zones}
    made = {
        it.split()[3]
        for it in text("/etc/mastio-server/zones.net").splitlines()
        if it.startswith("link add")
    }
    assert made == bridges
    for machine in SITE.machines:
        lines = text(f"/etc/mastio-server/{machine.name}.net").splitlines()
        ends = {it.split()[3]: it.split()[5] for it in lines if " master " in it}
        assert ends == {
            carry.wire(machine.name, zone): carry.bridge(zone)
            for zone in carry.zones_of(SITE, machine)
        }


def test_names_fit_what_the_kernel_takes() -> None:
    site = replace(
        SITE, machines=tuple(replace(it, name="m" * 30 + it.name[:2]) for it in SITE.machines)
    )
    for machine in site.machines:
        for zone in carry.zones_of(site, machine):
            assert len(carry.wire(machine.name, zone)) <= 15 and len(carry.bridge(zone)) <= 15


def test_the_server_itself_is_in_no_zone() -> None:
    """Nothing gives it an address there, not even one of its own making."""
    lines = text("/etc/mastio-server/zones.net").splitlines()
    assert not any("address" in it for it in lines)
    for zone in SITE.zones:
        assert f"link set dev {carry.bridge(zone.name)} addrgenmode none" in lines


def test_only_administrators_and_only_the_servers_own_sshd_stay_on_the_server() -> None:
    rules = text("/etc/mastio-server/rules.nft")
    assert rules.count("ip saddr { 198.51.100.0/28 } tcp dport { 2222 } accept") == 2, (
        "kept here, and let in"
    )
    assert "policy drop" in rules.partition("chain input")[2].partition("chain")[0]
    assert f"ip daddr {SITE.public[0]} jump public" in rules


def test_a_site_without_ipv6_has_none_there() -> None:
    files = carry.files(replace(v4_site(), server="box"), (22,))
    assert "fe80" not in files["/etc/mastio-server/firewall.net"]
    assert "ip6 daddr" not in files["/etc/mastio-server/rules.nft"]


@pytest.mark.parametrize(
    "site", [SITE, replace(split_site(), server="box"), replace(v4_site(), server="box")]
)
def test_nft_takes_the_rules(site: object) -> None:
    rules = carry.files(site, (22, 2222))["/etc/mastio-server/rules.nft"]  # type: ignore[arg-type]
    # In a namespace of its own, if we may make one; else nft says no more than that.
    argv = ["unshare", "--user", "--map-root-user", "--net", "nft", "--check", "--file", "-"]
    done = subprocess.run(argv, input=rules, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("no namespaces here")
    assert done.returncode == 0, done.stderr


def test_the_firewall_machine_has_the_public_address_and_asks_the_server_for_the_rest() -> None:
    states = {it.name: HostState(packages=("nftables",)) for it in SITE.machines}
    found = {it.name: it for it in carry.carried(SITE, states)}
    outer = found["firewall"].files["etc/systemd/network/50-internet.network"]
    for address in SITE.public:
        assert f"Address={address}/{address.max_prefixlen}" in outer
    for router in carry.ROUTERS:
        assert f"Gateway={router}\nGatewayOnLink=yes" in outer
    store = found["store"].files["etc/systemd/network/50-core.network"]
    assert f"Gateway={SITE.zone('core').routers[0]}" in store
    assert found["store"].files["etc/hostname"] == "store\n"
    assert found["store"].packages == ("nftables",)


def test_a_machines_limit_is_its_own_or_its_roles() -> None:
    store = SITE.machine("store")
    assert carry.memory(store) == 4096
    assert carry.memory(replace(store, memory=9000)) == 9000
    own = replace(SITE, machines=tuple(replace(it, memory=512) for it in SITE.machines))
    limits = carry.files(own, (22,))[
        "/etc/systemd/system/systemd-nspawn@store.service.d/mastio.conf"
    ]
    assert "MemoryMax=512M" in limits


def test_memory_that_runs_out_ends_a_program_on_the_server_too() -> None:
    """Its machines share its kernel, and a virus scanner that gets no memory says OK."""
    assert "-vm.overcommit_memory = 1" in text(carry.KERNEL).splitlines()
