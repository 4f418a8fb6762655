"""Mailboxes, aliases and domains: data in the store's directory, not configuration.

`model` is a change as data, `passwords` makes hashes, `table` reads CSV. `client` sends changes to the
store, where `directory` applies all of them or none, and the outcome to the gateways, where
`recipients` writes it. Those two are programs that run there, with Python's standard library only.
"""
