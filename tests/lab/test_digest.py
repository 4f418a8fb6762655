"""The digest: what happened on the machines is in it, it reaches the administrator, each line counts once."""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.policy import SMTP
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from mastio.digest import standing
from mastio.lab import internet, outside
from mastio.roles.digest import FOLDER, UNIT
from mastio.roles.patching import KNOWN
from mastio.site.model import Address, Role
from mastio.watch.known import RELEASES
from tests.lab.browser import RESULTS, Webmail, browser
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import (
    CAROL,
    deliver,
    from_carol,
    inbox,
    lets_in,
    message,
    remote,
    talk,
    the,
    token,
)
from tests.lab.patience import at_last
from tests.lab.sabotage import on
from tests.lab.test_bans import wait_for
from tests.lab.test_filter import PILLS, send, somebody
from tests.lab.test_integrity import changed, forget
from tests.lab.test_mail import EICAR, GTUBE
from tests.lab.test_verify import having, verify
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

_PATIENCE = 300
"""Seconds until a line is on watch, in a summary, and told; after a boot the first ones may wait."""

_DELAY = 4
"""Seconds that what is suspicious must wait."""
_TUNED = f"""
[policy]
greylist_delay = {_DELAY}
greylist_score = 4.0
spam_junk_score = 8.0

[alarms]
mail = ["BOB"]
"""


@pytest.fixture(scope="module", autouse=True)
def quick(lab: Lab) -> Iterator[None]:
    """Greylisting is had quickly, and a second person is told."""
    with tuned(lab, _TUNED.replace("BOB", [*lab.accounts][1])):
        yield


def told(lab: Lab) -> dict[str, Any]:
    """The digest of the last hours."""
    done = mastio(lab.folder, "digest", "--json", "--since", "3h")
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == int(found["needs_a_person"])
    return found


def once(lab: Lab, arrived: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The digest, as soon as it has what is waited for."""
    return at_last(lambda: told(lab), arrived, _PATIENCE, 1)


def knock(address: str, port: int, source: str = "") -> bool:
    """Whether a port takes a connection."""
    import socket

    try:
        socket.create_connection((address, port), timeout=1, source_address=(source, 0)).close()
    except OSError:
        return False
    return True


def address(parts: Iterable[Address]) -> str:
    """The IPv4 address of them."""
    return str(next(it for it in parts if it.version == 4))


Planted = dict[str, dict[str, int]]
"""Of each part of a summary, how often a name was counted."""


def counted(found: dict[str, Any]) -> Planted:
    """What a summary counts: itself, names of its tops, and how many times it took of each kind."""
    summary = found["summary"]
    return {
        "counts": summary["counts"],
        "times": {name: sum(it["boxes"]) for name, it in summary["times"].items()},
        **{name: it["names"] for name, it in summary["tops"].items()},
    }


def test_the_digest_contains_the_planted_events(lab: Lab) -> None:
    alice, password = next(iter(lab.accounts.items()))
    store, word = the(lab, Role.STORE), token()
    stranger, sender = address(internet.stranger(lab.site)), somebody()
    before = counted(told(lab))
    grey = message(sender, alice, f"grey {word}", PILLS)
    assert send(lab, grey, sender, alice)[0] == 451
    again = time.monotonic() + _DELAY + 1
    assert deliver(lab, message(CAROL, alice, f"good {word}"))[0] == 250
    assert deliver(lab, message(CAROL, alice, f"spam {word}", GTUBE))[0] == 554
    assert deliver(lab, message(CAROL, alice, f"virus {word}", EICAR))[0] == 554
    from_carol(lab, message(CAROL, alice, f"by TLS {word}"))
    assert not lets_in(lab, alice, "not the password")
    # A port of this run alone: what was stopped before is no news.
    watch, port = address(the(lab, Role.WATCH).addresses), random.randrange(20_000, 30_000)
    assert not remote(lab, store.name, knock, address=watch, port=port)
    assert not remote(
        lab, outside.MACHINE, knock, address=address(lab.site.public), port=port, source=stranger
    )
    # By a program that nobody has heard of: lines of one program that are alike are one shape.
    shape = "".join(random.choices("bcdfghjklm", k=9))
    odd = f"the {shape} of the gizmo wobbles sideways"
    assert lab.run(store.name, ["logger", "-t", shape, "--", odd]).code == 0
    time.sleep(max(0, again - time.monotonic()))
    assert send(lab, grey, sender, alice)[0] == 250
    for words in ("good", "grey", "by TLS"):
        assert inbox(lab, alice, password, f"{words} {word}")
    # Where nobody may log in, trying to is an offence.
    for _ in range((lab.site.bans.failures + 1) // 2):
        talk(lab, ("AUTH PLAIN AGEAYg==", "QUIT"), source=ip_address(stranger))
    assert wait_for(lab, stranger, banned=True, patience=_PATIENCE)
    lab.mastio("ban", "lift", stranger)

    planted: dict[str, tuple[str, ...]] = {
        "counts": (
            "mail.in", "bytes.in", "sent.lmtp", "refused.in.spam", "refused.in.virus", "viruses",
            "login.failed.mailbox", "dropped", "dropped inside", "filter.no action", f"lines.{store.name}",
            "refused.in.greylisted, to come again", "greylisted then delivered", "sessions.tls", "bans",
        ),
        "times": ("store/smtp", "lmtp", "greylisted", "filter in ms"),
        "TLS in": ("TLSv1.3",), "senders": (CAROL, sender), "to.lmtp": (alice,),
        "sources": (address(internet.mta(lab.site)),), "refused sources": (stranger,),
        "bans": (f"{stranger}/32",), "bans for": ("SMTP log-in",),
        "drops": ("internet > firewall", f"{store.name} > {store.zone}"),
        "drop sources": (stranger,), "drop ports": (f"tcp/{port}",),
    }  # fmt: skip

    def missing(found: dict[str, Any]) -> list[str]:
        after, news = counted(found), found["summary"]["news"]
        # What came once may fall out of a top that other modules' scans have filled, and the top says so.
        cut = {name: it["missed"] for name, it in found["summary"]["tops"].items()}
        fewer = [
            f"{kind}: {name}" for kind, names in planted.items() for name in names
            if after.get(kind, {}).get(name, 0) + cut.get(kind, 0) <= before.get(kind, {}).get(name, 0)
        ]  # fmt: skip
        odd_one = shape in json.dumps(news.get("shapes", {}))
        stopped = any(
            name.endswith(f" tcp/{port}") and f" DST={watch} " in example
            for name, (example, *_) in news.get("flows", {}).items()
        )
        return [*fewer, *["the new shape"] * (not odd_one), *["the new flow"] * (not stopped)]

    # The machines' lines come by queues of their own, one after the other.
    found = once(lab, lambda it: not missing(it))
    assert not missing(found), (missing(found), counted(found)["drops"])
    summary = found["summary"]
    assert summary["counts"].get("reading.unreadable", 0) == before["counts"].get(
        "reading.unreadable", 0
    )
    inside = summary["tops"]["drops inside"]
    assert any(f"> {watch} tcp/{port}" in it for it in inside["names"]) or inside["missed"], inside
    assert summary["times"]["greylisted"]["worst"] >= _DELAY
    assert "delivered in" in found["top"][2]
    # All that was read stays read.
    assert told(lab)["summary"]["counts"]["mail.in"] == summary["counts"]["mail.in"]


def test_what_anybody_writes_stops_nothing(lab: Lab) -> None:
    """Whoever may write to a machine's log may write by any program's name."""
    store, watch = the(lab, Role.STORE).name, the(lab, Role.WATCH).name
    before = told(lab)["summary"]["counts"]
    word, late = ("".join(random.choices("bcdfghjklm", k=9)) for _ in range(2))
    alert = '{"timestamp":"","event_type":"alert","alert":{"signature":"x","severity":1e999}}'
    for tag, text in (
        (word, "this program was never heard of"),
        ("mastio-reports", "[" * 7000),
        ("mastio-reports", '{"kind":"dmarc","messages":1e999}'),
        ("suricata", alert),
        ("postfix/qmgr", f"{token()}: from=<a@b>, size={'9' * 400}, nrcpt=1 (queue active)"),
        ("mastio-alive", f"boot=00000000 seq={'9' * 5000} up=1 clock=1"),
        (late, "neither was this one"),
    ):
        argv = ["runuser", "-u", "nobody", "--", "logger", "--size", "8KiB", "-t", tag, "--", text]
        assert lab.run(store, argv).code == 0

    def news(found: dict[str, Any]) -> str:
        return json.dumps(found["summary"]["news"].get("shapes", {}))

    found = once(lab, lambda it: late in news(it))
    assert word in news(found)
    unread = [it.get("reading.unreadable", 0) for it in (before, found["summary"]["counts"])]
    assert unread[1] - unread[0] == 3, unread
    assert found["summary"]["counts"]["reports.dmarc"] == before.get("reports.dmarc", 0) + 1
    on(lab, watch, "systemctl start mastio-logbook@life.service")


def test_how_the_site_stands_is_known_in_every_part_once_watch_has_looked(lab: Lab) -> None:
    store, watch = the(lab, Role.STORE).name, the(lab, Role.WATCH).name
    forget(lab)
    try:
        on(lab, watch, "systemctl start mastio-verify@metrics.service")
        lab.mastio("integrity", "begin")
        mastio(lab.folder, "patches")
        lab.mastio("backup", "now")
        lab.mastio("drill", "restore")
        found = told(lab)
        parts = {
            it["part"]: {row["about"]: row["words"] for row in it["rows"]}
            for it in found["standing"]
        }
        assert {*parts} == {it.title for it in standing.PARTS}
        unknown = ("nothing is known", "makes no sense", "never measured", "not measured")
        said = json.dumps([parts, found["needs"]])
        assert not [it for it in unknown if it in said], said
        names = {it.name for it in lab.site.machines}
        for title in ("Disks and queues now", "Updates", "Integrity"):
            assert {*parts[title]} == names, parts
        assert all(words.startswith("clean, ") for words in parts["Integrity"].values()), parts
        assert "newest 20" in parts["Backups"][store]
        assert parts["Restore drills"]["restoring"].startswith("good, ")

        planted = "/usr/local/bin/planted"
        with changed(lab, store, f"echo evil >{planted}", f"rm -f {planted}"):
            assert mastio(lab.folder, "integrity", "check", store).returncode == 1
            found = told(lab)
        assert found["needs_a_person"]
        (need,) = (it for it in found["needs"] if it["words"].startswith(f"{store}: 1 difference"))
        assert need["level"] == "act" and need["remedy"] == "mastio integrity status", need

        # As if Debian had given the release up.
        aged = f"cp -p {RELEASES} /run/releases; sed -i -E '/,trixie,/s/20[23][0-9]-/2020-/g' {RELEASES}"
        with changed(lab, watch, aged, f"mv /run/releases {RELEASES}"):
            done = mastio(lab.folder, "patches")
            assert done.returncode == 1 and "Debian trixie gets no fixes any more" in done.stdout
            found = told(lab)
        words = f"Debian mends nothing on {store} any more: its release is too old"
        assert words in [it["words"] for it in found["needs"] if it["level"] == "act"], found[
            "needs"
        ]
    finally:
        on(lab, watch, f"rm -f {KNOWN}")
        forget(lab)


def test_it_reaches_who_is_told_of_alarms_and_is_kept(lab: Lab) -> None:
    day, (admin, other, *_) = f"{datetime.now(UTC):%Y-%m-%d}", lab.accounts
    assert admin == lab.site.admin_mail
    subject = f"[{lab.site.name}] digest of {day}"
    had = {it: len(inbox(lab, it, lab.accounts[it], subject, count=0)) for it in (admin, other)}
    done = mastio(lab.folder, "digest", "--mail", "--day", "today")
    assert done.returncode in (0, 1), done.stderr
    assert f"to {admin}, {other}" in done.stderr
    for user in (admin, other):
        *_, mail = inbox(lab, user, lab.accounts[user], subject, count=had[user] + 1)
        assert mail["To"] == f"{admin}, {other}"
        kinds = [it.get_content_type() for it in mail.walk()]
        assert kinds == ["multipart/alternative", "text/plain", "text/html"]
        text = mail.get_payload(0).get_payload(decode=True).decode()  # type: ignore[union-attr]
        assert text.splitlines()[:3] == done.stdout.splitlines()[:3]
    watch = the(lab, Role.WATCH).name
    kept = lab.run(watch, ["ls", f"{FOLDER}/days", f"{FOLDER}/waiting"]).stdout.decode().split()
    assert {f"{day}.html", f"{day}.json", f"{day}.txt"} <= set(kept) and f"{day}.eml" not in kept


def test_it_waits_for_those_alone_who_did_not_take_it(lab: Lab) -> None:
    watch, admin, word = the(lab, Role.WATCH).name, lab.site.admin_mail, token()
    nobody, waiting = f"{token()}@{lab.site.domains[0]}", f"{FOLDER}/waiting/2026-01-01.eml"
    letter = message(admin, f"{admin}, {nobody}", word)
    assert lab.run(watch, ["tee", waiting], letter.as_bytes(policy=SMTP)).code == 0
    try:
        for _ in range(2):
            start = ["systemctl", "start", UNIT.format("read")]
            refused = lab.transport.run(watch, start, timeout=_PATIENCE)
            assert refused.code, "it was sent to somebody whom there is not"
            assert f"To: {nobody}" in on(lab, watch, f"cat {waiting}").splitlines()
        (words,) = having(verify(lab, "--only", "L5"), "failed")["L5"]
        assert "the digest 2026-01-01 waits" in words
        assert len(inbox(lab, admin, lab.accounts[admin], word)) == 1
    finally:
        on(lab, watch, f"rm -f {waiting}; systemctl start {UNIT.format('read')}")
    assert "L5" in having(verify(lab, "--only", "L5"), "passed")


def test_the_administrator_reads_it_in_the_webmail(lab: Lab, tmp_path: Path) -> None:
    """A webmail keeps little of a page: charts have their colours, and nothing is unfolded."""
    admin, host = lab.site.admin_mail, lab.site.webmail_host
    had = len(inbox(lab, admin, lab.accounts[admin], "digest of", count=0))
    done = mastio(lab.folder, "digest", "--mail", "--day", "today")
    assert done.returncode in (0, 1), done.stderr
    assert len(inbox(lab, admin, lab.accounts[admin], "digest of", count=had + 1)) > had
    trusted = lab.run(outside.MACHINE, ["cat", outside.TRUSTED]).stdout.decode()
    with browser(trusted, tmp_path, host, lab.webmail_url) as chromium:
        webmail = Webmail(chromium, host, "digest-mail")
        webmail.login(admin, lab.accounts[admin])
        shown = webmail.read("digest of")
        assert done.stdout.splitlines()[0] in shown and "As a table" not in shown
        fills = webmail.page.locator("#messagebody rect").evaluate_all(
            "all => all.map(it => getComputedStyle(it).fill)"
        )
        assert fills and "rgb(0, 0, 0)" not in fills
        # As wide as the axis below it: else a bar stands under another hour.
        drawn = webmail.page.locator("#messagebody svg").first.evaluate(
            "it => it.getScreenCTM().a * it.viewBox.baseVal.width / it.getBoundingClientRect().width"
        )
        assert drawn == pytest.approx(1, abs=0.02)
        side = webmail.page.locator("#messagebody caption").first
        assert side.evaluate("it => getComputedStyle(it).captionSide") == "top"


def test_the_page_is_for_people(lab: Lab) -> None:
    RESULTS.mkdir(exist_ok=True)
    page_file = (RESULTS / "digest.html").absolute()
    mastio(lab.folder, "digest", "--html", str(page_file))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        for name, width in (("desk", 1200), ("phone", 390)):
            page = chromium.new_page(viewport={"width": width, "height": 900})
            page.goto(page_file.as_uri())
            page.screenshot(path=Path(RESULTS, f"digest-{name}.png"), full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        chromium.close()
