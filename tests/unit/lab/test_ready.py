"""What calls mastio in lab tests: each call is a process of its own, as if Python had been started for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.lab.ready import Ready

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}


@pytest.fixture(scope="module")
def ready() -> Iterator[Ready]:
    with closing(Ready(REPOSITORY, ENVIRONMENT)) as ready:
        yield ready


@pytest.mark.parametrize(
    ("argv", "stdin"),
    [
        (["--version"], ""),
        (["flows", "--help"], ""),
        (["no-such-command"], ""),
        (["--site", "/nowhere", "plan"], ""),
        (["user", "add", "a@b.test", "--password-stdin"], "short\n"),
    ],
)
def test_a_call_is_what_a_cold_start_is(ready: Ready, argv: list[str], stdin: str) -> None:
    cold = subprocess.run(
        [sys.executable, "-m", "mastio", *argv], input=stdin, capture_output=True, text=True, env=ENVIRONMENT,
        cwd=REPOSITORY,
    )  # fmt: skip
    done = ready.run(argv, ENVIRONMENT, stdin)
    assert (done.returncode, done.stdout, done.stderr) == (
        cold.returncode,
        cold.stdout,
        cold.stderr,
    )


def test_calls_side_by_side_know_nothing_of_each_other(ready: Ready) -> None:
    def call(number: int) -> bool:
        folder = f"/nowhere/{number}"
        done = ready.run(["plan"], {**ENVIRONMENT, "MASTIO_SITE": folder})
        return done.returncode == 65 and f"{folder}/site.toml" in done.stderr

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(24)))
    assert "/nowhere" not in ready.run(["plan"], ENVIRONMENT).stderr


def test_one_that_does_not_end_is_ended(ready: Ready, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "site.toml")
    with pytest.raises(subprocess.TimeoutExpired):
        ready.run(["--site", str(tmp_path), "check"], ENVIRONMENT, timeout=1)
    assert ready.run(["--version"], ENVIRONMENT).returncode == 0
