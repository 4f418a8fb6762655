"""The gateway: the site's only door for mail. Receives, cleans, hands to the store, and sends.

A message from the internet passes Postfix's postscreen (robots), the SMTP dialogue (unknown recipient,
relay attempt, smuggling: 5xx at once), Rspamd with ClamAV by milter (spam, malware, authenticity), and
goes by SMTP over mutual TLS to the store. A message from the store comes in on the relay port, which
wants the store's certificate, is scanned as well (a user's From: must be the user's own), signed (DKIM)
and sent with DANE where there is any.

| when … is away | then |
|---|---|
| the store | mail waits in the queue (retried each minute, 5 days) |
| Rspamd, ClamAV, Valkey | the sender is asked to try again (451): nothing passes unseen; one that hangs is restarted |
| what knows the receivers' TLS policies | mail to the internet waits in the queue |

`gateway-in` and `gateway-out` may be one machine or two; each part is built only where its role is. Apart,
`gateway-in` hands its bounces and delay notices to `gateway-out` on the relay port.
The templates stand beside this file, in a folder per program; each says why, with its man page.

| module | programs |
|---|---|
| `postfix` | Postfix |
| `onward` | mail that waited for the store goes on when that is back |
| `holding` | what waits for an administrator before it leaves |
| `scanners` | Rspamd, ClamAV, Valkey |
| `pulse` | what hangs is restarted |
| `learning` | Bayes, and the door by which users' verdicts come in |
| `signing` | DKIM, in Rspamd |
| `policies` | DANE and MTA-STS of receivers |

Names come from the machine's own validating resolver (`roles/resolver`).
"""

from mastio.context import Context
from mastio.roles.gateway import (
    holding,
    learning,
    onward,
    policies,
    postfix,
    pulse,
    scanners,
    signing,
)
from mastio.roles.gateway.files import VALKEY, together
from mastio.site.model import Role
from mastio.state import HostState, Kept

KEPT = Kept(
    dumps=(
        ("valkey.rdb", ("valkey-cli", "-s", VALKEY, "--rdb", "{}")),
        ("queue.json", ("postqueue", "-j")),
    )
)
"""What the filter has learned and whom it knows (Bayes, greylist); what is on its way, for people: `mastio rebuild`
says whose mail was on hold."""


def build(ctx: Context) -> HostState:
    """The gateway's part of a machine that carries gateway-in, gateway-out or both."""
    parts = [scanners, pulse, signing, policies, postfix, onward]
    if ctx.machine.has(Role.GATEWAY_IN):
        parts.append(learning)
    if ctx.machine.has(Role.GATEWAY_OUT):
        parts.append(holding)
    return together(*(part.build(ctx) for part in parts))
