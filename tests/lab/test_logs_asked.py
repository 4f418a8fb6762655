"""`mastio logs` from the administrator's side: followed while lines come, by words, by message, as JSON."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mastio.site.model import Role
from mastio.transport import PYTHON
from tests.lab import mail
from tests.lab.arrivals import talk
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, the, token
from tests.lab.patience import eventually
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

PATIENCE = 120


@pytest.fixture(scope="module", autouse=True)
def talking(lab: Lab) -> None:
    talk(lab)


def asked(lab: Lab, *words: str) -> list[dict[str, Any]]:
    done = mastio(lab.folder, "logs", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(it) for it in done.stdout.splitlines()]


@contextmanager
def followed(lab: Lab, *words: str) -> Iterator["queue.Queue[dict[str, Any]]"]:
    """The lines as they come, until the administrator types Ctrl-C."""
    argv = [sys.executable, "-m", "mastio", "--site", str(lab.folder), "logs", "--follow", "--json"]
    said: queue.Queue[dict[str, Any]] = queue.Queue()
    with subprocess.Popen([*argv, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        stream = process.stdout

        def read() -> None:
            for line in stream:
                said.put(json.loads(line))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield said
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                reader.join(PATIENCE)


def readers(lab: Lab) -> str:
    """How many programs that an administrator has sent run on watch."""
    return on(lab, the(lab, Role.WATCH).name, f"pgrep -fc '{' '.join(PYTHON[:4])}' || true")


def test_lines_are_followed_while_they_come_and_nobody_stays_behind(lab: Lab) -> None:
    word, first, second = token(), the(lab, Role.STORE).name, the(lab, Role.GATEWAY_IN).name
    before = readers(lab)
    on(lab, first, f"logger -t before -- {word} 0")
    with followed(lab, "--grep", word, "--since", "5m") as lines:
        for number, machine in enumerate((first, second, first)):
            if number:
                on(lab, machine, f"logger -t after -- {word} {number}; logger -t other -- nothing")
            line = lines.get(timeout=PATIENCE)
            assert (line["machine"], line["text"]) == (machine, f"{word} {number}")
            assert line["program"] == ("after" if number else "before")
    assert lines.empty()
    eventually(lambda: readers(lab) == before, "its reader stays on watch", PATIENCE)


def test_a_message_is_found_by_its_id_on_every_machine_that_saw_it(lab: Lab) -> None:
    alice, password = next(iter(lab.accounts.items()))
    one, other = (message(CAROL, alice, token()) for _ in range(2))
    for it in (one, other):
        mail.from_carol(lab, it)
    assert mail.inbox(lab, alice, password, str(one["Subject"]))
    name = str(one["Message-ID"]).strip("<>")
    lines: list[dict[str, Any]] = []
    end = time.monotonic() + PATIENCE
    while True:
        former, lines = lines, asked(lab, "--message-id", name, "--since", "10m")
        programs = {(it["machine"], it["program"]) for it in lines}
        store = {it for it in programs if it[0] == the(lab, Role.STORE).name}
        some = {("gateway", "postfix/cleanup"), ("gateway", "rspamd")} <= programs and len(
            store
        ) > 1
        if some and lines == former:  # all that there are
            break
        assert time.monotonic() < end, programs
        time.sleep(0.5)
    assert all(f"<{name}>" in it["text"] for it in lines)
    assert asked(lab, "--message-id", one["Message-ID"], "--since", "10m") == lines
    only = asked(lab, "--message-id", name, "--since", "10m", "--machine", "gateway")
    assert only == [it for it in lines if it["machine"] == "gateway"]


def test_what_is_no_machine_is_an_error_that_names_those_that_are(lab: Lab) -> None:
    done = mastio(lab.folder, "logs", "--machine", "cellar")
    assert done.returncode == 64 and "no machine cellar" in done.stderr
    assert "webmail" in done.stderr
