"""What the gateway refuses of a webmail user's mail: its sender reads why, in the same browser."""

from pathlib import Path

import pytest

from mastio.lab import outside
from tests.lab import browser, mail
from tests.lab.browser import Webmail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, token
from tests.lab.test_filter import EICAR

pytestmark = pytest.mark.lab


def test_a_virus_attached_in_the_form_does_not_leave_and_its_sender_reads_why(
    lab: Lab, tmp_path: Path, somebody: tuple[str, str]
) -> None:
    trusted = lab.run(outside.MACHINE, ["cat", outside.TRUSTED]).stdout.decode()
    bad, good = token(), token()
    with browser.browser(trusted, tmp_path, lab.site.webmail_host, lab.webmail_url) as chromium:
        session = Webmail(chromium, lab.site.webmail_host, "virus")
        session.login(*somebody)
        session.send(CAROL, bad, "notes.txt", EICAR.encode())
        session.send(CAROL, good, "notes.txt", b"Nothing to fear.")
        (got,) = mail.at_carols(lab, good)
        assert "notes.txt" in [part.get_filename() for part in got.walk()]
        assert mail.inbox(lab, *somebody, "Undelivered Mail Returned to Sender")
        assert "malware" in session.read("Undelivered Mail Returned to Sender")
        assert not mail.at_carols(lab, bad, patience=1)
        session.close()
