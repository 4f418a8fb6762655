"""`mastio verify`: proof, from every machine, that the site is as it was designed.

    Check (registry) × vantage (the internet, each machine) → runner → Finding → Run → report, history

- A **check** is a frozen record: what it probes, from where, what passes, on whose authority, what to do
  when it fails, and a function of some lines that yields what is wrong (`checks/`, a file per family).
- A **probe** is what that function asks of a vantage: standard-library Python that is sent there
  (`probes/`), or a standard tool.
- A **finding** is one check at one vantage. What could not be checked is never green.
- What *should* be reachable comes from the flow matrix alone (`reach`), as the firewalls do; the lab's
  tests hold hand-written expectations against both.

A new check: a function in `checks/<family>.py`, its record in that file's `CHECKS`, a row in
tests/lab/sabotage.py that breaks what it guards. docs/reference/checks.md is made from the registry.
"""
