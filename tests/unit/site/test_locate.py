"""The line of every key, however TOML lets one write it."""

import pytest

from mastio.site.locate import Path, locate

TEXT = '''\
# a comment = [
plain = "a # no comment"
"quoted key" = 'it''s' # '
list = [ # one
  1, [2,
  3], { x = 4,
y = 5 },
]
multi = """
[not.a.table]
\\""" still = inside
"""
raw = \'\'\'
a = "\'\'\'
when = 1979-05-27 07:32:00 # a date
[zones]
mail.networks = ["10.0.0.0/8"]
[zones . "core"]
networks = [
  "a",
  # between
  "b" ]
inline = { a = { b = 1 }, c.d = [2] }
[[many]]
x = 1
[[many]]
x = 2
[many.below]
y = 3
'''.replace("it''s", "its")

PLACES: tuple[tuple[Path, int], ...] = (
    (("plain",), 2),
    (("quoted key",), 3),
    (("list",), 4),
    (("list", 0), 5),
    (("list", 1), 5),
    (("list", 1, 1), 6),
    (("list", 2, "x"), 6),
    (("list", 2, "y"), 7),
    (("multi",), 9),
    (("raw",), 13),
    (("when",), 15),
    (("zones",), 16),
    (("zones", "mail"), 17),
    (("zones", "mail", "networks"), 17),
    (("zones", "mail", "networks", 0), 17),
    (("zones", "core"), 18),
    (("zones", "core", "networks", 0), 20),
    (("zones", "core", "networks", 1), 22),
    (("zones", "core", "inline", "a", "b"), 23),
    (("zones", "core", "inline", "c", "d", 0), 23),
    (("many", 0, "x"), 25),
    (("many", 1, "x"), 27),
    (("many", 1, "below", "y"), 29),
)


@pytest.mark.parametrize(("path", "line"), PLACES)
def test_line(path: Path, line: int) -> None:
    assert locate(TEXT)[path] == line


def test_nothing_is_invented() -> None:
    assert not [path for path in locate(TEXT) if "not" in path or "still" in path]


def test_crlf() -> None:
    assert locate("a = 1\r\n[b]\r\nc = 2\r\n")[("b", "c")] == 3
