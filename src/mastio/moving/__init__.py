"""What a machine did goes to others: its mail, accounts and whatever else no site file brings back.

| module | what |
|---|---|
| `duties` | which role's holdings go whence and whither; pure |
| `hand` | the program that lists, gives and takes files; sent to both sides |
| `shut` | what happens on the machine that is left |
| `requeue` | a queue's files become another Postfix's |
| `client` | copies while all runs, then the short time in which nothing does: the rest, and the other side opens |

What is moved is what backups keep (`state.Kept`), and the queues. What `site.toml` and the vault know is made anew.
"""
