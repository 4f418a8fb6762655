"""What is said of services: which failed, which hung, and of what."""

import re

from mastio.digest.lines import SKIP, Program, Reader

_FAILED = re.compile(rb"(\S+): Failed with result '([\w-]+)'")
_WORSE = {b"oom-kill": "out of memory", b"core-dump": "a program crashed"}
"""What a service failed of → which trouble that is. In a container nobody else says so: the kernel's lines are the
host's."""
_HUNG = re.compile(rb"(\S+) has not answered for \d+ minutes: ")
_HANGS = re.compile(rb"(\S+) does not answer, though it was restarted")


def systemd(name: str, reader: Reader) -> Program:
    """What systemd says of services: which failed, and how."""

    def handler(text: bytes, line: bytes) -> None:
        if found := _FAILED.match(text):
            trouble = _WORSE.get(found[2], "a service failed")
            reader.tally.counts[f"trouble.{trouble}"] += 1
            what = b"%b: %b (%b)" % (reader.machine.encode(), found[1], found[2])
            reader.tally.tops["trouble" if found[2] in _WORSE else "failed services"][what] += 1
        else:
            reader.odd(name, text, line)

    quiet = (b"Started ", b"Starting", b"Stopped ", b"Stopping", b"Finished", b"Reached target", b"Listening",
             b"Reloadin", b"Reloaded", b"Closed ", b"Created slice", b"Removed slice")  # fmt: skip
    return Program(dict.fromkeys(quiet, SKIP), handler)


def pulse(name: str, reader: Reader) -> Program:
    """What hung on a gateway, and was restarted: roles/gateway/revive.py."""

    def handler(text: bytes, line: bytes) -> None:
        tally = reader.tally
        for words, pattern in (("hung", _HUNG), ("hangs", _HANGS)):
            if found := pattern.match(text):
                tally.counts[f"trouble.a service {words}"] += 1
                what = b"%b: %b (%b)" % (reader.machine.encode(), found[1], words.encode())
                tally.tops["failed services"][what] += 1
                return
        if not text.endswith(b" answers again"):
            reader.odd(name, text, line)

    return Program({}, handler)
