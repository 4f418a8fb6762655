"""Site files of an older schema: understood as they are, and rewritten when asked (`mastio migrate`).

    STEPS[1] = rename_this_and_that      # schema 1 → 2, with SCHEMA = 2 in `keys`

A step takes the file's text and gives the text of the next schema. It edits lines, so comments and order stay as they
were written; the number behind `schema =` is set here. There is one schema so far, and no step.
"""

import re
import tomllib
from collections.abc import Callable, Mapping

from mastio.site.keys import SCHEMA
from mastio.site.locate import locate
from mastio.site.problems import Problem, SiteFileError

Step = Callable[[str], str]

STEPS: dict[int, Step] = {}
"""From each schema to the next."""

_NUMBER = re.compile(r"(?P<before>\s*[\"']?schema[\"']?\s*=\s*)[0-9_]+")


def schema(text: str) -> int | None:
    """The schema that the text says; None when it says none, or is not TOML."""
    try:
        found = tomllib.loads(text).get("schema")
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def current(text: str, file: str, steps: Mapping[int, Step] = STEPS, newest: int = SCHEMA) -> str:
    """The text in the newest schema; as it is when there is no way there: reading then says what is wrong.

    SiteFileError when it is of a schema that is not known yet.
    """
    number = schema(text)
    if number is None:
        return text
    if number > newest:
        what = f"this file is of schema {number}, newer than this version of mastio, which knows {newest}"
        hint = "use the version that wrote it, or a newer one (`mastio --version`)"
        raise SiteFileError([Problem(file, locate(text)["schema",], "schema", what, hint)])
    if not all(it in steps for it in range(number, newest)):
        return text
    for at in range(number, newest):
        text = _numbered(steps[at](text), at + 1)
    return text


def _numbered(text: str, number: int) -> str:
    lines = text.splitlines(keepends=True)
    at = locate(text)["schema",] - 1
    lines[at] = _NUMBER.sub(rf"\g<before>{number}", lines[at], count=1)
    return "".join(lines)
