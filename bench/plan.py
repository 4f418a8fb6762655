"""`mastio plan` against `ansible-playbook --check`, on the same resources and machines, in turn.

The playbook is generated from the very states that mastio compares: every file with owner and mode,
every directory, link, unit, user, and the packages. Ansible gets its fastest ordinary settings
(pipelining, one fork per machine, no fact gathering, ControlPersist). Packages are asked of
dpkg-query, which is faster than its apt module. Both must find nothing to change, or the figures
mean nothing and the benchmark fails.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from mastio.cli.common import App
from mastio.state import HostState

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE_CFG = """\
[defaults]
forks = {forks}
gathering = explicit
host_key_checking = True
interpreter_python = /usr/bin/python3
retry_files_enabled = False
display_ok_hosts = False
[ssh_connection]
pipelining = True
ssh_args = -F {ssh_config} -o ControlMaster=auto -o ControlPersist=60s
"""


def tasks(state: HostState) -> list[dict[str, Any]]:
    """The state of one machine as Ansible tasks."""
    found: list[dict[str, Any]] = [
        {
            "name": "packages",
            "ansible.builtin.command": {"argv": ["dpkg-query", "-W", *state.packages]},
            "changed_when": False,
            "check_mode": False,
        }
    ]
    for directory in state.directories:
        module = {"path": directory.path, "state": "directory", "owner": directory.owner}
        module |= {"group": directory.group, "mode": f"{directory.mode:04o}"}
        found.append({"name": directory.path, "ansible.builtin.file": module})
    for file in state.files:
        module = {"dest": file.path, "content": "{% raw %}" + file.content + "{% endraw %}"}
        module |= {"owner": file.owner, "group": file.group, "mode": f"{file.mode:04o}"}
        task = {"name": file.path, "ansible.builtin.copy": module, "no_log": file.secret}
        found.append(task)
    for link in state.links:
        module = {"path": link.path, "src": link.target, "state": "link", "force": True}
        found.append({"name": link.path, "ansible.builtin.file": module})
    for user in state.users:
        module = {"name": user.name, "shell": user.shell, "create_home": False}
        if user.groups:
            module |= {"append": True, "groups": list(user.groups)}
        found.append({"name": user.name, "ansible.builtin.user": module})
    for unit in state.units:
        module = {"name": unit.name, "masked": unit.masked}
        if not unit.masked:
            module |= {"enabled": True}
            if not unit.oneshot:
                module |= {"state": "started"}
        found.append({"name": unit.name, "ansible.builtin.systemd_service": module})
    return found


def playbook(states: dict[str, HostState]) -> list[dict[str, Any]]:
    """One play per machine; `strategy: free` lets machines run at their own pace."""
    return [
        {"hosts": "all", "strategy": "free", "tasks": [
            {"ansible.builtin.include_tasks": "{{ inventory_hostname }}.json"}
        ]}
    ]  # fmt: skip


def timed(argv: list[str], env: dict[str, str]) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Wall time in seconds of one run, and the run."""
    start = time.monotonic()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=ROOT)
    return time.monotonic() - start, done


@click.command()
@click.option("--runs", default=3, show_default=True, help="Runs of each, in turn.")
@click.option("--site", default="", help="The site's folder.")
def main(runs: int, site: str) -> None:
    """Print both medians and the ratio."""
    from mastio.lab import ssh

    app = App(site)
    config = ssh.config_path(app.site().name)
    states = {name: state for name, state in app.states().items() if name != "outside"}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "site.json").write_text(json.dumps(playbook(states)))
        for name, state in states.items():
            (work / f"{name}.json").write_text(json.dumps(tasks(state)))
        (work / "ansible.cfg").write_text(ANSIBLE_CFG.format(forks=len(states), ssh_config=config))
        (work / "hosts").write_text("".join(f"{name} ansible_user=root\n" for name in states))
        ansible_env = {**os.environ, "ANSIBLE_CONFIG": str(work / "ansible.cfg")}
        venv_bin = Path(sys.executable).parent
        ansible = [
            str(venv_bin / "ansible-playbook"),
            "--check",
            "-i",
            str(work / "hosts"),
            str(work / "site.json"),
        ]
        mastio = [sys.executable, "-m", "mastio", "--site", str(app.folder), "plan", *states]
        over_ssh = {**os.environ, "MASTIO_OVER_SSH": "1"}
        times: dict[str, list[float]] = {"mastio": [], "ansible": []}
        for turn in range(runs + 1):  # the first is a warm-up
            seconds, done = timed(mastio, over_ssh)
            if done.returncode != 0:
                raise SystemExit(
                    f"mastio plan is not empty ({done.returncode}):\n{done.stdout}{done.stderr}"
                )
            ansible_seconds, done = timed(ansible, ansible_env)
            if done.returncode != 0 or re.search(r"changed=[1-9]", done.stdout):
                raise SystemExit(
                    f"ansible is not content ({done.returncode}):\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
                )
            note = "" if turn else " (warm-up)"
            click.echo(f"mastio {seconds:.2f} s, ansible {ansible_seconds:.2f} s{note}", err=True)
            if turn:
                times["mastio"].append(seconds)
                times["ansible"].append(ansible_seconds)
    resources = sum(
        len(s.files) + len(s.directories) + len(s.links) + len(s.units) for s in states.values()
    )
    ours, theirs = (statistics.median(times[name]) for name in ("mastio", "ansible"))
    click.echo(f"{resources} resources on {len(states)} machines, over ssh, median of {runs}:")
    click.echo(
        f"  mastio plan              {ours:7.2f} s   {min(times['mastio']):.2f}–{max(times['mastio']):.2f}"
    )
    click.echo(
        f"  ansible-playbook --check {theirs:7.2f} s   {min(times['ansible']):.2f}–{max(times['ansible']):.2f}"
    )
    click.echo(f"  ratio                    {theirs / ours:7.1f} ×")


if __name__ == "__main__":
    main()
