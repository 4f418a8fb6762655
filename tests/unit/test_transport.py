"""Transports: the command line they make, and how they carry programs, output and failures."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.transport import PYTHON, SERVER, ServerTransport, SshTransport, Transport
from tests import sites


class Local(Transport):
    """Every machine is this one."""

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        return [sys.executable if command[0] == "python3" else command[0], *command[1:]]

    def lost(self, code: int) -> bool:
        return code == 255


def test_a_program_and_its_payload_travel_through_stdin() -> None:
    source = "import sys; sys.stdout.buffer.write(PAYLOAD[::-1]); print('é', end='')"
    result = Local().run_python("here", source, b"ab\n\0")
    assert result.stdout in ("é".encode() + b"\0\nba", b"\0\nba" + "é".encode())
    assert result.code == 0


def test_lines_come_as_they_are_said() -> None:
    source = "for word in PAYLOAD.split(): print(word.decode(), flush=True)"
    lines = Local().stream_python("here", source, b"one two " + b"x" * 300_000)
    assert next(lines) == b"one\n"
    assert next(lines) == b"two\n"
    assert len(list(lines)) == 1


def test_what_follows_is_made_while_it_is_read() -> None:
    source = (
        "import sys\nfor line in sys.stdin.buffer: print(PAYLOAD.decode(), len(line), flush=True)"
    )
    rest = (b"x" * number * 100_000 + b"\n" for number in range(4))
    lines = Local().stream_python("here", source, b"got", rest)
    assert [*lines] == [b"got 1\n", b"got 100001\n", b"got 200001\n", b"got 300001\n"]


def test_who_stops_listening_is_sent_nothing_more() -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 100_000 + b"\n"

    source = "import sys\nfor line in sys.stdin.buffer: print(len(line), flush=True)"
    lines = Local().stream_python("here", source, b"", endless())
    assert next(lines) == b"100001\n"
    lines.close()  # type: ignore[attr-defined]
    count = len(sent)
    time.sleep(0.05)
    assert len(sent) <= count + 1


def test_who_presses_ctrl_c_is_not_kept_by_a_command_that_goes_on(tmp_path: Path) -> None:
    program = """
import os, signal, sys, threading
from tests.unit.test_transport import Local
signal.signal(signal.SIGINT, signal.default_int_handler)
source = "import os, time; print(1, flush=True)\\nwhile not os.path.exists(PAYLOAD): time.sleep(0.05)"
lines = Local().stream_python("here", source, sys.argv[1].encode())
next(lines)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
next(lines)
"""
    end = tmp_path / "end"
    try:
        argv = [sys.executable, "-c", program, str(end)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    finally:
        end.touch()
    assert done.returncode == -signal.SIGINT, done.stderr


def test_a_failing_program_says_its_last_word() -> None:
    source = "import sys; sys.exit('no\\n\\nspace left')"
    assert Local().run_python("here", source, b"").code == 1
    with pytest.raises(MastioError, match="store: exit code 1: space left"):
        list(Local().stream_python("store", source, b""))


@pytest.mark.parametrize("stream", [False, True])
def test_an_unreachable_machine_is_named(stream: bool) -> None:
    command = ["sh", "-c", "echo 'ssh: no route' >&2; exit 255"]
    with pytest.raises(MastioError, match="store cannot be reached: ssh: no route") as caught:
        if stream:
            list(Local().stream("store", command))
        else:
            Local().run("store", command)
    assert caught.value.code is Exit.UNAVAILABLE


def test_a_machine_that_hangs_is_unreachable() -> None:
    with pytest.raises(MastioError, match=r"no answer within 0\.1 seconds"):
        Local().run("store", ["sleep", "5"], timeout=0.1)


def test_ssh_quotes_for_the_remote_shell_and_takes_the_site_s_configuration() -> None:
    site = replace(sites.demo_site(), ssh_config="/etc/my ssh")
    argv = SshTransport(site).argv("store", ["echo", "a b", "$HOME"])
    assert argv[0] == "ssh"
    assert argv[argv.index("-F") + 1] == "/etc/my ssh"
    assert "BatchMode=yes" in argv
    assert argv[-3:] == ["--", str(site.machine("store").addresses[0]), "echo 'a b' '$HOME'"]
    assert shlex.split(SshTransport(site).argv("store", PYTHON)[-1]) == list(PYTHON)


def test_ssh_prefers_the_machine_s_own_host_name() -> None:
    site = sites.demo_site()
    machines = tuple(
        replace(machine, ssh="box") if machine.name == "store" else machine
        for machine in site.machines
    )
    assert SshTransport(replace(site, machines=machines)).argv("store", ["true"])[-2] == "box"


def test_a_fresh_ssh_shares_no_connection() -> None:
    transport = SshTransport(sites.demo_site())
    assert "ControlMaster=auto" in transport.argv("store", ["true"])
    fresh = transport.fresh().argv("store", ["true"])
    assert "ControlPath=none" in fresh
    assert "ControlMaster=auto" not in fresh


def test_the_key_that_opens_is_the_one_that_the_machine_takes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "Server accepts key: a ED25519 SHA256:jump\ndebug1: Server accepts key: b RSA SHA256:mine+/1 agent"
    (tmp_path / "ssh").write_text(
        f'#!/bin/sh\ncase "$*" in *ControlMaster=no*LogLevel=DEBUG1*|*LogLevel=DEBUG1*ControlMaster=no*) '
        f"printf '%s\\n' 'debug1: {told}' >&2;; esac\n"
    )
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    site = sites.demo_site()
    assert SshTransport(site).opened_by("store") == "SHA256:mine+/1"
    assert ServerTransport(site).opened_by("store") == "", "the server's key is another matter"
    assert Local().opened_by("store") == ""


def test_on_a_server_a_command_gets_into_a_machine_by_way_of_the_server() -> None:
    way = ServerTransport(replace(sites.demo_site(), server="box"), share=False)
    argv = way.argv("store", ["echo", "it's $HOME"])
    assert argv[-2] == "box", "ssh goes to the server, whatever the machine's address"
    words = shlex.split(argv[-1])
    assert words[:2] == ["sh", "-c"] and words[3:] == ["store", "echo", "it's $HOME"]
    assert way.argv(SERVER, ["true"])[-2:] == ["box", "true"]
    assert isinstance(way.fresh(), ServerTransport)


def test_a_machine_that_does_not_run_on_its_server_is_unavailable() -> None:
    """What is run on the server says so by ssh's own exit code; here by this box, which has no such machine."""
    argv = ServerTransport(replace(sites.demo_site(), server="box"), share=False).argv(
        "nobody", ["true"]
    )
    done = subprocess.run(shlex.split(argv[-1]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (255, "it does not run")
