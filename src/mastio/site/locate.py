"""Where each key of a TOML text stands: tomllib reads values and forgets their lines.

`locate(text)` walks over a text that tomllib has accepted, so it need not judge, only count. Paths are
keys and array indices, in the order in which one would write them in Python.

>>> locate('a = 1\\n[b]\\nc.d = [2,\\n 3]')[("b", "c", "d", 1)]
4
"""

import re
import tomllib

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")  # a date and its time may stand apart


def locate(text: str) -> dict[Path, int]:
    """The line (from 1) on which each key, table and array element of `text` starts.

    A table is where it is first named; `text` must be valid TOML 1.0.
    """
    return _Walk(text).run()


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}
        """How many tables an array of tables has so far."""

    def run(self) -> dict[Path, int]:
        table: Path = ()
        while self.blank() < len(self.text):
            if self.peek() == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.found

    def blank(self) -> int:
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, *patterns: re.Pattern[str]) -> str:
        for pattern in patterns:
            if match := pattern.match(self.text, self.at):
                self.at = match.end()
                return match[0]
        raise ValueError(f"not TOML at offset {self.at}")

    def mark(self, path: Path) -> None:
        self.found.setdefault(path, self.text.count("\n", 0, self.at) + 1)

    def key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self.blank()
            word = self.take(_STRING, _BARE)
            parts.append(tomllib.loads(f"x = {word}")["x"] if word[0] in "\"'" else word)
            self.blank()
            if self.peek() != ".":
                return tuple(parts)
            self.at += 1

    def header(self) -> Path:
        start = self.at
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        names = self.key()
        self.at += 2 if array else 1
        end, self.at = self.at, start
        path: Path = ()
        for number, name in enumerate(names):
            path = (*path, name)
            self.mark(path)
            if array and number == len(names) - 1:
                self.counts[path] = self.counts.get(path, 0) + 1
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
                self.mark(path)
        self.at = end
        return path

    def pair(self, table: Path) -> None:
        start = self.at
        names = self.key()
        after, self.at = self.at + 1, start
        for length in range(1, len(names) + 1):
            self.mark((*table, *names[:length]))
        self.at = after
        self.value((*table, *names))

    def value(self, path: Path) -> None:
        self.blank()
        self.mark(path)
        match self.peek():
            case "[":
                self.at += 1
                number = 0
                while self.comma() != "]":
                    self.value((*path, number))
                    number += 1
                self.at += 1
            case "{":
                self.at += 1
                while self.comma() != "}":
                    self.pair(path)
                self.at += 1
            case '"' | "'":
                self.take(_STRING)
            case _:
                self.take(_SCALAR)

    def comma(self) -> str:
        self.blank()
        if self.peek() == ",":
            self.at += 1
            self.blank()
        return self.peek()
