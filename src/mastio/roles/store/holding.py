"""The store's part of the quarantine: a Postfix transport into a folder of its own, and a daily summary.

    delivery (X-Mastio-Quarantine) ──FILTER──▶ pipe(8) as mastio-quarantine ──▶ FOLDER ──release──▶ Dovecot's LMTP

Postfix tries again while the program fails, so mail that is to be held back is never delivered instead.
"""

import json
from pathlib import Path

from mastio import heldmail
from mastio.context import Context
from mastio.instances import of_store
from mastio.state import Directory, File, HostState, Unit, User

USER = "mastio-quarantine"
"""Owns what is held back."""
FOLDER = "/var/lib/mastio/quarantine"
PROGRAM = "/usr/local/lib/mastio/quarantine"
LMTP = "quarantine-lmtp"
"""Dovecot's socket for what is released, in its base_dir."""
_UNITS = "/etc/systemd/system"


def build(ctx: Context, directory: str, readers: str) -> HostState:
    """Program, folder and timer; main.cf, master.cf and dovecot.conf lead there.

    `directory` is the accounts', which the group `readers` may read.
    """
    settings = {
        "folder": FOLDER,
        "directory": directory,
        "lmtp": f"/run/dovecot/{LMTP}",
        "days": ctx.site.policy.quarantine_days,
        "organisation": ctx.site.organisation,
        "admin": ctx.site.admin_mail,
        "sender": f"postmaster@{ctx.site.domains[0]}",
    }
    values = {"program": PROGRAM, "folder": FOLDER, "user": USER}
    return HostState(
        files=(
            File(PROGRAM, Path(__file__).with_name("quarantine.py").read_text(), mode=0o755),
            File(heldmail.FILE, Path(heldmail.__file__).read_text()),
            File("/etc/mastio/quarantine.json", json.dumps(settings, indent=2) + "\n"),
            File(
                f"{of_store(ctx.machine).config}/delivery_checks",
                ctx.render(__file__, "delivery_checks.j2"),
            ),
            *(
                File(
                    f"{_UNITS}/mastio-quarantine.{kind}",
                    ctx.render(__file__, f"quarantine.{kind}.j2", **values),
                )
                for kind in ("service", "timer")
            ),
        ),
        directories=(Directory(FOLDER, USER, USER, 0o700),),
        users=(User(USER, groups=(readers,)),),
        units=(Unit("mastio-quarantine.timer", (f"{_UNITS}/mastio-quarantine.timer",)),),
    )
