"""Mail flows while something is done to the site; afterwards every message that got a 250 must be where it belongs.

with flowing(lab):
    lab.mastio("apply", "--yes")
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from bench.sender import send

from mastio import services
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token

_AT_ONCE, _PACE = 5, 0.8
_MOST = 180
"""Messages: `mail.inbox` looks at no more than the last 200."""
_SUBMITTED, _REST = 80, 2.0
"""Messages of one user, and seconds between them: of more than 200 in an hour the site holds the rest (`Outbound`)."""
_LATE = 300.0
"""Seconds until what waited is there: a gateway asks each minute whether the store is back."""


@contextmanager
def flowing(lab: Lab) -> Iterator[None]:
    """From the internet to one user, and from that one to another, who is a colleague."""
    (one, word), (other, password) = list(lab.accounts.items())[:2]
    stop = Event()
    with ThreadPoolExecutor() as pool:
        # A client outside does not trust the site's own authority, one inside reads anew whom to trust.
        coming = pool.submit(_from_outside, lab, one, stop)
        going = pool.submit(_from_inside, lab, one, word, other, stop)
        try:
            yield
        finally:
            stop.set()
    # What waits is tried again soon enough by itself (`test_limits`); this test need not wait for it.
    for machine in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.STORE):
        lab.run(machine.name, ["postqueue", "-f"])
    for user, its, sent in ((one, word, coming.result()), (other, password, going.result())):
        mark, missing, end = sent[0].partition(" ")[0], {*sent}, time.monotonic() + _LATE
        while missing:
            assert time.monotonic() < end, f"lost: {missing}"
            time.sleep(0.3)
            # What was submitted again may be there twice: a number of messages does not say that all are there.
            left = end - time.monotonic()
            got = mail.inbox(lab, user, its, mark, count=len(sent), patience=left)
            missing = {*sent} - {it["Subject"] for it in got}


def _from_outside(lab: Lab, user: str, stop: Event) -> list[str]:
    """The subjects of what the MX has taken."""
    address, source = (
        str(next(it for it in addresses if it.version == 4))
        for addresses in (lab.site.public, internet.mta(lab.site))
    )
    mark, sent = token(), list[str]()
    while (not stop.is_set() and len(sent) < _MOST) or not sent:
        words = [f"{mark} {len(sent) + it}" for it in range(_AT_ONCE)]
        mails = [[CAROL, user, message(CAROL, user, it).as_string()] for it in words]
        done = mail.remote(
            lab, outside.MACHINE, send, address=address, port=services.SMTP.port, source=source,
            name=outside.MX, mails=mails, sessions=4, waits=[1] * 300, pace=_PACE,
        )  # fmt: skip
        codes = [code for code, *_ in done["outcomes"]]
        assert codes == [250] * len(mails), done["outcomes"]
        sent += words
    return sent


def _from_inside(lab: Lab, user: str, password: str, other: str, stop: Event) -> list[str]:
    """The subjects of what the store has taken; what it does not take is submitted again, as a mail program does."""
    mark, sent, end = token(), list[str](), time.monotonic() + 300
    while (not stop.is_set() and len(sent) < _SUBMITTED) or not sent:
        assert time.monotonic() < end, "the store takes nothing"
        word = f"{mark} {len(sent)}"
        try:
            code, _ = mail.submit(lab, user, password, message(user, other, word))
        except AssertionError:
            code = 0
        if code == 250:
            sent.append(word)
            end = time.monotonic() + 300
        time.sleep(_REST)
    return sent
