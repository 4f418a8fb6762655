"""What a machine says has an end: real processes that flood, trickle, hold on; and honest ones beside them."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mastio import hearing
from mastio.errors import Exit, MastioError
from mastio.hearing import MIB, TooMuchError, hear
from mastio.transport import Transport

_FLOODS = {
    "output": "import os\nwhile True: os.write(1, bytes(65536))",
    "complaints": "import os\nwhile True: os.write(2, bytes(65536))",
    "both": "import os\nwhile True: os.write(1, bytes(65536)); os.write(2, bytes(65536))",
    "lines": "while True: print('{}')",
}


def noted(tmp_path: Path, program: str) -> list[str]:
    """A command line for a Python program that first writes its number down."""
    note = f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    return [sys.executable, "-c", note + program]


def gone(tmp_path: Path) -> bool:
    """Whether that program has ended."""
    place = Path("/proc", (tmp_path / "pid").read_text())
    end = time.monotonic() + 20
    while place.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return not place.exists()


class Speaking(Transport):
    """Every machine is the same local command line."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        return self._argv


@pytest.mark.parametrize("what", _FLOODS)
def test_who_floods_is_cut_off_and_stopped_and_named(tmp_path: Path, what: str) -> None:
    with pytest.raises(TooMuchError, match=r"store answers with more than 1,048,576 oct") as caught:
        Speaking(noted(tmp_path, _FLOODS[what])).run("store", ["x"], timeout=60, most=MIB)
    assert caught.value.code is Exit.UNAVAILABLE and "console" in caught.value.hint
    assert gone(tmp_path)


@pytest.mark.parametrize("what", _FLOODS)
def test_who_floods_a_stream_is_stopped_as_well(tmp_path: Path, what: str) -> None:
    """But complaints: of those the end is kept, while the lines go on."""
    program = _FLOODS[what]
    if what == "complaints":
        program = "import os\nfor _ in range(999): os.write(2, bytes(65536))\nprint('all')"
        assert [*Speaking(noted(tmp_path, program)).stream("store", ["x"])] == [b"all\n"]
        return
    with pytest.raises(TooMuchError, match="store answers with more than"):
        for _ in Speaking(noted(tmp_path, program)).stream("store", ["x"], most=MIB):
            pass
    assert gone(tmp_path)


def test_a_child_that_a_killed_one_leaves_has_nobody_to_write_to(tmp_path: Path) -> None:
    script = f"{shlex.join(noted(tmp_path, _FLOODS['both']))}; true"
    with pytest.raises(TooMuchError):
        hear(["sh", "-c", script], who="store", seconds=60, most=MIB)
    assert gone(tmp_path)


def test_who_trickles_for_ever_is_stopped_in_time(tmp_path: Path) -> None:
    program = "import os, time\nwhile True: os.write(1, b'.'); os.write(2, b'.'); time.sleep(0.01)"
    begin = time.monotonic()
    with pytest.raises(MastioError, match=r"store cannot be reached: no answer within 0\.5 sec"):
        Speaking(noted(tmp_path, program)).run("store", ["x"], timeout=0.5)
    assert time.monotonic() - begin < 20 and gone(tmp_path)


def test_a_stream_that_trickles_for_ever_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "DAY", 0.5)
    program = "import time\nwhile True: print('.', flush=True); time.sleep(0.01)"
    with pytest.raises(MastioError, match="store did not come to an end within a day"):
        for _ in Speaking(noted(tmp_path, program)).stream("store", ["x"]):
            pass
    assert gone(tmp_path)


def test_who_closes_its_pipes_and_goes_on_is_stopped_in_time(tmp_path: Path) -> None:
    program = "import os, time\nos.close(1); os.close(2); time.sleep(60)"
    with pytest.raises(subprocess.TimeoutExpired):
        hear(noted(tmp_path, program), who="store", seconds=1)
    assert gone(tmp_path)


def test_who_asks_stays_small_meanwhile() -> None:
    """In a process that may have 100 MiB more than it has; each of three machines would say 10 GiB."""
    program = """
import re, resource, threading
from mastio.hearing import MIB, TooMuchError, hear
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 100 * MIB,) * 2)
cut = []
def ask(name):
    try: hear(["head", "-c", "10G", "/dev/zero"], who=name, seconds=60, most=4 * MIB)
    except TooMuchError as error: cut.append(error.message)
threading.stack_size(256 * 1024)
threads = [threading.Thread(target=ask, args=(it,)) for it in ("store", "gateway", "webmail")]
[it.start() for it in threads]; [it.join() for it in threads]
peak = re.search("VmHWM: *[^0-9]*([0-9]+)", open("/proc/self/status").read())
print(sorted(it.split()[0] for it in cut), int(peak[1]) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    names, _, most = done.stdout.strip().rpartition(" ")
    assert names == "['gateway', 'store', 'webmail']", done.stderr
    assert int(most) < 150


def test_an_honest_answer_comes_whole_whatever_is_sent_meanwhile() -> None:
    program = (
        "import sys\nsaid = sys.stdin.buffer.read()\nsys.stderr.write('x' * 300_000)\n"
        "sys.stdout.buffer.write(said[::-1])\nsys.exit(3)"
    )
    sent = os.urandom(3 * MIB)
    argv = [sys.executable, "-c", program]
    done = hear(argv, sent, who="store", seconds=60, most=len(sent) + 300_000)
    assert (done.code, done.stdout == sent[::-1], len(done.stderr)) == (3, True, 300_000)


def test_what_goes_by_may_be_more_than_what_is_kept() -> None:
    transport = Speaking(["head", "-c", "40M", "/dev/zero"])
    pieces = transport.stream("store", ["x"], most=None)
    assert sum(map(len, pieces)) == 40 * MIB
