"""The agent: the part of mastio that runs on a machine, as root, and leaves nothing running there.

It needs Python ≥ 3.11 and nothing but its standard library. `bundle.source()` packs the modules of
this package into one program that `Transport.run_python` sends along; `main` reads a request (JSON)
and answers in JSON, one round trip each:

    observe   what is there now: files, packages, users, units, the firewall
    apply     carries out an `Order`, step by step (`apply.STEPS`), reporting each as a line
    confirm   over a *new* connection: keeps the firewall that `apply` loaded

The agent decides nothing: `mastio.plan` compares and orders, the agent looks and does. `wire` holds
the shapes of what the two say to each other.

What it keeps, in /var/lib/mastio/apply (root only):

    record.json    what mastio put here: paths, and what each unit and command last started with
    journal.json   exists while an apply is unfinished: what was here before, to go back to
    rollback/      the former contents that the journal speaks of

Killed at any step, the next run converges, because of three orders of writing:

1. Before the first file is switched, the journal is on disk, and the record has *forgotten* the
   units and commands that the change concerns and already lists the new paths. So whatever has not
   run to its end shows up in the next plan as "to restart", "to run" or "to remove".
2. Only after everything is healthy does the record learn the new state, and the journal goes.
3. A journal that a killed apply left behind is inherited: its entry for a path stands, and only
   paths it does not know are added. A roll-back thus always returns to the last state that was
   found healthy, however many applies died since.

Packages and users are added before the journal begins and are not rolled back: they change nothing
that runs, since policy-rc.d keeps packages from starting anything.
"""
