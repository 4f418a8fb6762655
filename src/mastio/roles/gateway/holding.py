"""Mail on its way out that waits for an administrator: see hold.py, and `[filter.leaving]` of the site file.

Rspamd ──X-Mastio-Held──▶ Postfix's hold queue ──release──▶ the internet, and colleagues
                                   └── mastio-held tell, each minute ──▶ its sender, the administrator
"""

import json
from pathlib import Path

from mastio import heldmail
from mastio.context import Context
from mastio.roles.gateway.files import RECIPIENTS, etc
from mastio.roles.gateway.hold import FOLDER, READER, SETTINGS
from mastio.state import Directory, File, HostState, Unit, User

PROGRAM = "/usr/local/lib/mastio/mastio-held"
_UNITS = "/etc/systemd/system"


def build(ctx: Context) -> HostState:
    """The program and its timer."""
    values = {"program": PROGRAM, "folder": FOLDER}
    settings = {
        "domains": f"{RECIPIENTS}/domains",
        "days": ctx.site.policy.quarantine_days,
        "organisation": ctx.site.organisation,
        "admin": ctx.site.admin_mail,
        "sender": f"postmaster@{ctx.site.domains[0]}",
    }
    return HostState(
        packages=("python3",),
        files=(
            File(PROGRAM, Path(__file__).with_name("hold.py").read_text(), mode=0o755),
            File(heldmail.FILE, Path(heldmail.__file__).read_text()),
            File(str(SETTINGS), json.dumps(settings, indent=2) + "\n"),
            *(
                etc(ctx, f"systemd/system/mastio-held.{it}", values, template=f"holding/held.{it}")
                for it in ("service", "timer")
            ),
        ),
        directories=(Directory(str(FOLDER), mode=0o700),),
        users=(User(READER),),
        units=(Unit("mastio-held.timer", (f"{_UNITS}/mastio-held.timer",)),),
    )
