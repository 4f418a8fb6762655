r"""Words that others wrote: a machine's answer, a process's name, a stranger's log line.

As they come they could command a terminal, pass for a line of ours, or not be written down at all: a lone surrogate
is a letter in JSON, and nothing in UTF-8.

    printable("x\x1b[2J\n")     r"x\x1b[2J\n"
"""


def printable(words: str, *, keep: str = "") -> str:
    """`words`, but what cannot be seen or written as Python would escape it; the characters in `keep` stay."""
    if words.isprintable():
        return words
    return "".join(
        it if it.isprintable() or it in keep else it.encode("unicode_escape").decode()
        for it in words
    )
