"""Restoring: what an archive has and a mailbox lacks, how it gets there, and whether drills show that it would.

    watch: what is in the archive ┐
    store: what is there now      ┴─▶ plan ─▶ watch brings it ─▶ the program `put`, on the store, puts it in place

`plan` decides, `compare` judges a drill; both are pure. `put.py` is sent to the store with the administrator's own
power: watch may bring, and no more.
"""
