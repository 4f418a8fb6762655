"""Webmail as its users meet it: a real browser, the real pages, every click.

`browser(authority, folder)` starts a headless Chromium that trusts the lab's public authority as it
would trust any other (a certificate error is a failure here too) and finds the webmail's name at the
forwarded port. `Webmail` drives Roundcube: log in, read, answer, change the password, set a vacation
message. Each step leaves a screenshot in `test-results/`.

Needs Debian's `chromium` and `libnss3-tools`.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

RESULTS = Path("test-results")
PATIENCE = 60_000
"""How long the browser waits for a page or an element, in milliseconds."""
expect.set_options(timeout=PATIENCE)
_QUIET = (
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _trust(home: Path, authority: str) -> None:
    """Make `authority` (PEM) a trusted one in the certificate database of the browser's user."""
    for place in (home / ".pki/nssdb", home / ".local/share/pki/nssdb"):  # older and newer Chromium
        place.mkdir(parents=True)
        certutil = ["certutil", "-d", f"sql:{place}"]
        subprocess.run([*certutil, "-N", "--empty-password"], check=True, capture_output=True)
        add = [*certutil, "-A", "-n", "lab", "-t", "C,,"]
        subprocess.run(add, input=authority.encode(), check=True, capture_output=True)


@contextmanager
def browser(authority: str, home: Path, host: str, url: str) -> Iterator[Browser]:
    """A Chromium for which `host` is the server behind `url`, and `authority` one of the trusted."""
    _trust(home, authority)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[*_QUIET, f"--host-resolver-rules=MAP {host} {urlsplit(url).netloc}"],
            env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")},
        )
        try:
            yield chromium
        finally:
            chromium.close()


class Webmail:
    """One browser session in Roundcube (skin elastic). A step that does not get there fails the test."""

    def __init__(self, chromium: Browser, host: str, name: str) -> None:
        """A fresh session (no cookies) at the webmail called `host`; `name` names its screenshots."""
        self.page: Page = chromium.new_context(locale="en-US").new_page()
        self.page.set_default_timeout(PATIENCE)
        self._base, self._name, self._shots = f"https://{host}/", name, 0

    def close(self) -> None:
        """End the session on this side only."""
        self.page.context.close()

    def shot(self, what: str) -> None:
        """Keep a picture of the page."""
        RESULTS.mkdir(exist_ok=True)
        self._shots += 1
        self.page.screenshot(path=RESULTS / f"{self._name}-{self._shots}-{what}.png")

    def go(self, task: str, action: str = "") -> None:
        """Open a page of Roundcube by its address, once the one that is open has all that it asked for.

        Of two requests within half a second, the one that ends last leaves its own view of the session
        (rcube_session::get_cache): whoever goes on while a list still comes loses what the next page had put there.
        """
        self.page.wait_for_load_state("networkidle")
        self.page.goto(f"{self._base}?_task={task}" + (f"&_action={action}" if action else ""))

    def try_login(self, user: str, password: str) -> bool:
        """Fill in the log-in form; whether it let us in."""
        self.page.goto(self._base)
        self.page.fill("#rcmloginuser", user)
        self.page.fill("#rcmloginpwd", password)
        self.page.click("#rcmloginsubmit")
        self.page.wait_for_selector(
            "#mailboxlist li.inbox, #messagestack .error, #messagestack .warning"
        )
        inside = self.page.locator("#mailboxlist").count() > 0
        self.shot("inbox" if inside else "refused")
        return inside

    def login(self, user: str, password: str) -> None:
        """Log in, and end in the inbox."""
        assert self.try_login(user, password), f"{user} could not log in"

    def read(self, subject: str) -> str:
        """Open the message with this subject from the inbox; its text."""
        self.go("mail")
        row = self.page.locator("#messagelist tr.message", has_text=subject).first
        row.locator("td.subject a").first.dblclick()
        self.page.wait_for_url(re.compile("_action=show"))
        expect(self.page.locator("#message-header h2.subject")).to_contain_text(subject)
        self.shot("message")
        return self.page.locator("#messagebody").inner_text()

    def mark(self, subject: str, button: str, folder: str = "INBOX") -> None:
        """Press `junk` or `notjunk` for the message with this subject; returns when it was moved."""
        self.page.wait_for_load_state("networkidle")
        self.page.goto(f"{self._base}?_task=mail&_mbox={folder}")
        row = self.page.locator("#messagelist tr.message", has_text=subject)
        row.locator("td.subject").first.click()
        self.page.frame_locator("#messagecontframe").locator("#messagebody").wait_for()
        self.page.wait_for_function("!rcmail.busy")  # a busy Roundcube does not hear its buttons
        with self.page.expect_response(re.compile("_action=move")):
            self.page.click(f"#toolbar-menu a.{button}:not(.disabled)")
        expect(row).to_be_hidden()
        self.shot(button)

    def answer(self, text: str) -> None:
        """Reply to the open message and send it."""
        self.page.click("#toolbar-menu a.reply:not(.disabled)")
        self.page.wait_for_url(re.compile("_action=compose"))
        body = self.page.locator("#composebody")
        quoted = body.input_value()
        assert quoted.strip(), "the answer does not quote the message"
        body.fill(f"{text}\n\n{quoted}")
        self.shot("answer")
        self.page.click(".formbuttons button.send")
        # Roundcube leaves the page only when the server has taken the message.
        self.page.wait_for_url(lambda url: "_action=compose" not in url)
        self.shot("sent")

    def send(self, to: str, subject: str, name: str, data: bytes) -> None:
        """Write a message with one attachment in the form and send it."""
        self.go("mail", "compose")
        self.page.wait_for_url(re.compile("_action=compose.*_id="))
        # The form has its recipients' field covered by one that makes boxes of addresses.
        recipients = self.page.locator("#_to")
        assert recipients.count(), f"no form: {self.page.locator('body').inner_text()}"
        recipients.evaluate("(field, to) => { field.value = to }", to)
        self.page.fill("#compose-subject", subject)
        self.page.fill("#composebody", "See what is attached.")
        file: FilePayload = {"name": name, "mimeType": "text/plain", "buffer": data}
        self.page.locator('input[type="file"][name="_attachments[]"]').first.set_input_files(file)
        expect(self.page.locator("#attachment-list li:not(.uploading)")).to_contain_text(name)
        self.shot("written")
        self.page.click(".formbuttons button.send")
        self.page.wait_for_url(lambda url: "_action=compose" not in url)
        self.shot("sent")

    def change_password(self, old: str, new: str) -> None:
        """Change the password in the settings; returns when the page says that it is done."""
        self.go("settings", "plugin.password")
        self.page.fill("#curpasswd", old)
        self.page.fill("#newpasswd", new)
        self.page.fill("#confpasswd", new)
        self.page.click(".formbuttons button.submit")
        self._confirmed("password")

    def set_vacation(self, subject: str, text: str) -> None:
        """Switch a vacation message on."""
        self.go("settings", "plugin.managesieve-vacation")
        self.page.fill("#vacation_subject", subject)
        self.page.fill("#vacation_reason", text)
        self.page.select_option("#vacation_status", "on")
        self.page.click(".formbuttons button.submit")
        self._confirmed("vacation")

    def clear_vacation(self) -> None:
        """Switch the vacation message off again."""
        self.go("settings", "plugin.managesieve-vacation")
        self.page.select_option("#vacation_status", "off")
        self.page.click(".formbuttons button.submit")
        self._confirmed("vacation-off")

    def _confirmed(self, what: str) -> None:
        # "Saving…" is an alert too, of another kind.
        verdict = "#messagestack .confirmation, #messagestack .error, #messagestack .warning"
        self.page.wait_for_selector(verdict)
        self.shot(what)
        said = self.page.locator("#messagestack .alert").all_inner_texts()
        assert self.page.locator("#messagestack .confirmation").count(), f"{what}: {said}"
