"""How one command runs on one machine of the site: over ssh, or straight into a lab machine.

A transport says which *local* command line runs a command there (`argv`); all else follows from
that. Data, programs and secrets travel through stdin, never in a command line.

    transport = SshTransport(site)
    transport.run("store", ["hostname"]).stdout            # b"store\\n"
    transport.run_python("store", SOURCE, b"{}").stdout    # SOURCE runs there, PAYLOAD == b"{}"

A machine that cannot be reached is a `MastioError` with `Exit.UNAVAILABLE` that names it.
"""

import atexit
import re
import shlex
import shutil
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import IO, Protocol

from mastio.errors import Exit, MastioError
from mastio.hearing import MOST, Complaints, Result, hear, lines
from mastio.site.model import Role, Site

KNOWN_HOSTS = "known_hosts"
"""In the site folder: the host keys of machines that were adopted."""
OUTSIDE = "outside"
"""Not a machine of the site: the one on the internet that looks at it (`Site.verify_outside`)."""
SERVER = ":server"
"""Not a machine of the site: the one that carries them all (`Site.server`). No machine can be called so."""
CONSOLE = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TERM=dumb",
    "LC_ALL=C.UTF-8",
)
"""All that a command finds in its environment when it gets into a machine as on its console."""
BOOT = (
    "import sys;i=sys.stdin.buffer;n=int(i.readline());m=int(i.readline());s=i.read(n);"
    "exec(compile(s,'mastio','exec'),{'__name__':'__main__','PAYLOAD':i.read(m)})"
)
"""Reads two lengths (a line each), then a program and its payload, and runs the program."""
PYTHON = ("python3", "-I", "-S", "-c", BOOT)
"""Isolated: neither the machine's environment nor its site-packages have a say."""


class Transport(Protocol):
    """Runs commands on machines. Implementations inherit everything but `argv`."""

    @abstractmethod
    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        """The local command line that runs `command` on `machine`."""
        ...

    def lost(self, code: int) -> bool:
        """Whether the exit code says that the machine was never reached, or was lost on the way."""
        return False

    def fresh(self) -> "Transport":
        """A transport that reuses no connection: proof that a *new* one gets through."""
        return self

    def opened_by(self, machine: str) -> str:
        """The fingerprint (`SHA256:…`) of the key that lets us in there; "" where none is needed."""
        return ""

    def run(
        self,
        machine: str,
        command: Sequence[str],
        stdin: bytes = b"",
        timeout: float = 60,
        most: int = MOST,
    ) -> Result:
        """Runs `command` to its end; `timeout` in seconds, `most` in octets (`mastio.hearing`)."""
        try:
            argv = self.argv(machine, command)
            done = hear(argv, stdin, who=machine, seconds=timeout, most=most)
        except subprocess.TimeoutExpired:
            raise unavailable(machine, f"no answer within {timeout:g} seconds") from None
        if self.lost(done.code):
            raise unavailable(machine, last_line(done.stderr))
        return done

    def stream(
        self,
        machine: str,
        command: Sequence[str],
        stdin: bytes = b"",
        rest: Iterable[bytes] = (),
        most: int | None = MOST,
    ) -> Iterator[bytes]:
        """Runs `command` and yields its output line by line, as it comes; `rest` follows `stdin`, made as it is read.

        `most` is how many octets all lines may have; None for what goes by and is not kept here: then it comes in
        pieces, lines or not, for as long as it takes. The command has its own session: Ctrl-C here does not cut it
        short there. Raises when the command fails, says too much, or does not end within a day.
        """
        process = subprocess.Popen(
            self.argv(machine, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        complaints, left = Complaints(process), Event()
        assert process.stdin and process.stdout  # noqa: S101 — both are PIPE
        feeder = Thread(target=_feed, args=(process.stdin, stdin, rest, left), daemon=True)
        feeder.start()
        with process:
            try:
                yield from lines(process, machine, most)
            except BaseException:
                left.set()  # who listened is gone: nothing more is sent, or it would be waited for
                raise
            code = process.wait()
            feeder.join()
        words = last_line(complaints.end())
        if self.lost(code):
            raise unavailable(machine, words)
        if code:
            raise MastioError(f"{machine}: {ended(code)}" + (f": {words}" if words else ""))

    def run_python(
        self, machine: str, source: str, payload: bytes, timeout: float = 60, most: int = MOST
    ) -> Result:
        """Runs the program `source` there, with `payload` as its global `PAYLOAD`."""
        return self.run(machine, PYTHON, parcel(source, payload), timeout, most)

    def stream_python(
        self,
        machine: str,
        source: str,
        payload: bytes,
        rest: Iterable[bytes] = (),
        most: int | None = MOST,
    ) -> Iterator[bytes]:
        """`run_python`, yielding lines as they come; the program finds `rest` on its standard input."""
        return self.stream(machine, PYTHON, parcel(source, payload), rest, most)


def parcel(source: str, payload: bytes) -> bytes:
    """Program and payload as `BOOT` reads them."""
    program = source.encode()
    return b"%d\n%d\n%b%b" % (len(program), len(payload), program, payload)


def unavailable(machine: str, reason: str) -> MastioError:
    """The error for a machine that cannot be reached."""
    return MastioError(
        f"{machine} cannot be reached: {reason or 'the connection broke'}",
        hint="Is the machine up, and does ssh (or the lab) get there?",
        code=Exit.UNAVAILABLE,
    )


def last_line(output: bytes) -> str:
    """The last line with something in it: what a program said before it gave up."""
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _feed(pipe: IO[bytes], data: bytes, rest: Iterable[bytes], left: Event) -> None:
    # A process that dies early breaks the pipe; its exit code tells the story better. Who listened may close it.
    with suppress(BrokenPipeError, ValueError), pipe:
        pipe.write(data)
        for chunk in rest:
            if left.is_set():
                return
            pipe.write(chunk)


@dataclass(frozen=True, slots=True)
class Pins:
    """How machines that were adopted are known and reached (`mastio.adopt`)."""

    file: str = ""
    """A known_hosts file that has them by their names in the site."""
    machines: frozenset[str] = frozenset()
    through_watch: frozenset[str] = frozenset()
    """Those of them that are reached through watch, as they will be for ever after."""
    guests: frozenset[str] = frozenset()
    """Those that are entered by the name in ssh_config; elsewhere root logs in, as always once a machine is adopted."""

    def options(self, machine: str) -> tuple[str, ...]:
        """ssh_config(5): believed by that key alone, and entered as root."""
        if machine not in self.machines:
            return ()
        known = (
            f'UserKnownHostsFile="{self.file}"', "GlobalKnownHostsFile=none", "StrictHostKeyChecking=yes",
            f"HostKeyAlias={machine}",
        )  # fmt: skip
        return known if machine in self.guests else (*known, "User=root")


class SshTransport(Transport):
    """The system's OpenSSH: the administrator's ssh_config, agent and ProxyJump all work.

    One master connection for each machine is shared by all commands of this process (ssh_config(5),
    ControlMaster); its socket lives in a directory that nobody else can enter.
    """

    def __init__(self, site: Site, pins: Pins | None = None, *, share: bool = True) -> None:
        self._site, self._pins = site, pins or Pins()
        self._folder = tempfile.mkdtemp(prefix="mastio-") if share else ""
        if share:
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        """`ssh … HOST COMMAND`; what follows the host is one string for the remote shell, quoted."""
        options = ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15"]
        options += self._pins.options(machine)
        if machine == OUTSIDE:
            host, number = self._site.verify_outside, len(self._site.machines)
        elif machine == SERVER:
            host, number = self._site.server, len(self._site.machines) + 1
        else:
            target = self._site.machine(machine)
            host, number = target.ssh or str(target.addresses[0]), self._site.machines.index(target)
        if self._folder:
            # A socket's path has 104 bytes on some systems, and TMPDIR may be long: no %C here.
            path = f"ControlPath={self._folder}/{number}"
            options += ["ControlMaster=auto", path, "ControlPersist=30"]
        else:
            options += ["ControlMaster=no", "ControlPath=none"]
        if machine in self._pins.through_watch:
            options.append(f"ProxyCommand={self._through_watch()}")
        return [*self._ssh(options), "-T", "--", host, shlex.join(command)]

    def _ssh(self, options: Sequence[str]) -> list[str]:
        config = ["-F", self._site.ssh_config] if self._site.ssh_config else []
        return ["ssh", *config, *(flag for option in options for flag in ("-o", option))]

    def _through_watch(self) -> str:
        """ssh's own ProxyJump would not know watch by its pin."""
        watch = self._site.carrying(Role.WATCH)[0]
        options = ["BatchMode=yes", "ConnectTimeout=10", *self._pins.options(watch.name)]
        host = watch.ssh or str(watch.addresses[0])
        way = shlex.join([*self._ssh(options), "--", host]).replace("%", "%%")
        return f"{way.removesuffix(f' -- {shlex.quote(host)}')} -W [%h]:%p -- {shlex.quote(host)}"

    def lost(self, code: int) -> bool:
        """ssh(1) exits with 255 when it, and not the remote command, failed."""
        return code == 255

    def fresh(self) -> "SshTransport":
        """A transport without a master connection."""
        return SshTransport(self._site, self._pins, share=False)

    def opened_by(self, machine: str) -> str:
        """By a new connection: one that is shared has been let in before."""
        argv = self.fresh().argv(machine, ["true"])
        return accepted_key(call(argv, ("LogLevel=DEBUG1",), machine).stderr)


def call(argv: Sequence[str], options: Sequence[str], machine: str) -> Result:
    """Runs an ssh(1) command line with further `options`, for what it says; within 60 seconds."""
    flags = [flag for option in options for flag in ("-o", option)]
    try:
        return hear([argv[0], *flags, *argv[1:]], who=machine, seconds=60)
    except subprocess.TimeoutExpired:
        raise unavailable(machine, "no answer within 60 seconds") from None


def accepted_key(stderr: bytes) -> str:
    """The fingerprint of the key that a server took, as ssh(1) tells with LogLevel=DEBUG1; "" when it took none."""
    found = re.findall(rb"Server accepts key: .*?(SHA256:[A-Za-z0-9+/]+)", stderr)
    return found[-1].decode() if found else ""


_ENTER = (
    'leader=$(machinectl show "$0" --property=Leader --value 2>/dev/null); '
    '[ -n "$leader" ] || { echo "it does not run" >&2; exit 255; }; '
    f'exec nsenter --target "$leader" --all -- env -i {" ".join(CONSOLE)} "$@"'
)
"""For sh -c on the server: into the machine $0 by its console's way; no network of the site is needed."""


class ServerTransport(SshTransport):
    """By OpenSSH to the one server that carries all machines, and from there straight into them (nsenter(1))."""

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        """`ssh … SERVER sh -c …`; to `SERVER` and `OUTSIDE` themselves as any ssh."""
        if machine in (SERVER, OUTSIDE):
            return super().argv(machine, command)
        return super().argv(SERVER, ["sh", "-c", _ENTER, machine, *command])

    def opened_by(self, machine: str) -> str:
        """Keys open the server; the machines in it are entered without."""
        return super().opened_by(machine) if machine in (SERVER, OUTSIDE) else ""

    def fresh(self) -> "ServerTransport":
        """A transport without a master connection."""
        return ServerTransport(self._site, self._pins, share=False)
