"""H7 and `drill breach`: what an intruder would have, against grants and against expectations by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from mastio.cli.common import App
from mastio.cli.drill import breach as command
from mastio.errors import MastioError
from mastio.flows import INTERNET, FlowMatrix, expand
from mastio.report import drill as text
from mastio.report import page
from mastio.site.model import Role
from mastio.transport import OUTSIDE
from mastio.verify import breach, registry, runner
from mastio.verify.checks import host
from mastio.verify.grants import GRANTS, Power
from mastio.verify.model import Cell, Finding, Kind, Run, Secret, Verdict
from mastio.verify.vantage import Vantage
from tests import sites
from tests.unit.verify.fakes import Here, ground, vantage
from tests.unit.verify.test_report import RUN, Page

SITE = sites.demo_site()
MATRIX = expand(SITE)
CHECKS = {it.id: it for it in registry.CHECKS}


def secret(machine: str, kind: Kind, path: str, *of: str, mode: str = "0600") -> Secret:
    return Secret(machine, kind, path, "root:root", mode, 1, of)


def own(machine: str) -> Secret:
    name = SITE.internal_name(machine)
    return secret(machine, Kind.PRIVATE_KEY, "/etc/mastio/pki/host.key", name)


def faults(machine: str, *found: Secret) -> list[str]:
    return list(breach.faults(SITE, SITE.machine(machine), found))


def test_every_role_has_its_grants() -> None:
    assert set(GRANTS) == set(Role)


def test_a_machine_may_have_its_own_key_and_nobody_elses() -> None:
    assert faults("webmail", own("webmail")) == []
    (words,) = faults("webmail", replace(own("store"), machine="webmail"))
    assert "store.demo.internal" in words and "does not need" in words
    (words,) = faults("webmail", replace(own("webmail"), path="/root/copy.key"))
    assert "/root/copy.key" in words
    (words,) = faults("webmail", replace(own("webmail"), of=()))
    assert "does not need" in words


def test_where_no_firewall_is_every_machine_may_know_who_orders_bans() -> None:
    key = secret("webmail", Kind.LOGIN_KEY, "/etc/ssh/authorized_keys.d/bans", mode="0644")
    assert faults("webmail", key), "behind a firewall it is that one's alone"
    apart = replace(SITE, machines=tuple(it for it in SITE.machines if not it.has(Role.FIREWALL)))
    assert not list(breach.faults(apart, apart.machine("webmail"), [key]))


def test_a_key_that_others_may_read_is_a_fault() -> None:
    (words,) = faults("store", replace(own("store"), mode="0644"))
    assert "may read it" in words
    login = secret("store", Kind.LOGIN_KEY, "/etc/ssh/authorized_keys.d/root", mode="0644")
    assert faults("store", login) == []


@pytest.mark.parametrize(("machine", "kind", "path", "fires"), [
    ("gateway", Kind.PRIVATE_KEY, "/etc/rspamd/dkim/a.test.k1r.key", False),
    ("store", Kind.PRIVATE_KEY, "/etc/rspamd/dkim/a.test.k1r.key", True),
    ("store", Kind.MAIL, "/var/vmail/a.test/alice/Maildir", False),
    ("webmail", Kind.MAIL, "/var/vmail/a.test/alice/Maildir", True),
    ("store", Kind.MAIL, "/srv/copy", True),
    ("gateway", Kind.QUEUED_MAIL, "/var/spool/postfix/deferred/A/A1", False),
    ("watch", Kind.QUEUED_MAIL, "/var/spool/postfix/deferred/A/A1", True),
    ("store", Kind.PASSWORD_HASH, "/var/lib/mastio/directory/directory.sqlite", False),
    ("gateway", Kind.PASSWORD_HASH, "/var/lib/mastio/recipients/recipients", True),
    ("webmail", Kind.SESSION_KEY, "/etc/roundcube/config.inc.php", False),
    ("watch", Kind.VAULT, "/root/secrets.age", True),
    ("watch", Kind.VAULT_KEY, "/root/key.txt", True),
    ("watch", Kind.SSH_KEY, "/root/.ssh/id_ed25519", True),
    ("firewall", Kind.LOGIN_KEY, "/root/.ssh/authorized_keys", True),
    ("firewall", Kind.LOGIN_KEY, "/etc/ssh/authorized_keys.d/bans", False),
])  # fmt: skip
def test_what_may_lie_where(machine: str, kind: Kind, path: str, fires: bool) -> None:
    assert bool(faults(machine, secret(machine, kind, path))) is fires


def by_matrix(matrix: FlowMatrix, name: str) -> dict[Power, str]:
    machine = matrix.site.machine(name)
    found = breach.powers(matrix, machine, (), breach.declared(matrix, machine))
    return {it.power: it.why for it in found}


@pytest.mark.parametrize(("name", "expected"), [
    ("firewall", {Power.PERIMETER, Power.TRANSIT}),
    ("gateway", {Power.TRANSIT, Power.DELIVER, Power.SIGNED, Power.SEND, Power.VERDICTS}),
    ("store", {Power.STORED, Power.TRANSIT, Power.LOGGING_IN, Power.DELIVER, Power.SIGNED, Power.VERDICTS}),
    ("webmail", {Power.LOGGING_IN, Power.PASSWORD}),
    ("watch", {Power.KNOCK, Power.SUPPLY, Power.LOGS, Power.DELIVER}),
])  # fmt: skip
def test_powers_are_those_that_we_say(name: str, expected: set[Power]) -> None:
    assert set(by_matrix(MATRIX, name)) == expected


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda it: f"{it.topology}{len(it.public)}")
def test_the_policy_gives_no_power_that_is_not_granted(site: Any) -> None:
    matrix = expand(site)
    for machine in site.machines:
        assert all(by_matrix(matrix, machine.name).values()), by_matrix(matrix, machine.name)


def test_a_lone_machine_has_every_power_there_is_and_each_is_granted() -> None:
    matrix = expand(sites.single_site())
    (machine,) = matrix.site.machines
    lies = (
        (Kind.MAIL, "/var/vmail/a"), (Kind.PASSWORD_HASH, "/var/lib/mastio/directory/directory.sqlite"),
        (Kind.QUEUED_MAIL, "/var/spool/postfix-store/active/1"),
    )  # fmt: skip
    found = tuple(Secret("mail", kind, path, "root:root", "0600", 1, ()) for kind, path in lies)
    run = a_run(
        Finding(CHECKS["N2"], "mail", Verdict.NOT_RUN, ("there is no other machine",)),
        Finding(CHECKS["N5"], "mail", Verdict.NOT_RUN, ("no perimeter",)),
        Finding(CHECKS["H7"], "mail", Verdict.PASSED, secrets=found),
    )
    one = breach.exposure(matrix, run, machine)
    assert one.verdict is Verdict.PASSED and not one.unseen
    # There is no other machine at whose ssh it could knock.
    assert one.lacks == (Power.KNOCK,)


def test_watchs_key_for_bans_lies_where_bans_are_kept() -> None:
    path = "/etc/ssh/authorized_keys.d/bans"
    for site, machine, fires in (
        (sites.webmail_site(), "webmail", False),
        (SITE, "firewall", False),
        (SITE, "webmail", True),
    ):
        found = breach.faults(site, site.machine(machine), [secret(machine, Kind.LOGIN_KEY, path)])
        assert bool(list(found)) is fires


def test_a_webmail_without_a_perimeter_may_send_and_that_is_said() -> None:
    matrix = expand(sites.webmail_site())
    machine = matrix.site.machine("webmail")
    held = breach.powers(matrix, machine, (), breach.declared(matrix, machine))
    (sends,) = [it for it in held if it.power is Power.SEND]
    assert "by itself" in sends.why and not breach.ungranted(machine, sends)
    assert {it.power for it in held} & {Power.STORED, Power.GUESS, Power.LOGS} == set()


def test_a_policy_row_too_many_is_noticed() -> None:
    relay = next(it for it in MATRIX.flows if it.service.name == "relay")
    smtp = next(it for it in MATRIX.flows if it.source == "gateway" and it.target == INTERNET)
    wrong = FlowMatrix(
        SITE,
        (*MATRIX.flows, replace(relay, source="webmail"), replace(smtp, source="store")),
    )
    assert by_matrix(wrong, "webmail")[Power.SIGNED] == ""
    assert by_matrix(wrong, "store")[Power.SEND] == ""


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
    monkeypatch.setattr(Vantage, "ask", lambda self, function, *args, **kw: answer(self.name))


def entry(it: Secret) -> dict[str, Any]:
    return {
        "kind": str(it.kind), "path": it.path, "owner": it.owner, "mode": it.mode, "count": it.count,
        "of": [*it.of],
    }  # fmt: skip


def test_h7_fires_and_its_sound_twin_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for more, count in (((), 0), ((own("store"),), 1)):
        found = [entry(it) for it in (own("webmail"), *more)]
        answering(monkeypatch, lambda name, found=found: {"found": list(found), "unread": []})
        seen = list(host.belongings(vantage("webmail")))
        assert sum(isinstance(it, Secret) for it in seen) == len(found)
        assert sum(isinstance(it, str) for it in seen) == count


def test_h7_says_what_it_could_not_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, lambda name: {"found": [], "unread": ["/x: Input/output error"]})
    with pytest.raises(MastioError, match="/x: Input/output error"):
        list(host.belongings(vantage("webmail")))


def a_run(*findings: Finding) -> Run:
    return replace(RUN, findings=findings)


def passed(check: str, *cells: Cell, secrets: tuple[Secret, ...] = ()) -> Finding:
    return Finding(CHECKS[check], "webmail", Verdict.PASSED, (), cells, 1.0, secrets)


IMAPS = ("tcp", 993)
CLEAN = (
    passed("N2", Cell("webmail", "store", "10.77.3.10", (IMAPS,), (IMAPS,), (), 9)),
    passed("N5", Cell("webmail", OUTSIDE, "203.0.113.100", (), (), (), 9)),
    passed("H7", secrets=(own("webmail"),)),
)


def judged(*findings: Finding) -> breach.Exposure:
    (found,) = breach.exposures(MATRIX, a_run(*findings))
    return found


def test_a_machine_as_the_design_grants() -> None:
    found = judged(*CLEAN)
    assert found.verdict is Verdict.PASSED and not found.findings and not found.unseen
    assert [(it.target, it.words, it.granted) for it in found.answers] == [("store", "imaps", True)]
    assert Power.STORED in found.lacks and Power.PASSWORD not in found.lacks
    said = "\n".join(words for _, words in text.lines([found]))
    assert "as the design grants" in said and "cannot   read stored mail" in said


def test_what_answers_and_what_lies_there_gives_powers_that_nobody_granted() -> None:
    relay, smtp = ("tcp", 587), ("tcp", 25)
    words = "gateway (10.77.1.10) answers on 587/tcp"
    maildir = secret("webmail", Kind.MAIL, "/srv/copy")
    found = judged(
        replace(
            passed("N2", Cell("webmail", "gateway", "10.77.1.10", (), (relay,), (), 9)),
            verdict=Verdict.FAILED, seen=(words,),
        ),
        passed("N5", Cell("webmail", OUTSIDE, "203.0.113.100", (), (), (smtp,), 9)),
        passed("H7", secrets=(maildir,)),
    )  # fmt: skip
    assert found.verdict is Verdict.FAILED and found.findings[0] == words
    more = {it.power for it in found.powers if not it.why}
    assert more == {Power.STORED, Power.SIGNED, Power.SEND}
    assert len(found.findings) == 4
    said = "\n".join(line for _, line in text.lines([found]))
    assert "✗ gateway: relay" in said and "✗ read stored mail" in said and "✗ mail at" in said


@pytest.mark.parametrize("missing", ["N2", "N5"])
def test_what_was_not_looked_at_is_never_green(missing: str) -> None:
    found = judged(*(it for it in CLEAN if it.check.id != missing))
    assert found.verdict is Verdict.UNKNOWN and not found.lacks
    assert found.unseen == (f"{missing} was not run",)


def test_a_machine_that_is_down_is_not_green() -> None:
    checks = [CHECKS[it] for it in breach.LOOKS]
    down = ground(Here(*(it.name for it in SITE.machines)))
    run = runner.run(down, checks, lambda *_: None, at=["store", "firewall"])
    found = breach.exposures(MATRIX, run)
    assert [it.machine.name for it in found] == ["firewall", "store"]
    assert text.worst(found) is Verdict.UNKNOWN and not any(it.lacks for it in found)
    assert all("cannot be reached" in words for it in found for words in it.unseen)
    assert text.worst(()) is Verdict.UNKNOWN


@pytest.mark.parametrize(("argv", "code"), [(["store"], 69), ([], 69), (["moon"], None)])
def test_the_command(monkeypatch: pytest.MonkeyPatch, argv: list[str], code: int | None) -> None:
    app = App("")
    monkeypatch.setattr(App, "site", lambda self: SITE)
    monkeypatch.setattr(App, "transport", lambda self: Here(*(it.name for it in SITE.machines)))
    done = CliRunner().invoke(command, ["--json", *argv], obj=app, standalone_mode=False)
    if code is None:
        assert isinstance(done.exception, MastioError) and "no such machine" in str(done.exception)
        return
    assert done.return_value == code
    report = json.loads(done.stdout)
    names = argv or [it.name for it in SITE.machines]
    assert [it["machine"] for it in report["machines"]] == names
    assert all(it["could_not_look"] and not it["cannot"] for it in report["machines"])


def test_json_tells_all() -> None:
    report = json.loads(json.dumps(text.data([judged(*CLEAN)])))
    (machine,) = report["machines"]
    assert report["verdict"] == "passed" and machine["findings"] == []
    assert machine["reaches"][0]["service"] == "imaps"
    assert machine["secrets"][0]["granted"] and "content" not in machine["secrets"][0]


def test_the_page_tells_it_as_text_and_can_be_heard() -> None:
    evil = secret("webmail", Kind.MAIL, "/srv/<script>alert(1)</script>")
    run = a_run(*CLEAN[:2], passed("H7", secrets=(own("webmail"), evil)))
    content = page.html(run, MATRIX, ())
    assert not Page(content).wrong and set(Page(content).labels) <= set(Page(content).ids)
    section = content.partition("If a machine is broken into")[2]
    assert "✗ read stored mail" in section and "who it is inside the site" in section
    assert "&lt;script&gt;" in section and "<script>" not in content
    assert "If a machine is broken into" not in page.html(RUN, MATRIX, ())
