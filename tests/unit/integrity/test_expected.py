"""What an apply may have changed, and nothing beside it."""

import json

import pytest

from mastio.integrity import database
from mastio.integrity.expected import Package, of_apply, settled, settled_accounts
from mastio.plan import Action, MachinePlan, PathChange
from mastio.plan import Kind as Change
from mastio.state import Command, Directory, File, HostState, Link, Unit
from tests.unit.integrity.samples import folder, link, row, text

STATE = HostState(
    files=(
        File("/etc/m/a", "new"), File("/etc/m/key", "k", mode=0o600, secret=True),
        File("/etc/systemd/system/own.timer", "t"),
    ),
    directories=(Directory("/etc/m"),),
    links=(Link("/etc/m/l", "a"),),
    units=(
        Unit("m.service"), Unit("own.timer"), Unit("p@x.service"), Unit("no.socket", masked=True),
        Unit("known.service", aliases=("also.service",)),
    ),
    commands=(Command("make", ("make",), creates="/etc/m/made"),),
)  # fmt: skip
SYSTEMD, DEBIANS = "/etc/systemd/system", "/usr/lib/systemd/system"
WANTS = f"{SYSTEMD}/multi-user.target.wants"
PLAN = MachinePlan(
    paths=(PathChange("/etc/m/gone", Change.REMOVE, "file"),),
    commands=(Action("run", "make", "missing"),),
    units=(Action("retire", "old.service", "left the site"),),
)
OLD = (row("/etc/m/a", "old"), row("/etc/m/gone"), row("/etc/passwd"))


def taken(new: list[str], plan: MachinePlan = PLAN, **packages: Package) -> set[str]:
    order = json.loads(json.dumps(of_apply(STATE, plan)))
    known = {"known": "1"}
    return settled(order, database.parse(text(*OLD)), database.parse(text(*new)), packages, known)


def test_what_the_site_file_says_is_taken_over() -> None:
    new = [
        folder("/etc/m"), row("/etc/m/a", "new"), row("/etc/m/key", "k", perm="100600"), link("/etc/m/l", "a"),
        row("/etc/m/made", "?"), folder(WANTS), link(f"{WANTS}/m.service", f"{DEBIANS}/m.service"),
        link(f"{WANTS}/p@x.service", "/lib/systemd/system/p@.service"), row(f"{SYSTEMD}/own.timer", "t"),
        link(f"{SYSTEMD}/timers.target.wants/own.timer", f"{SYSTEMD}/own.timer"),
        folder(f"{SYSTEMD}/timers.target.wants"), link("/etc/rc3.d/S01m", "../init.d/m"), row("/etc/passwd"),
        link(f"{SYSTEMD}/also.service", f"{DEBIANS}/known.service"), link(f"{SYSTEMD}/no.socket", "/dev/null"),
    ]  # fmt: skip
    parsed = {*database.parse(text(*new))} - {"/etc/passwd"}
    assert taken(new) == parsed | {"/etc/m/gone"}


@pytest.mark.parametrize(
    "planted",
    [
        row("/etc/m/a", "evil"),
        row("/etc/m/a", "new", perm="104755"),
        row("/etc/m/other", "new"),
        link("/etc/m/a", "/evil"),
        link("/etc/m/l", "/evil"),
        row("/etc/systemd/system/evil.service"),
        row("/etc/systemd/system/multi-user.target.wants/m.service"),
        link("/etc/systemd/system/m.service", "/dev/null"),
        link("/etc/systemd/system/multi-user.target.wants/evil.service", "/x/evil.service"),
        link(f"{SYSTEMD}/m.service", "/var/tmp/m.service"),
        link(f"{SYSTEMD}/evil.service", "/dev/shm/x/m.service"),
        link(f"{SYSTEMD}/evil.service", f"{DEBIANS}/m.service"),
        link(f"{SYSTEMD}/also.service", f"{DEBIANS}/m.service"),
        link(f"{SYSTEMD}/also.service", "/x/known.service"),
        link(f"{WANTS}/m.service", "/var/tmp/m.service"),
        link(f"{WANTS}/m.service", f"{SYSTEMD}/m.service"),
        link(f"{WANTS}/m.service", f"{DEBIANS}/../../../../x/m.service"),
        link(f"{WANTS}/evil.service", f"{DEBIANS}/m.service"),
        link(f"{WANTS}/deeper/m.service", f"{DEBIANS}/m.service"),
        row("/etc/passwd", "evil"),
        row("/usr/bin/evil"),
        link("/etc/rc3.d/S01evil", "../init.d/evil"),
        link("/etc/rc3.d/S01m", "/var/tmp/m"),
    ],
)
def test_all_else_stays_a_difference(planted: str) -> None:
    others = [it for it in OLD if it.split()[0] != planted.split()[0]]
    assert planted.split()[0] not in taken([*others, planted])


def test_a_link_of_a_unit_that_left_goes_with_it_and_nothing_else_does() -> None:
    order = of_apply(STATE, PLAN)
    gone = [
        link(f"{WANTS}/old.service", f"{DEBIANS}/old.service"), link(f"{SYSTEMD}/o.service", f"{DEBIANS}/old.service"),
        link(f"{SYSTEMD}/m.service", "/dev/null"),
    ]  # fmt: skip
    stays = [row(f"{SYSTEMD}/m.service.d/more.conf"), row(f"{WANTS}/known.service")]
    old = database.parse(text(*gone, *stays, link(f"{WANTS}/evil.service", "/x/evil.service")))
    assert settled(order, old, {}, {}, {}) == {it.split()[0] for it in gone}


def test_a_units_link_that_was_told_before_stays_a_difference() -> None:
    """Also the right one: an apply ends no alarm about what it did not make."""
    order, right = of_apply(STATE, PLAN), link(f"{WANTS}/m.service", f"{DEBIANS}/m.service")
    new, path = database.parse(text(right)), right.split()[0]
    assert settled(order, {}, new, {}, {}) == {path}
    assert settled(order, {}, new, {}, {}, told=(path,)) == set()


def test_what_was_removed_by_hand_is_not_taken_over() -> None:
    assert taken([row("/etc/m/gone"), row("/etc/passwd")]) == set()


def test_files_of_packages_that_it_installed_are_and_of_others_are_not() -> None:
    plan = MachinePlan(packages=("fresh",))
    new = [
        *OLD,
        row("/usr/bin/fresh"),
        row("/usr/bin/known"),
        row("/usr/bin/x"),
        row("/etc/ld.so.cache"),
    ]
    fresh, known = Package("2", ["/bin/fresh"]), Package("1", ["/usr/bin/known"])
    assert taken(new, plan, fresh=fresh, known=known) == {"/usr/bin/fresh", "/etc/ld.so.cache"}
    assert taken(new, plan, known=known) == set()
    assert taken(new, fresh=fresh) == set(), "it installed nothing"


MODULES = "/usr/lib/python3/dist-packages"


def beside(*new: str, told: tuple[str, ...] = ()) -> set[str]:
    """What is taken over when the package `fresh` has come, of all that stands beside its own files."""
    order = of_apply(STATE, MachinePlan(packages=("fresh",)))
    units = ("fresh.service", "many@.service")
    files = [*(f"/lib/systemd/system/{it}" for it in units), f"{MODULES}/fresh/it.py"]
    rows = database.parse(text(*OLD, *new))
    fresh = {"fresh": Package("2", files)}
    return settled(order, database.parse(text(*OLD)), rows, fresh, {}, told)


def test_what_a_packages_scripts_write_is_taken_over() -> None:
    units = "/usr/lib/systemd/system"
    new = [
        link(f"{WANTS}/fresh.service", f"{units}/fresh.service"), row("/etc/aliases.db"), row("/boot/initrd.img-6"),
        link(f"{WANTS}/many@one.service", "/lib/systemd/system/many@.service"),
        row(f"{MODULES}/fresh/__pycache__/it.cpython-313.pyc"),
    ]  # fmt: skip
    assert beside(*new) == {it.split()[0] for it in new}


@pytest.mark.parametrize(
    "planted",
    [
        link(f"{WANTS}/evil.service", "/etc/systemd/system/evil.service"),
        link(f"{WANTS}/fresh.service", "/etc/systemd/system/fresh.service"),
        row(f"{WANTS}/fresh.service"),
        row(f"{MODULES}/fresh/__pycache__/other.cpython-313.pyc"),
        row(f"{MODULES}/known/__pycache__/it.cpython-313.pyc"),
        row("/boot/evil"),
    ],
)
def test_what_somebody_plants_beside_it_is_not(planted: str) -> None:
    assert planted.split()[0] not in beside(planted)


def test_what_was_told_already_is_not_taken_over_by_the_way() -> None:
    """An alarm does not end because a package came whose scripts might have written there."""
    new = row("/etc/aliases.db")
    assert beside(new) == {"/etc/aliases.db"}
    assert beside(new, told=("/etc/aliases.db",)) == set()


def test_what_was_told_of_a_packages_own_file_stays_a_difference() -> None:
    """A configuration file that somebody has changed stays as it is when its package comes anew (dpkg, confold)."""
    order = of_apply(STATE, MachinePlan(packages=("fresh",)))
    files = {"fresh": Package("2", ["/etc/pam.d/fresh", "/usr/bin/fresh"])}
    new = database.parse(text(*OLD, row("/etc/pam.d/fresh"), row("/usr/bin/fresh")))
    old = database.parse(text(*OLD))
    assert settled(order, old, new, files, {}) == {"/etc/pam.d/fresh", "/usr/bin/fresh"}
    told = ("/etc/pam.d/fresh",)
    assert settled(order, old, new, files, {}, told) == {"/usr/bin/fresh"}


def test_what_a_command_writes_is_taken_over_when_it_ran() -> None:
    state = HostState(commands=(Command("trust", ("update-ca-certificates",)),))
    new = database.parse(text(*OLD, row("/etc/ssl/certs/ca-certificates.crt")))
    for ran, expected in ((True, {"/etc/ssl/certs/ca-certificates.crt"}), (False, set())):
        plan = MachinePlan(commands=(Action("run", "trust", "changed"),) if ran else ())
        order = json.loads(json.dumps(of_apply(state, plan)))
        assert settled(order, database.parse(text(*OLD)), new, {}, {}) == expected


def test_accounts_of_the_plan_and_of_packages_but_never_another_root() -> None:
    plan = MachinePlan(users=(Action("create", "m", "missing"),))
    new = [
        "m (uid 990, shell /bin/sh)", "p (uid 991, shell /usr/sbin/nologin)", "evil (uid 0, shell /usr/sbin/nologin)",
        "u (uid 1000, shell /bin/bash)",
    ]  # fmt: skip
    order = of_apply(STATE, plan)
    assert settled_accounts(order, [], new) == {new[0]}
    order = of_apply(STATE, MachinePlan(packages=("p",)))
    assert settled_accounts(order, [], new) == {new[1]}
