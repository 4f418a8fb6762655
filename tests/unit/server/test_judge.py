"""What speaks against a server, and what is found wrong with it: each fires, and its clean twin does not."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

import pytest

from mastio.roles.common import KEYS_ALONE
from mastio.server import carry, judge
from mastio.server.judge import Facts, Running
from tests.sites import demo_site
from tests.unit.adopt.test_judge import FRESH

SITE = replace(demo_site(), admin_networks=(ip_network("198.51.100.0/28"),), server="box")
PORTS = (22,)


def well() -> Facts:
    machines = {
        it.name: Running(
            there=True, active=True, enabled=True, limit=carry.memory(it), memory=100, private=True, system="running",
            seconds=60,
        )
        for it in SITE.machines
    }  # fmt: skip
    digests = {
        path: sha256(text.encode()).hexdigest() for path, text in carry.files(SITE, PORTS).items()
    }
    return Facts(
        client="198.51.100.3", ports=[*PORTS], sshd={"x11forwarding": "no", **KEYS_ALONE},
        addresses=[str(it) for it in SITE.public], digests=digests,
        unit=["active", "enabled"], rules="a", loaded="a", marked=2, updates=True, reboot=False, machines=machines,
    )  # fmt: skip


def test_one_that_is_well_has_no_findings() -> None:
    assert list(judge.findings(SITE, well(), FRESH)) == []
    assert list(judge.fit(SITE, well())) == []


def on(name: str, **changes: Any) -> Callable[[Facts], None]:
    return lambda facts: facts["machines"][name].update(changes)  # type: ignore[typeddict-item]


def with_(**changes: Any) -> Callable[[Facts], None]:
    return lambda facts: facts.update(changes)  # type: ignore[typeddict-item]


def gone(facts: Facts) -> None:
    facts["digests"]["/etc/mastio-server/rules.nft"] = ""


def changed(facts: Facts) -> None:
    facts["digests"]["/etc/systemd/nspawn/store.nspawn"] = "another"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (gone, "/etc/mastio-server/rules.nft is not there"),
        (changed, "/etc/systemd/nspawn/store.nspawn is not as mastio wrote it"),
        (with_(unit=["active", "disabled"]), "mastio-server.service is active and disabled"),
        (with_(rules=""), "firewall is not in force"),
        (with_(rules="b"), "changed by hand"),
        (with_(marked=1), "does not get to the firewall machine"),
        (
            with_(sshd={**KEYS_ALONE, "permitrootlogin": "yes"}),
            "permitrootlogin is yes, not without-",
        ),
        (with_(updates=False), "unattended-upgrades"),
        (with_(reboot=True), "waits for a reboot"),
        (on("store", active=False), "store does not run"),
        (on("store", there=False, active=False, enabled=False), "store is not there"),
        (on("store", system="degraded"), "its systemd is degraded"),
        (on("store", enabled=False), "store would not start with the server"),
        (on("store", limit=0), "store may take any amount of MiB, not 4096"),
        (on("store", private=False), "root of store is root of the server"),
    ],
)
def test_each_finding_fires(harm: Callable[[Facts], None], said: str) -> None:
    facts = well()
    harm(facts)
    (finding,) = judge.findings(SITE, facts, FRESH)
    assert said in finding


def test_what_the_server_serves_itself_is_a_finding() -> None:
    seen = {
        **FRESH,
        "listeners": [
            ("tcp", 22, "sshd", False),
            ("tcp", 80, "nginx", False),
            ("tcp", 25, "exim4", True),
        ],
    }
    (finding,) = judge.findings(SITE, well(), seen)  # type: ignore[arg-type]
    assert finding == "the server itself serves others: nginx (tcp 80)"


def test_one_on_which_nothing_was_made_says_just_that() -> None:
    facts = well()
    facts["digests"] = dict.fromkeys(facts["digests"], "")
    for machine in facts["machines"].values():
        machine.update(there=False, active=False, enabled=False)
    (finding,) = judge.findings(SITE, facts, FRESH)
    assert "carries nothing yet" in finding


def test_a_server_without_the_public_address_is_refused_for_good() -> None:
    facts = well()
    facts["addresses"] = ["192.0.2.1"]
    objections = list(judge.fit(SITE, facts))
    assert [it.final for it in objections] == [True, True], "of each family"
    assert "public address 203.0.113.1 is not on the server" in objections[0].what


def test_who_would_lock_himself_out_is_refused_for_good() -> None:
    facts = well()
    facts["client"] = "192.0.2.9"
    (objection,) = judge.fit(SITE, facts)
    assert objection.final and "you come from 192.0.2.9" in objection.what
