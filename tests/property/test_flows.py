"""The promises of the flow matrix and of the rules from it, over generated sites.

A machine that carries several roles gets the union of their flows: so the promises speak of roles.
"""

import re

from hypothesis import given

from mastio import services
from mastio.firewall import ruleset
from mastio.flows import INTERNET, POLICY, Party, expand
from mastio.site.model import Role, Site
from tests.strategies import any_sites, separated_sites


@given(any_sites())
def test_the_internet_reaches_only_who_serves_it(site: Site) -> None:
    for flow in expand(site).flows:
        if flow.source == INTERNET:
            target = site.machine(flow.target)
            if flow.service == services.SMTP:
                assert target.has(Role.GATEWAY_IN)
            else:
                assert flow.service in (services.HTTP, services.HTTPS)
                assert target.has(Role.WEBMAIL)


@given(any_sites())
def test_only_webmail_reads_mail(site: Site) -> None:
    for flow in expand(site).flows:
        if flow.service in (services.IMAPS, services.SUBMISSIONS, services.SIEVE):
            assert site.machine(flow.source).has(Role.WEBMAIL)
            assert site.machine(flow.target).has(Role.STORE)


@given(any_sites())
def test_only_the_sending_gateway_sends_outside(site: Site) -> None:
    for flow in expand(site).flows:
        if flow.target == INTERNET and flow.service == services.SMTP:
            assert site.machine(flow.source).has(Role.GATEWAY_OUT)


@given(any_sites())
def test_a_store_alone_has_no_path_to_the_internet(site: Site) -> None:
    matrix = expand(site)
    for machine in site.machines:
        if machine.roles == (Role.STORE,):
            assert not [it for it in matrix.out_of(machine.name) if it.target == INTERNET]
            assert not [it for it in matrix.into(machine.name) if it.source == INTERNET]
            assert "!= @site" not in _chain(ruleset(matrix, machine), "output")


@given(any_sites())
def test_every_flow_is_a_policy_row_between_roles_that_are_there(site: Site) -> None:
    def fits(endpoint: str, party: Role | Party) -> bool:
        if isinstance(party, Role):
            return any(it.name == endpoint for it in site.carrying(party))
        return party is Party.EVERYONE or endpoint == party

    matrix = expand(site)
    assert len(set(matrix.flows)) == len(matrix.flows)
    for flow in matrix.flows:
        assert flow.source != flow.target
        assert any(
            row.service == flow.service and fits(flow.source, row.source)
            and fits(flow.target, row.target)
            for row in POLICY
        )  # fmt: skip


@given(any_sites())
def test_what_stays_inside_is_between_two_roles_of_that_machine(site: Site) -> None:
    matrix = expand(site)
    for flow in matrix.inner:
        roles = site.machine(flow.source).roles
        assert flow.source == flow.target and len(roles) > 1
        assert any(
            row.service == flow.service and row.source in roles and row.target in roles
            for row in POLICY
        )
    # Nobody else may do it: rules come from `flows`, and a machine needs none for itself.
    for machine in site.machines:
        own = {flow.service for flow in matrix.inside(machine.name)}
        others = {flow.service for flow in matrix.into(machine.name)}
        opened = _chain(ruleset(matrix, machine), "input")
        for service in own - others:
            assert f"dport {service.port} " not in opened


@given(any_sites())
def test_rules_are_deterministic(site: Site) -> None:
    for machine in site.machines:
        assert ruleset(expand(site), machine) == ruleset(expand(site), machine)


@given(any_sites())
def test_published_flows_are_translated_and_forwarded_in_every_family(site: Site) -> None:
    matrix = expand(site)
    if matrix.firewall is None:
        return
    rules = ruleset(matrix, matrix.firewall)
    for flow in matrix.published:
        for address in site.machine(flow.target).addresses:
            if not any(it.version == address.version for it in site.public):
                continue
            ip = "ip" if address.version == 4 else "ip6"
            port = f"dport {flow.service.port} "
            inward = [it for it in _chain(rules, "inward").splitlines() if port in it]
            assert [it for it in inward if re.search(rf"dnat {ip} to .*{_word(address)}", it)]
            forward = [it for it in _chain(rules, "forward").splitlines() if port in it]
            assert [it for it in forward if f"{ip} daddr {address} " in it and "jump client" in it]


@given(any_sites())
def test_both_families_are_covered_alike(site: Site) -> None:
    """Where all has addresses of both families, each IPv4 rule has an IPv6 twin."""
    networks = [it for zone in site.zones for it in zone.networks]
    if {it.version for it in (*networks, *site.public)} != {4, 6}:
        return
    for machine in site.machines:
        rules = ruleset(expand(site), machine)
        for chain in ("input", "output", "forward", "inward"):
            lines = _chain(rules, chain).splitlines()
            four = [it for it in lines if re.match(r"\s+ip [sd]addr", it)]
            six = [it for it in lines if re.match(r"\s+ip6 [sd]addr", it)]
            assert len(four) == len(six)


@given(separated_sites())
def test_each_end_of_an_inner_flow_is_pinned(site: Site) -> None:
    """A machine behind the firewall accepts only from exact addresses to its own."""
    matrix = expand(site)
    for machine in site.machines:
        if machine == matrix.firewall:
            continue
        for line in _chain(ruleset(matrix, machine), "input").splitlines():
            if line.strip() == "ct status dnat tcp dport @shut counter reject with tcp reset":
                continue  # it lets nobody in
            if " dport " in line and "internet to" not in line and "admin to" not in line:
                assert re.match(r"\s+ip6? saddr [0-9a-f.:]+ ip6? daddr [0-9a-f.:]+ ", line)


def _chain(rules: str, name: str) -> str:
    """The lines of one chain; nothing when the machine has none of that name."""
    found = re.search(rf"^    chain {name} \{{\n(.*?)^    \}}$", rules, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def _word(address: object) -> str:
    return re.escape(str(address)) + r"(?![0-9a-f.:])"
