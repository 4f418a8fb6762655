"""Debian packages and system users: what an apply adds before anything is switched.

Packages are installed without their recommendations and without starting anything: for the while,
policy-rc.d(8) answers 101 ("action forbidden"), so that no daemon ever runs with a default
configuration. `apt-get update` runs only when an install fails without it.
"""

import os
from contextlib import suppress

from mastio.agent.machine import Failure, must, run
from mastio.agent.wire import Account

POLICY = "/usr/sbin/policy-rc.d"
POLICY_TEXT = (
    "#!/bin/sh\n# mastio installs packages: nothing starts before it is configured.\nexit 101\n"
)
APT = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
INSTALL = [*APT, "-o", "Dpkg::Options::=--force-confold", "--no-install-recommends", "install"]


def install(names: list[str], debconf: list[str]) -> None:
    """Installs `names`, their questions answered by `debconf` before they are asked."""
    if debconf:
        must("debconf", ["debconf-set-selections"], "\n".join(debconf) + "\n")
    _forget_policy()
    own = not os.path.exists(POLICY)
    if own:
        with open(POLICY, "w", encoding="ascii") as file:
            file.write(POLICY_TEXT)
        os.chmod(POLICY, 0o755)
    try:
        # What a killed run left half-way must be finished before anything new (dpkg(1)).
        must("dpkg", ["dpkg", "--force-confold", "--configure", "-a"])
        code, words = run([*INSTALL, "--", *names], timeout=1800)
        if code:
            run([*APT, "update"], timeout=300)
            code, words = run([*INSTALL, "--", *names], timeout=1800)
        if code:
            errors = [line for line in words.splitlines() if line.startswith(("E:", "dpkg:"))]
            raise Failure("packages: " + ("\n".join(errors) or words[-1000:]))
    finally:
        if own:
            os.unlink(POLICY)


def _forget_policy() -> None:
    """Removes the policy that a killed run of ours left."""
    with suppress(FileNotFoundError), open(POLICY, encoding="utf-8", errors="replace") as file:
        if file.read() == POLICY_TEXT:
            os.unlink(POLICY)


def add_users(accounts: list[Account]) -> None:
    """Makes missing users (with groups of their names), then adds users to groups."""
    for account in accounts:
        name = account["name"]
        # A package that was installed a moment ago may have brought the user.
        if account["create"] and run(["getent", "passwd", name])[0]:
            alone = run(["getent", "group", name])[0] != 0
            must(
                f"user {name}",
                ["useradd", "--system", "--no-create-home", "--home-dir", account["home"],
                 "--shell", account["shell"],
                 *(["--user-group"] if alone else ["--gid", name]), "--", name],
            )  # fmt: skip
    for account in accounts:
        if account["groups"]:
            groups = ",".join(account["groups"])
            must(
                f"user {account['name']}",
                ["usermod", "--append", "--groups", groups, "--", account["name"]],
            )
