"""One physical server that carries all machines of a site, with systemd-nspawn and Debian's own units for it.

    facts, objections = Server(site).look()      nothing is changed
    for line in Server(site).up(states, facts): …  the machines are there, at every boot
    found = judge.findings(site, facts)          what is not as it should be

`carry` says what must stand on the server: pure. `make.py` and `look.py` are sent there, standard library only.
"""
