"""CSV with many users, for `mastio user import`.

The first line names the columns: `address`, and of these those that are wanted, in any order:

    name           as others read it
    quota          in MiB; empty: the site's default
    password_hash  from another system, such as {SHA512-CRYPT}$6$…; empty: a password is generated
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mastio.errors import Exit, MastioError

COLUMNS = ("address", "name", "quota", "password_hash")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `problem` says what is wrong with it, if anything."""

    line: int
    address: str
    name: str = ""
    quota_mib: int = 0
    password_hash: str = ""
    problem: str = ""


def read(text: str, file: str) -> tuple[Row, ...]:
    """The rows of the table `text`; raises MastioError when its first line is not one of columns."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        unknown = [cell for cell in header if cell not in COLUMNS]
        if unknown or "address" not in header or len(set(header)) < len(header):
            what = (
                f"unknown columns: {', '.join(unknown)}"
                if unknown
                else "no column address, or one twice"
            )
            raise MastioError(
                f"{file}:1: {what}",
                hint=f"the first line names the columns: {', '.join(COLUMNS)}; address is needed",
                code=Exit.DATA,
            )
        return tuple(_rows(reader, header))
    except csv.Error as error:
        raise MastioError(
            f"{file}:{reader.line_num}: {error}", hint="is it CSV?", code=Exit.DATA
        ) from None


def _rows(reader: Any, header: list[str]) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for cells in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            problem = f"{len(cells)} cells instead of {len(header)}"
            yield Row(line, cells[0].strip(), problem=problem)
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        address, quota = row["address"], row.get("quota", "")
        problem = ""
        if not quota.isdecimal() and quota:
            problem, quota = f"the quota {quota!r} is no whole number of MiB", ""
        first = seen.setdefault(address.lower(), line)
        if first != line:
            problem = f"{address} stands in line {first} already"
        yield Row(
            line,
            address,
            row.get("name", ""),
            int(quota or 0),
            row.get("password_hash", ""),
            problem,
        )
