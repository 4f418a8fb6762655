"""What the benchmarks share: the running lab, commands on its machines, a mailbox, tables.

What must happen *on* a machine is a self-contained function (`usage`, `arrivals` …) that is sent there
as source and run by that machine's own Python:

    remote(transport, "store", arrivals, folder="/var/vmail/…", count=300, patience=60)
"""

import inspect
import json
import secrets
import statistics
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from mastio.accounts import passwords
from mastio.accounts.client import Accounts
from mastio.accounts.model import AddUser, DeleteUser
from mastio.cli.common import App
from mastio.errors import MastioError
from mastio.hearing import Result
from mastio.lab.provider import Lab
from mastio.transport import Transport

LIMIT = 900
"""After so many seconds a command on a machine is given up."""


class Quiet:
    """Progress of the lab, on stderr."""

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Says what begins."""
        say(f"  {title}")
        yield

    def note(self, text: str) -> None:
        """Nobody asked."""


def say(text: str) -> None:
    """Tell how far it is; results go to stdout."""
    click.echo(text, err=True)


def fail(text: str) -> NoReturn:
    """End with exit code 1: the figures would mean nothing."""
    raise SystemExit(f"error: {text}")


def running(site: str) -> App:
    """The site whose lab is up; ends the benchmark when it is not."""
    app = App(site)
    try:
        name = app.site().name
        down = [it.name for it in Lab(name).status() if it.state in ("stopped", "deaf")]
        if down or not Lab(name).machines() or not app.in_lab:
            fail(f"the lab of {app.folder} is not up ({', '.join(down)}); `mastio lab up` first")
    except MastioError as error:
        fail(f"{error.message}: {error.hint}")
    return app


def must(transport: Transport, machine: str, *argv: str, stdin: bytes = b"") -> Result:
    """Run a command that has to succeed."""
    result = transport.run(machine, argv, stdin, timeout=LIMIT)
    if result.code:
        words = (result.stderr or result.stdout).decode(errors="replace").strip()
        fail(f"{machine}: {' '.join(argv)}: {words[-2000:]}")
    return result


def remote(
    transport: Transport, machine: str, function: Callable[..., Any], **arguments: Any
) -> Any:
    """What a self-contained function returned on a machine."""
    source = (
        f"from __future__ import annotations\nimport json\nfrom typing import Any\n"
        f"{textwrap.dedent(inspect.getsource(function))}\n"
        f"print(json.dumps({function.__name__}(**json.loads(PAYLOAD))))\n"
    )
    result = transport.run_python(machine, source, json.dumps(arguments).encode(), timeout=LIMIT)
    if result.code:
        fail(f"{machine}: {function.__name__}: {result.stderr.decode(errors='replace')[-2000:]}")
    return json.loads(result.stdout)


@contextmanager
def mailbox(app: App) -> Iterator[str]:
    """A fresh mailbox for the time of the benchmark; its mail goes with it."""
    address = f"bench-{secrets.token_hex(4)}@{app.site().domains[0]}"
    accounts = Accounts(app.site(), app.transport())
    accounts.change([AddUser(address, passwords.hashed(passwords.generate()))])
    try:
        yield address
    finally:
        accounts.change([DeleteUser(address)])
        must(app.transport(), "store", "rm", "-rf", maildir(address))


def maildir(address: str) -> str:
    """Where the store keeps a mailbox."""
    user, _, domain = address.partition("@")
    return f"/var/vmail/{domain}/{user}"


def arrivals(folder: str, count: int, patience: float) -> dict[str, Any]:
    """When `count` messages were in the Maildir `folder` and its sub-folders, or patience was over."""
    import pathlib
    import time

    end = time.monotonic() + patience
    while True:
        found = [
            path
            for part in ("new", "cur")
            for path in pathlib.Path(folder).glob(f"**/{part}/*")
            if path.is_file()
        ]
        now = time.monotonic()
        if len(found) >= count or now > end:
            return {"count": len(found), "time": now}
        time.sleep(0.1)


def usage() -> dict[str, Any]:
    """Memory of all processes here (proportional set size, KiB) and CPU used by each unit (µs)."""
    import pathlib
    import re

    memory = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/smaps_rollup"):
        try:
            text = path.read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+)", text, re.M)
        memory += int(found[1]) if found else 0
    cpu = {}
    for path in pathlib.Path("/sys/fs/cgroup/system.slice").glob("**/cpu.stat"):
        name = path.parent.name
        if name.endswith(".service"):
            cpu[name.removesuffix(".service")] = int(path.read_text().split()[1])
    return {"memory": memory, "cpu": cpu}


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns, the first to the left, the others to the right."""
    texts = [list(map(str, row)) for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in texts
    )


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
