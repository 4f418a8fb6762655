"""What goes wrong, in words for a person, and the exit code that goes with it.

Every error that a user may meet is a `MastioError`: what is wrong and where (`message`), and what to
do next (`hint`). Only `mastio.cli` prints them and exits.
"""

from enum import IntEnum

from mastio.foreign import printable


class Exit(IntEnum):
    """Exit codes; those from 64 up are BSD's sysexits(3)."""

    OK = 0
    FAILED = 1
    CHANGES = 2
    """`plan` found something to do, or `dns --check` something that differs."""
    USAGE = 64
    """The command line is wrong."""
    DATA = 65
    """The site file, an address, a CSV … is wrong; nothing was changed."""
    UNAVAILABLE = 69
    """A machine cannot be reached or a service is away."""
    CANT_CREATE = 73
    """The box lacks something: disk, a program, a free port."""
    LOCKED = 75
    """Another mastio is at work on the same site or lab, or has changed the vault meanwhile."""
    NOPERM = 77
    """Needs root."""
    INTERRUPTED = 130


class MastioError(Exception):
    """An error for a person: `message` says what and where, `hint` what to do next.

    In both may be a machine's own words, or a stranger's: they are printable, a line break apart.
    """

    def __init__(self, message: str, *, hint: str = "", code: Exit = Exit.FAILED) -> None:
        self.message = printable(message, keep="\n")
        self.hint = printable(hint, keep="\n")
        super().__init__(self.message)
        self.code = code
