"""Intrusion detection on the firewall, as it is built; and its two programs with what they call replaced."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mastio.context import Context, Internet
from mastio.flows import expand
from mastio.roles import ids
from mastio.roles.ids import segments
from mastio.site.model import Intrusion, Site
from mastio.state import HostState
from tests import sites

ONLINE = Internet()


def built(site: Site, internet: Internet = ONLINE, machine: str = "firewall") -> HostState:
    matrix = expand(site)
    return ids.build(Context(site, matrix, site.machine(machine), internet, {}))


def content(state: HostState, path: str) -> str:
    return next(it.content for it in state.files if it.path == path)


def test_switched_off_there_is_nothing_not_even_the_package() -> None:
    assert built(replace(sites.demo_site(), ids=Intrusion(enabled=False))) == HostState()


def test_it_is_a_user_of_its_own_with_one_power() -> None:
    unit = content(built(sites.demo_site()), "/etc/systemd/system/suricata.service.d/mastio.conf")
    assert "User=suricata\n" in unit
    assert "CapabilityBoundingSet=CAP_NET_RAW\n" in unit


def test_it_only_listens() -> None:
    config = content(built(sites.demo_site()), "/etc/suricata/suricata.yaml")
    assert "inline: no\n" in config and "disable-offloading: no\n" in config
    assert "payload: no\n" in config and "packet: no\n" in config
    assert "nfq" not in config and "copy-mode" not in config


def test_ports_and_addresses_are_those_of_the_site() -> None:
    config = content(built(sites.demo_site()), "/etc/suricata/suricata.yaml")
    assert 'HTTP_PORTS: "[80,3128,3129]"' in config
    assert 'HTTP_SERVERS: "[10.77.2.10,fd6d:6173:7469:2::a]"' in config
    assert '    HOME_NET: "[10.77.1.0/24,fd6d:6173:7469:1::/64,' in config
    listening = json.loads(content(built(sites.demo_site()), "/etc/mastio/ids-segments.json"))
    assert [it["address"] for it in listening] == [f"10.77.{it}.1" for it in (1, 2, 3, 4)]


def test_rules_come_through_the_proxy_and_not_at_all_in_the_lab() -> None:
    online, offline = built(sites.demo_site()), built(sites.demo_site(), Internet(offline=True))
    asked = json.loads(content(online, "/etc/mastio/ids-rules.json"))
    assert asked["proxy"] == "http://10.77.4.10:3128"
    timer = "mastio-rules-fetch.timer"
    assert timer in {it.name for it in online.units}
    assert timer not in {it.name for it in offline.units}
    assert "RandomizedDelaySec=" in content(online, f"/etc/systemd/system/{timer}")
    none = built(replace(sites.demo_site(), ids=Intrusion(rules="")))
    assert "suricata-update" in online.packages and "suricata-update" not in none.packages
    assert not [it for it in none.files if "rules.json" in it.path or "mastio-rules" in it.path]


def test_interfaces_become_suricatas_section() -> None:
    text = segments.yaml([("mail", "port 25"), ('odd"name', "port 22 and not net 10.0.0.0/8")])
    assert '  - interface: "mail"\n' in text and '  - interface: "odd\\"name"\n' in text
    assert '    bpf-filter: "port 22 and not net 10.0.0.0/8"\n' in text
    assert text.count("disable-promisc: yes") == 2


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A place where `mastio-rules` finds its two programs: what one brings, and whether the other takes it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "suricata-update").write_text(
        '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\n[ -s "$PLACE/brings" ] || exit 1\n'
        'cp "$PLACE/brings" "$2/suricata.rules"\n'
    )
    (programs / "suricata").write_text(
        '#!/bin/sh\nwhile [ "$1" != -S ]; do shift; done\n'
        'if grep -q broken "$2"; then echo "Error: broken"; exit 1; fi\n'
    )
    for it in programs.iterdir():
        it.chmod(0o755)
    (tmp_path / "fetched").mkdir()
    settings = {"source": "https://rules.test/a.tar.gz", "groups": ["emerging-smtp"], "proxy": "http://10.77.4.10:3128",
                "folder": str(tmp_path / "fetched"), "config": "/etc/suricata/suricata.yaml",
                "pid": str(tmp_path / "pid")}  # fmt: skip
    (tmp_path / "settings").write_text(json.dumps(settings))
    return tmp_path


def fetch(place: Path, brings: str) -> subprocess.CompletedProcess[str]:
    (place / "brings").write_text(brings)
    program = Path(ids.__file__).with_name("update.py")
    environment = {"PATH": f"{place / 'bin'}:/usr/bin:/bin", "PLACE": str(place)}
    return subprocess.run(
        [sys.executable, str(program), str(place / "settings")],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


GOOD = '# alert tcp any any -> any any (msg:"off"; sid:1;)\nalert tcp any any -> any any (msg:"on"; sid:2;)\n'


def test_rules_that_are_sound_are_taken_and_suricata_hears_of_them(place: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))
    try:
        (place / "pid").write_text(str(os.getpid()))
        assert fetch(place, GOOD).stdout == "1 rules, new\n"
        assert fetch(place, GOOD).stdout == "1 rules, as before\n"
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [signal.SIGUSR2]
    assert (place / "fetched/fetched.rules").read_text() == GOOD.splitlines()[1] + "\n"
    assert [it.name for it in (place / "fetched").iterdir()] == ["fetched.rules"]


@pytest.mark.parametrize(
    ("brings", "words"),
    [
        ('alert tcp any any -> any any (msg:"broken"; sid:2;)\n', "Suricata does not take them: Error: broken"),
        ("# nothing\n", "no rule of the wanted groups"),
        ("", "could not be fetched"),
    ],
)  # fmt: skip
def test_rules_that_are_not_change_nothing(place: Path, brings: str, words: str) -> None:
    assert fetch(place, GOOD).returncode == 0
    done = fetch(place, brings)
    assert done.returncode == 1 and words in done.stderr
    assert (place / "fetched/fetched.rules").read_text() == GOOD.splitlines()[1] + "\n"
    assert [it.name for it in (place / "fetched").iterdir()] == ["fetched.rules"]
