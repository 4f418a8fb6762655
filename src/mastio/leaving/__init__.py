"""A machine leaves the site: what speaks against it, and how it becomes nobody's.

| module | what |
|---|---|
| `look` | the program that looks what is on it: queues, mail, what stays on its disk; sent there |
| `judge` | what it saw → why the machine may not go yet; pure |
| `strip` | its queues emptied, all that mastio put there taken away |

What the others give it is taken by an apply of the site file that does not name it; what watch remembers of it,
by `mastio.watch.forget`.
"""
