"""The site file: each mistake is told, with its line; all of them at once."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.site import parse, values
from mastio.site.keys import reference
from mastio.site.model import Intrusion, Reach, Role, Site, Topology
from mastio.site.topology import local_prefix

ROOT = Path(__file__).parents[3]
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3W1l8Y3mVbN0c0m2G6Vd1q0l0s8Xx7Yw0y8n6l0Q2b"
BASE = """\
schema = 1
name = "demo"
organisation = "Fortress Ltd"
domains = ["fortress.test"]
admin = "alice@fortress.test"
public = ["203.0.113.1", "2001:db8:113::1"]
topology = "separated"
reach = "lab"
"""


def site(more: str = "", **changes: str) -> Site:
    """The base with lines exchanged (by key; empty: left out) and lines added."""
    return parse.parse(_text(more, changes), "site.toml")


def _text(more: str, changes: dict[str, str]) -> str:
    lines = []
    for line in BASE.splitlines():
        key = line.partition(" ")[0]
        value = changes.get(key, line.partition(" = ")[2])
        if value:
            lines.append(f"{key} = {value}")
    return "\n".join([*lines, more, ""])


def problems(more: str = "", **changes: str) -> list[str]:
    with pytest.raises(parse.SiteFileError) as caught:
        site(more, **changes)
    assert caught.value.code is Exit.DATA
    return [str(problem) for problem in caught.value.problems]


def test_defaults() -> None:
    found = site()
    assert found.topology is Topology.SEPARATED
    assert [it.name for it in found.machines] == [
        "firewall",
        "gateway",
        "store",
        "webmail",
        "watch",
    ]
    assert found.machine("store").addresses[0] == ip_address("10.77.3.10")
    assert found.machine("firewall").addresses == found.zone("mgmt").routers
    assert (found.mx_host, found.webmail_host) == ("mx.fortress.test", "mail.fortress.test")
    assert all(zone.networks[1].subnet_of(local_prefix("demo")) for zone in found.zones)  # type: ignore[arg-type]


def test_local_prefix_is_rfc_4193() -> None:
    assert local_prefix("demo").prefixlen == 48
    assert local_prefix("demo").subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]
    assert local_prefix("demo") != local_prefix("other")


def test_ipv4_only_knows_no_ipv6() -> None:
    found = site(public='["203.0.113.1"]')
    assert {it.version for zone in found.zones for it in zone.networks} == {4}
    assert {it.version for machine in found.machines for it in machine.addresses} == {4}


def test_reach_is_ssh_unless_said_otherwise() -> None:
    more = f'[admins]\nnetworks = ["198.51.100.0/28"]\nkeys = ["{ED25519} alice"]'
    assert site(more, reach="").reach is Reach.SSH


def test_one_server_carries_all_machines() -> None:
    more = (
        f'[server]\nssh = "box"\n[admins]\nnetworks = ["198.51.100.0/28"]\nkeys = ["{ED25519} alice"]\n'
        "[machines.store]\nmemory = 8192"
    )
    found = site(more, reach='"server"')
    assert (found.reach, found.server) == (Reach.SERVER, "box")
    assert (found.machine("store").memory, found.machine("watch").memory) == (8192, 0)


def test_topologies() -> None:
    single = site(topology='"single"')
    assert [it.name for it in single.machines] == ["mail"]
    assert set(single.machines[0].roles) == set(Role) - {Role.FIREWALL}
    assert single.machines[0].addresses == single.public
    pair = site(
        topology='"webmail"',
        public='["203.0.113.1", "2001:db8::1", "203.0.113.2", "2001:db8::2"]',
    )
    assert pair.machine("webmail").addresses == (
        ip_address("203.0.113.2"),
        ip_address("2001:db8::2"),
    )
    split = site(topology='"split"')
    assert split.machine("gateway-in").zone != split.machine("gateway-out").zone


def test_internationalised_domains() -> None:
    assert site(domains='["Bücher.Test"]').domains == ("xn--bcher-kva.test",)


def test_one_family_may_be_given_and_the_other_follows() -> None:
    found = site(
        '[zones]\nmail.networks = ["10.1.0.0/24"]\n[machines]\ngateway.addresses = ["10.1.0.7"]'
    )
    assert str(found.zone("mail").networks[0]) == "10.1.0.0/24"
    assert found.machine("gateway").addresses[1] in found.zone("mail").networks[1]
    assert str(found.machine("gateway").addresses[0]) == "10.1.0.7"


FREE = """\
[machines.wall]
roles = ["firewall"]
[machines.inner]
roles = ["store", "watch"]
[machines.front]
roles = ["webmail"]
[machines.relay]
roles = ["gateway-in", "gateway-out"]
"""


def test_free_placement() -> None:
    found = site(FREE)
    assert found.carrying(Role.WATCH)[0].name == "inner"
    assert [zone.name for zone in found.zones] == ["mail", "web", "core", "mgmt"]


# what is written, what is said: lines 1–8 are the base's
WRONG: tuple[tuple[str, dict[str, str], str], ...] = (
    ("[broken", {}, "site.toml:9: not TOML"),
    ("", {"schema": "2"}, "site.toml:1: schema: this file is of schema 2, newer than this version of mastio"),
    ("", {"name": ""}, "site.toml: name: is missing"),
    ("", {"name": '"De mo"'}, "site.toml:2: name: 'De mo' is not a label"),
    ("", {"organisation": '"a\\nb"'}, "site.toml:3: organisation: must be one line"),
    ("", {"organisation": "3"}, "site.toml:3: organisation: must be a text, not a number"),
    ("", {"domains": "[]"}, "site.toml:4: domains: is empty"),
    ("", {"domains": "[1]"}, "site.toml:4: domains: must hold texts, not a number"),
    ("", {"domains": '["a.test", "A.test"]'}, "site.toml:4: domains: a.test stands here twice (line 4)"),
    ("", {"domains": '["a..test"]'}, "site.toml:4: domains: 'a..test' is not a domain"),
    ("", {"domains": '["\\u0378.test"]'}, "is not a domain"),
    ("", {"domains": '["test"]'}, "site.toml:4: domains: 'test' is not a full domain"),
    ("", {"domains": '["203.0.113.9"]'}, "is an address, not a domain"),
    ("", {"admin": '"alice"'}, "site.toml:5: admin: 'alice' is not a mail address"),
    ("", {"admin": '"a..b@c.test"'}, "site.toml:5: admin: 'a..b@c.test': before the @"),
    ("", {"admin": f'"{"a" * 65}@c.test"'}, "at most 64 characters"),
    ("", {"admin": '"abuse@fortress.test"'}, "name a person's mailbox"),
    ("", {"public": '["203.0.113.1", "x"]'}, "site.toml:6: public: 'x' is not an IP address"),
    ("", {"public": "[]"}, "site.toml:6: public: is empty"),
    ("", {"public": '["127.0.0.1"]'}, "a loopback address"),
    ("", {"public": '["ff02::1"]'}, "a multicast address"),
    ("", {"public": '["169.254.1.1"]'}, "a link-local address"),
    ("", {"public": '["203.0.113.1", "203.0.113.1"]'}, "203.0.113.1 stands here twice"),
    ("", {"topology": '"seperated"'}, "site.toml:7: topology: 'seperated' is unknown; did you mean separated?"),
    ("", {"topology": '"webmail"'}, "site.toml:6: public: no IPv4 address is left for machine webmail"),
    ("", {"reach": '"ssh"'}, "site.toml: admins.networks: nobody could get in by ssh"),
    ("", {"reach": '"server"'}, "site.toml: server.ssh: is missing"),
    ("[server]\nssh = '-oProxyCommand=x'", {}, "is no host of ssh_config"),
    ("[machines.store]\nmemory = 10", {}, "machines.store.memory: 10 is out of range"),
    ("", {"reach": "true"}, "site.toml:8: reach: must be a text, not true or false"),
    ("nmae = 1", {}, "site.toml:9: nmae: unknown key; did you mean name?"),
    ("[polcy]\nquota = 1", {}, "site.toml:9: polcy: unknown key; did you mean policy?"),
    ("[policy]\nqouta = 1", {}, "site.toml:10: policy.qouta: unknown key; did you mean quota?"),
    ("policy = 1", {}, "site.toml:9: policy: must be a table, not a number"),
    ("[policy]\nquota = 0", {}, "site.toml:10: policy.quota: 0 is out of range; allowed: 1 to"),
    ("[policy]\nquota = 1.5", {}, "site.toml:10: policy.quota: must be a whole number"),
    ("[bans]\nfailures = 0", {}, "site.toml:10: bans.failures: 0 is out of range"),
    (
        "[bans]\nfirst_seconds = 700\nlongest_seconds = 60",
        {},
        "site.toml:11: bans.longest_seconds: the first ban (700) takes longer than the longest (60)",
    ),
    ('[ids]\nrules = "http://rules.test/a.tar.gz"', {}, "ids.rules: 'http://rules.test/a.tar.gz' is no https URL: https://HOST/PATH"),
    ('[ids]\ngroups = ["a b"]', {}, "ids.groups: a b is no name of a group of rules, such as emerging-smtp"),
    ('[ids]\nenabled = 1', {}, "ids.enabled: must be a true or false, not a number"),
    ('[patches]\nat = "24:00"', {}, "patches.at: 24:00 is no time of day, such as 04:30"),
    ('[patches]\nreboot = "no"', {}, "patches.reboot: must be a true or false, not a text"),
    ("[patches]\nat = 4", {}, "patches.at: must be a text, not a number"),
    ('[bans]\nnever = ["0.0.0.0/0"]', {}, "0.0.0.0/0 is the whole internet"),
    ('[outbound]\nexempt = ["news"]', {}, "outbound.exempt"),
    ("[policy]\nspam_junk_score = nan", {}, "is out of range"),
    ("policy = { log_days = 5, spam_junk_score = 20 }", {}, "site.toml:9: policy.spam_junk_score"),
    ("[policy]\ngreylist_score = 7", {}, "greylist_score (7) must be below spam_junk_score (6)"),
    ("[admins]\nnetworks = [\n'10.0.0.1/8']", {}, "site.toml:11: admins.networks: '10.0.0.1/8' is a host's"),
    ("[admins]\nnetworks = ['0.0.0.0/0']", {}, "is the whole internet"),
    ("[admins]\nnetworks = ['10.77.3.0/28']", {}, "10.77.3.0/28 overlaps zones.core"),
    ("[admins]\nkeys = ['ssh-ed25519 AAAA']", {}, "the ssh-ed25519 key is damaged"),
    ("[admins]\nkeys = ['ssh-dss AAAA']", {}, "a key of an unknown type"),
    ("[admins]\nkeys = ['nonsense']", {}, "not a public key line"),
    (f"[admins]\nkeys = ['{ED25519}', '{ED25519}']", {}, "stands here twice"),
    ("[ssh]\nconfig = 3", {}, "site.toml:10: ssh.config: must be a text"),
    ("[proxy]\nmirrors = ['http://deb.debian.org/']", {}, "site.toml:10: proxy.mirrors:"),
    ("[proxy]\nmirrors = []", {}, "machines could not fetch their updates"),
    (
        "[zones]\ncore.networks = ['10.77.1.0/24']", {},
        "site.toml:10: zones.core.networks: 10.77.1.0/24 overlaps zones.mail (default)",
    ),
    (
        "[zones.core]\nnetworks = ['10.9.0.0/16']\n[zones.mail]\nnetworks = ['10.9.1.0/24']", {},
        "site.toml:12: zones.mail.networks: 10.9.1.0/24 overlaps zones.core (line 9)",
    ),
    ("[zones.core]\nnetworks = ['10.9.0.0/29']", {}, "10.9.0.0/29 is too small; /28 or larger"),
    ("[zones.core]\nnetworks = ['10.9.0.0/24', '10.8.0.0/24']", {}, "is a second IPv4 network"),
    ("[zones.core]\nnetworks = ['203.0.113.0/24']", {}, "holds the public address 203.0.113.1"),
    ("[zones.core]\nnetworks = ['127.0.0.0/8']", {}, "has a loopback address"),
    ("[zones.core]\nnetworks = ['fd00::/64']", {"public": '["203.0.113.1"]'}, "has no IPv6 address in `public`"),
    ("[zones.Core]", {}, "site.toml:9: zones.Core: 'Core' is not a label"),
    ("[zones.internet]", {}, "'internet' has a meaning of its own"),
    ("[zones.averyverylongname]", {}, "at most 12 are allowed"),
    ("[machines.gatway]\nzone = 'mail'", {}, "site.toml:9: machines.gatway: topology separated has no such"),
    ("[machines.store]\nzone = 'cor'", {}, "site.toml:10: machines.store.zone: there is no zone 'cor'; did you"),
    ("[machines.store]\naddresses = ['10.77.1.9']", {}, "10.77.1.9 is outside zone core"),
    ("[machines.store]\naddresses = ['10.77.3.1']", {}, "is the network's, the firewall's or the broadcast"),
    ("[machines.store]\naddresses = ['10.77.3.9', '10.77.3.8']", {}, "is a second IPv4 address"),
    ("[machines.firewall]\naddresses = ['10.77.4.9']", {}, "a firewall's are known"),
    (
        "[machines.store]\nzone = 'web'\naddresses = ['10.77.2.7']\n[machines.webmail]\naddresses = ['10.77.2.7']",
        {}, "site.toml:13: machines.webmail.addresses: 10.77.2.7 is the address of store already",
    ),
    ("[machines.store]\nssh = '-oProxyCommand=x'", {}, "is no host of ssh_config"),
    ("[machines.only]\nroles = ['store']", {}, "site.toml:9: machines: no machine carries the role webmail"),
    (FREE + "[machines.two]\nroles = ['store']", {}, "machines.two.roles: inner carries the role store already"),
    (FREE + "[machines.two]\nroles = ['firewall']", {}, "wall carries the role firewall already"),
    (FREE + "[machines.two]\nzone = 'mail'", {}, "machines.two.roles: is missing"),
    (FREE + "[machines.two]\nroles = ['stroe']", {}, "'stroe' is no role; did you mean store?"),
    (FREE + "[machines.two]\nroles = ['gateway-in', 'gateway-in']", {}, "stands here twice"),
    (FREE.replace('"firewall"', '"firewall", "watch"'), {}, "a firewall does nothing else"),
    (
        FREE.replace('"firewall"', '"gateway-in"') + "zone = 'mail'", {},
        "no IPv4 address is left for machine inner",
    ),
    (
        "[zones.public]\nnetworks = ['203.0.113.128/25']", {"topology": '"single"'},
        "site.toml:6: public: 203.0.113.1 of machine mail is outside zone public",
    ),
)  # fmt: skip


@pytest.mark.parametrize(("more", "changes", "said"), WRONG)
def test_mistakes_are_told(more: str, changes: dict[str, str], said: str) -> None:
    found = problems(more, **changes)
    assert any(said in problem for problem in found), found


def test_all_at_once_in_the_order_of_the_file() -> None:
    found = problems("[policy]\nquota = 0", name='"A B"', admin='"x"', public='["x"]')
    assert [text.partition(" ")[0] for text in found] == [
        f"site.toml:{line}:" for line in (2, 5, 6, 10)
    ]


def test_one_mistake_is_one_problem() -> None:
    for more, changes, _ in WRONG:
        found = problems(more, **changes)
        assert len(found) == len(set(found)) <= 5, found


def test_zone_full() -> None:
    gateways = "".join(
        f"[machines.g{n}]\nroles = ['gateway-in']\nzone = 'mail'\n" for n in range(6)
    )
    found = problems(f"{FREE}{gateways}[zones.mail]\nnetworks = ['10.9.0.0/28']")
    assert any("10.9.0.0/28 is too small for its machines" in text for text in found)


@pytest.mark.parametrize(
    "key", ["-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET", f"{ED25519[:-1]} SECRET"]
)
def test_keys_are_never_quoted(key: str) -> None:
    text = "".join(problems(f'[admins]\nkeys = ["""{key}"""]'))
    assert "SECRET" not in text and ED25519[12:30] not in text


def test_rsa_must_be_long_enough() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def line(bits: int) -> str:
        key = rsa.generate_private_key(65537, bits).public_key()
        return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    assert values.ssh_key(line(2048))
    with pytest.raises(ValueError, match="2048 bits"):
        values.ssh_key(line(1024))


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "site.toml"
    with pytest.raises(MastioError, match="No such file"):
        parse.load(path)
    path.write_bytes(b"# \n\xff")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(parse.SiteFileError, match=r"site\.toml:2: not UTF-8"):
        parse.load(path)
    path.write_text(BASE + '[ssh]\nconfig = "conf"')
    with pytest.raises(parse.SiteFileError, match=r"^site\.toml:10: ssh\.config: .* is not a file"):
        parse.load(path)
    (tmp_path / "conf").touch()
    assert parse.load(path).ssh_config == str(tmp_path / "conf")


EXAMPLES: dict[str, Callable[[Site], bool]] = {
    "separated": lambda it: len(it.machines) == 5 and "xn--mnchen-3ya.example" in it.domains,
    "single": lambda it: len(it.machines) == 1 and it.policy.quota == 2048,
    "webmail": lambda it: len(it.machines) == 2 and it.webmail_host == "webmail.harbour.example",
    "split": lambda it: len(it.machines) == 6 and it.reach is Reach.LAB,
    "dual-stack-own-networks": lambda it: it.machine("archive").zone == "records",
}


def test_examples() -> None:
    files = sorted((ROOT / "examples").glob("*.toml"))
    assert [it.stem for it in files] == sorted(EXAMPLES)
    for path in files:
        assert EXAMPLES[path.stem](parse.load(path)), path


def test_the_window_for_updates_is_tuned() -> None:
    assert (site().patches.at, site().patches.reboot) == ("04:30", True)
    tuned = site('[patches]\nat = "23:05"\nreboot = false')
    assert (tuned.patches.at, tuned.patches.reboot) == ("23:05", False)


def test_limits_and_bans_are_tuned() -> None:
    tuned = site(
        '[outbound]\nmessages_per_hour = 9\nexempt = ["News@fortress.test"]\n'
        '[bans]\nfailures = 3\nnever = ["198.51.100.0/24"]'
    )
    assert (tuned.outbound.messages_per_hour, tuned.outbound.recipients_per_hour) == (9, 500)
    assert tuned.outbound.exempt == ("news@fortress.test",)
    assert (tuned.bans.failures, tuned.bans.never) == (3, (ip_network("198.51.100.0/24"),))


def test_the_reference_is_up_to_date() -> None:
    text = (ROOT / "docs/reference/site-file.md").read_text()
    assert text == reference(), "write mastio.site.keys.reference() to docs/reference/site-file.md"


def test_intrusion_detection_is_on_and_can_be_switched_off() -> None:
    assert site().ids == Intrusion()
    tuned = site('[ids]\nenabled = false\nrules = ""\ngroups = ["emerging-smtp"]').ids
    assert tuned == Intrusion(False, "", ("emerging-smtp",)) and tuned.host == ""
    assert site('[ids]\nrules = "https://rules.test/a"').ids.host == "rules.test"
