"""What the programs that hold mail back have in common."""

from pathlib import Path
from types import ModuleType

import pytest

from mastio import heldmail
from mastio.roles.gateway import hold
from mastio.roles.store import outbound, quarantine


@pytest.mark.parametrize("program", [hold, quarantine, outbound])
def test_programs_look_where_it_lies(program: ModuleType) -> None:
    """They cannot import the place from what lies there."""
    assert f'\nsys.path.append("{heldmail.PLACE}")' in Path(str(program.__file__)).read_text()


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("ann@a.test", "ann@a.test"),
        ("Ann+shop+x@A.test", "ann@a.test"),
        ("+x@a.test", "@a.test"),
        ("ann", "ann"),
    ],
)
def test_a_tag_is_nobodys(address: str, whose: str) -> None:
    assert heldmail.mailbox(address) == whose
