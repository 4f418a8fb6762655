"""What happened to a message, told from log lines: lines in, story out. Pure.

| module | |
|---|---|
| hops | lines → what each machine did with the message (a *hop* is one queue id on one machine) |
| story | hops, joined by queue ids and message ids → what became of it, recipient by recipient |
| words | the story in words, and as JSON |

    for story in stories(lines): print("\\n".join(words.told(story)))
"""

from mastio.trace.story import Ending, Kind, Story, stories

__all__ = ["Ending", "Kind", "Story", "stories"]
