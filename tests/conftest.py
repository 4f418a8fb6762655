"""What all tests may ask for on the command line, and how they begin."""

import signal

import hypothesis
import pytest

# How long an example takes says what else the box does; speeds are bench/'s affair.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the golden trees anew")


def pytest_configure() -> None:
    """Ctrl-C is heard, whoever started the tests: a shell has what it sends to the background ignore it (bash(1))."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
