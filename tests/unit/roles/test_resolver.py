"""The validating resolver: where it is, whom it answers, whom it believes."""

import re

import pytest

from mastio.context import Context, Internet
from mastio.flows import expand
from mastio.roles import resolver
from mastio.roles.registry import PARTS
from mastio.site.model import Role, Site
from mastio.state import HostState
from tests.sites import demo_site, v4_site

LAB = Internet(root_hints=". NS a.\n", trust_anchor=". DS 1 13 2 00\n", offline=True)


def built(site: Site, name: str, internet: Internet = LAB) -> HostState:
    return resolver.build(Context(site, expand(site), site.machine(name), internet, {}))


def text(state: HostState, path: str) -> str:
    return next(file.content for file in state.files if file.path == path)


def values(state: HostState, option: str) -> list[str]:
    config = text(state, "/etc/unbound/unbound.conf")
    return re.findall(rf"^ +{option}: (.+)$", config, re.MULTILINE)


def test_is_where_a_machine_speaks_with_the_internet_of_its_own_accord() -> None:
    part = next(it for it in PARTS if it.name == "resolver")
    assert set(part.roles) == {Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.WATCH}


@pytest.mark.parametrize("name", ["gateway", "watch"])
def test_answers_its_own_machine_only_and_is_the_only_one_asked(name: str) -> None:
    state = built(demo_site(), name)
    assert values(state, "interface") == ["127.0.0.1", "::1"]
    assert [it for it in values(state, "access-control") if it.endswith("allow")] == [
        "127.0.0.1 allow",
        "::1 allow",
    ]
    asked = re.findall(r"^nameserver (\S+)$", text(state, "/etc/resolv.conf"), re.MULTILINE)
    assert asked == ["127.0.0.1", "::1"]


def test_speaks_the_families_of_its_machine() -> None:
    assert (
        *values(built(v4_site(), "watch"), "do-ip4"),
        *values(built(v4_site(), "watch"), "do-ip6"),
    ) == ("yes", "no")
    assert values(built(demo_site(), "watch"), "do-ip6") == ["yes"]
    # Where it is asked and does not answer, each look-up that fails waits for it.
    assert values(built(v4_site(), "watch"), "interface") == ["127.0.0.1"]
    assert "::1" not in text(built(v4_site(), "watch"), "/etc/resolv.conf")


def test_believes_the_real_root_unless_the_internet_is_simulated() -> None:
    lab, real = built(demo_site(), "gateway"), built(demo_site(), "gateway", Internet())
    assert values(lab, "trust-anchor-file") == ["/etc/unbound/root.key"]
    assert values(real, "trust-anchor-file") == ["/usr/share/dns/root.key"]
    assert "nodefault" not in text(real, "/etc/unbound/unbound.conf")
    assert {"/etc/unbound/root.key", "/etc/unbound/root.hints"}.isdisjoint(
        it.path for it in real.files
    )
