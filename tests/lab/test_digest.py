"""The digest: what happened on the machines is in it, it reaches the administrator, each line counts once."""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from mastio.lab import outside
from mastio.roles.digest import FOLDER
from mastio.site.model import Role
from tests.lab.browser import RESULTS, Webmail, browser
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, deliver, inbox, lets_in, message, remote, the, token
from tests.lab.test_mail import EICAR, GTUBE

pytestmark = pytest.mark.lab

_PATIENCE = 60
"""Seconds until a line is on watch, in a summary, and told; after a boot the first ones may wait."""


def told(lab: Lab) -> dict[str, Any]:
    """The digest of the last hours."""
    done = mastio(lab.folder, "digest", "--json", "--since", "3h")
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == int(found["needs_a_person"])
    return found


def once(lab: Lab, arrived: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The digest, as soon as it has what is waited for."""
    end = time.monotonic() + _PATIENCE
    while not arrived(found := told(lab)) and time.monotonic() < end:
        time.sleep(1)
    return found


def knock(address: str, port: int) -> bool:
    """Whether a port takes a connection."""
    import socket

    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_the_digest_contains_the_planted_events(lab: Lab) -> None:
    alice, password = next(iter(lab.accounts.items()))
    store, word = the(lab, Role.STORE), token()
    before = told(lab)["summary"]["counts"]
    assert deliver(lab, message(CAROL, alice, f"good {word}"))[0] == 250
    assert deliver(lab, message(CAROL, alice, f"spam {word}", GTUBE))[0] == 554
    assert deliver(lab, message(CAROL, alice, f"virus {word}", EICAR))[0] == 554
    assert not lets_in(lab, alice, "not the password")
    watch = str(next(it for it in the(lab, Role.WATCH).addresses if it.version == 4))
    assert not remote(lab, store.name, knock, address=watch, port=4711)
    # By a program that nobody has heard of: lines of one program that are alike are one shape.
    shape = "".join(random.choices("bcdfghjklm", k=9))
    odd = f"the {shape} of the gizmo wobbles sideways"
    assert lab.run(store.name, ["logger", "-t", shape, "--", odd]).code == 0
    assert inbox(lab, alice, password, f"good {word}")

    planted = (
        "mail.in", "bytes.in", "sent.lmtp", "refused.in.spam", "refused.in.virus", "viruses", "login.failed.mailbox",
        "dropped inside", "filter.no action", f"lines.{store.name}",
    )  # fmt: skip

    def missing(found: dict[str, Any]) -> list[str]:
        counts = found["summary"]["counts"]
        fewer = [it for it in planted if counts.get(it, 0) <= before.get(it, 0)]
        odd_one = shape in json.dumps(found["summary"]["news"].get("shapes", {}))
        return fewer if odd_one else [*fewer, "the line of a new shape"]

    # The machines' lines come by queues of their own, one after the other.
    found = once(lab, lambda it: not missing(it))
    assert not missing(found)
    counts = found["summary"]["counts"]
    assert counts.get("reading.unreadable", 0) == before.get("reading.unreadable", 0)
    inside = found["summary"]["tops"]["drops inside"]["names"]
    assert any(f"> {watch} tcp/4711" in it for it in inside), inside
    senders = found["summary"]["tops"]["senders"]["names"]
    assert senders[CAROL] >= 1
    # All that was read stays read.
    assert told(lab)["summary"]["counts"]["mail.in"] == counts["mail.in"]


def test_it_reaches_the_administrator_and_is_kept(lab: Lab) -> None:
    admin, day = lab.site.admin_mail, f"{datetime.now(UTC):%Y-%m-%d}"
    subject = f"[{lab.site.name}] digest of {day}"
    had = len(inbox(lab, admin, lab.accounts[admin], subject, count=0))
    done = mastio(lab.folder, "digest", "--mail", "--day", "today")
    assert done.returncode in (0, 1), done.stderr
    *_, mail = inbox(lab, admin, lab.accounts[admin], subject, count=had + 1)
    kinds = [it.get_content_type() for it in mail.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]
    text = mail.get_payload(0).get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert text.splitlines()[:3] == done.stdout.splitlines()[:3]
    watch = the(lab, Role.WATCH).name
    kept = lab.run(watch, ["ls", f"{FOLDER}/days", f"{FOLDER}/waiting"]).stdout.decode().split()
    assert {f"{day}.html", f"{day}.json", f"{day}.txt"} <= set(kept) and f"{day}.eml" not in kept


def test_the_administrator_reads_it_in_the_webmail(lab: Lab, tmp_path: Path) -> None:
    """A webmail keeps little of a page: charts have their colours, and nothing is unfolded."""
    admin, host = lab.site.admin_mail, lab.site.webmail_host
    done = mastio(lab.folder, "digest", "--mail", "--day", "today")
    assert done.returncode in (0, 1), done.stderr
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
