"""Bringing mail over: mailboxes of another IMAP server, Maildirs and mbox files of this box, into the store.

    remote (IMAP) ──▶ a folder on this box ┐
    local (Maildir, mbox) ─────────────────┴─▶ messages ─▶ compare with the store ─▶ `put`, on the store, has
                                                           Dovecot take in what is missing ─▶ compare again

The other server is spoken with by the box on which mastio runs: the store has no way out, and gets none. `message`,
`folders`, `mbox`, `listing` and `compare` are pure; `put.py` is sent to the store.
"""
