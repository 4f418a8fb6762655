"""The keys of a site file: what there is, of which type, and what it means.

`KEYS` is the one table; the reader refuses what is not in it, and docs/reference/site-file.md is made
from it. `*` stands for a name of the writer's choice.
"""

from typing import cast

from mastio.site.alarms import CALLS
from mastio.site.cleaning import CLEANING
from mastio.site.clients import CLIENTS
from mastio.site.key import Key, Kind, names
from mastio.site.model import (
    Acme,
    Alarms,
    Backup,
    Challenge,
    Dmarc,
    Dns,
    Drill,
    Intrusion,
    MtaSts,
    Patches,
    Policy,
    Reach,
    Role,
    Site,
    Topology,
)
from mastio.site.server import MESH, SERVER

SCHEMA = 1
"""The version of the file's format."""


def _policy(name: str, meaning: str, least: float, most: float) -> Key:
    default = Policy.__dataclass_fields__[name].default
    kind = Kind.WHOLE if isinstance(default, int) else Kind.NUMBER
    return Key(f"policy.{name}", kind, meaning, f"{default:g}", least, most)


def _backup(name: str, meaning: str, least: float, most: float) -> Key:
    default = Backup.__dataclass_fields__[name].default
    return Key(f"backup.{name}", Kind.WHOLE, meaning, f"{default:g}", least, most)


_MIRRORS = cast(tuple[str, ...], Site.__dataclass_fields__["mirrors"].default)

KEYS: tuple[Key, ...] = (
    Key("schema", Kind.WHOLE, "The version of this file's format.", least=SCHEMA, most=SCHEMA),
    Key(
        "name", Kind.TEXT, "A short label for the site; machines are called `store.NAME.internal`."
    ),
    Key("organisation", Kind.TEXT, "The organisation, as users read it."),
    Key(
        "domains",
        Kind.TEXTS,
        "Mail domains, the main one first. Internationalised names may be written as such.",
    ),
    Key(
        "admin",
        Kind.TEXT,
        "A mailbox (anywhere) for alarms and for the mail to postmaster, abuse and hostmaster.",
    ),
    Key(
        "public",
        Kind.TEXTS,
        "The site's addresses on the internet. With only IPv4 here, the site has no IPv6 anywhere. "
        "Behind a firewall one of each family will do; without one, each machine needs its own.",
    ),
    Key(
        "topology",
        Kind.TEXT,
        f"How roles are spread over machines: {names(Topology)}.",
        "`separated`",
    ),
    Key("reach", Kind.TEXT, f"How mastio gets to the machines: {names(Reach)}.", "`ssh`"),
    Key("mx", Kind.TEXT, "The name in the MX records.", "`mx.` and the first domain"),
    Key(
        "webmail",
        Kind.TEXT,
        "The webmail's name in the browser.",
        "`mail.` and the first domain",
    ),
    Key(
        "admins.networks",
        Kind.TEXTS,
        "From where administrators reach the watch machine by ssh.",
        "none in the lab; required elsewhere",
    ),
    Key(
        "admins.keys",
        Kind.TEXTS,
        "Administrators' OpenSSH public keys, one line each.",
        "none in the lab; required elsewhere",
    ),
    Key(
        "ssh.config",
        Kind.TEXT,
        "An ssh_config(5) file, relative to the site file.",
        "your own `~/.ssh/config`",
    ),
    Key(
        "zones.*.networks",
        Kind.TEXTS,
        "The zone's network, one for each address family that `public` has.",
        "`10.77.N.0/24`, and the /64 number N of a unique local prefix made from the site's name; "
        "for machines on the internet, what holds their addresses",
    ),
    Key(
        "machines.*.roles",
        Kind.TEXTS,
        f"What the machine does: {names(Role)}. As soon as one machine says its roles, all must, and "
        "the machines are just those of this file.",
        "the topology's",
    ),
    Key("machines.*.zone", Kind.TEXT, "The zone where the machine stands.", "by its first role"),
    Key(
        "machines.*.addresses",
        Kind.TEXTS,
        "The machine's addresses in its zone, at most one of each family.",
        "the zone's next free host from number 10 on; on the internet, the next of `public`",
    ),
    Key(
        "machines.*.ssh",
        Kind.TEXT,
        "The name under which ssh reaches the machine (a `Host` of ssh_config).",
        "its first address",
    ),
    *SERVER,
    *MESH,
    _policy("message_size", "The largest message, in MiB.", 1, 1024),
    _policy("quota", "A mailbox's quota unless its account has another, in MiB.", 1, 16_777_216),
    _policy(
        "greylist_score", "From this Rspamd score on, mail must come a second time.", 0.1, 1000
    ),
    _policy(
        "greylist_delay",
        "How long such mail must wait before it is tried again, in seconds.",
        1,
        86_400,
    ),
    _policy("spam_junk_score", "From this Rspamd score on, mail is filed in Junk.", 0.1, 1000),
    _policy("spam_reject_score", "From this Rspamd score on, mail is refused.", 0.1, 1000),
    _policy("log_days", "How long the machines' logs are kept, in days.", 1, 3650),
    _policy(
        "quarantine_days",
        "How long mail in quarantine, or held on its way out, is kept, in days.",
        1,
        3650,
    ),
    _policy("dkim_days", "How long a DKIM key signs, in days; see `mastio dkim rotate`.", 1, 3650),
    Key(
        "dns.dmarc",
        Kind.TEXT,
        f"What receivers do with mail that only pretends to be yours: {names(Dmarc)}.",
        f"`{Dns().dmarc}`",
    ),
    Key(
        "dns.mta_sts",
        Kind.TEXT,
        f"What senders do when TLS with the gateway cannot be verified: {names(MtaSts)}.",
        f"`{Dns().mta_sts}`",
    ),
    Key(
        "dns.caa",
        Kind.TEXTS,
        "Authorities that may issue certificates for your names; empty: no CAA records.",
        ", ".join(f"`{it}`" for it in Dns().caa),
    ),
    Key("dns.parked", Kind.TEXTS, "Domains of yours that neither send nor take mail.", "none"),
    Key(
        "acme.directory",
        Kind.TEXT,
        "The ACME directory of a certificate authority, an https URL such as "
        "`https://acme-v02.api.letsencrypt.org/directory`. Watch then gets the public certificates there and renews "
        "them; writing it says that you agree to the authority's terms. `dns.caa` must name the authority.",
        "none: the site's own interim authority signs them, which strangers do not believe",
    ),
    Key(
        "acme.challenge",
        Kind.TEXT,
        f"How the names are proven: {names(Challenge)}. `http` is answered by the webmail, so all names must lead "
        "there: behind a firewall machine, or with all roles on one; `dns` by records that watch puts into the zones.",
        f"`{Acme().challenge}`",
    ),
    Key(
        "acme.dns_server",
        Kind.TEXT,
        "The name server that takes these records by signed updates (RFC 2136): a name or an address.",
        "required with `dns`",
    ),
    Key(
        "acme.dns_key",
        Kind.TEXT,
        "What the name server calls the key that signs the updates; `mastio certificates tsig` shows it.",
        f"`{Acme().dns_key}`",
    ),
    Key(
        "acme.authority",
        Kind.TEXT,
        "Certificates (PEM) of an authority that is in nobody's list, such as your organisation's own.",
        "none",
    ),
    Key(
        "acme.alarm_days",
        Kind.WHOLE,
        "With fewer days left to a certificate there is an alarm; renewal begins when two thirds of its life are over.",
        f"{Acme().alarm_days}",
        1,
        60,
    ),
    *CLIENTS,
    *CLEANING,
    Key(
        "proxy.mirrors",
        Kind.TEXTS,
        "Hosts from which machines may fetch packages and signatures, through watch.",
        ", ".join(f"`{host}`" for host in _MIRRORS),
    ),
    Key(
        "alarms.mail",
        Kind.TEXTS,
        "Who gets alarms and the daily digest beside `admin`: addresses of the site, since they go straight into the "
        "store; an alias may lead elsewhere.",
        "none",
    ),
    Key(
        "alarms.outside",
        Kind.TEXTS,
        "Who gets each alarm as well when the store is what is broken: addresses elsewhere. Watch hands these to the "
        "sending gateway, which lets it write to them alone. One machine that is both has `alarms.webhook` only.",
        "none",
    ),
    *CALLS,
    Key(
        "alarms.quiet",
        Kind.TEXT,
        "Hours in which only what is critical is told, by watch's clock, such as `22:00-06:30`.",
        "none",
    ),
    Key(
        "alarms.escalate_to",
        Kind.TEXTS,
        "Who is told when nobody answers an alarm (`mastio alarms ack`): addresses of the site.",
        "those who were told first, once more",
    ),
    Key(
        "alarms.escalate_hours",
        Kind.NUMBER,
        "How long somebody has to answer, in hours.",
        f"{Alarms().escalate_hours:g}",
        0.1,
        720,
    ),
    Key(
        "alarms.disk_percent",
        Kind.WHOLE,
        "How full a machine's disk may be, in percent, before somebody is told; sooner when it would be full in days.",
        str(Alarms().disk_percent),
        10,
        95,
    ),
    Key(
        "patches.at",
        Kind.TEXT,
        "When security updates are installed each day, machine after machine: a time of day on watch's clock.",
        f"`{Patches().at}`",
    ),
    Key(
        "patches.reboot",
        Kind.FLAG,
        "Whether a machine is rebooted then when an update waits for that.",
        f"`{Patches().reboot}`".lower(),
    ),
    _backup(
        "every_minutes", "How many minutes pass from one archive of the store to the next.", 5, 60
    ),
    _backup("keep_hours", "For so many hours every archive is kept.", 1, 8760),
    _backup("keep_days", "So many days keep one archive each.", 0, 3650),
    _backup("keep_weeks", "So many weeks keep one archive each.", 0, 520),
    _backup("keep_months", "So many months keep one archive each.", 0, 1200),
    Key(
        "backup.copy",
        Kind.TEXT,
        "Where the newest archives are copied each night: a folder on watch that stands on another machine's disk "
        "(mounted there by you), or `ssh://USER@HOST/PATH` of a host with borg, beyond the site.",
        "none",
    ),
    Key(
        "backup.copy_host_key",
        Kind.TEXT,
        "That host's public ssh key, from its administrator, by which watch knows it: `ssh-ed25519 AAAA…`.",
        "none",
    ),
    *(
        Key(f"drill.{name}", Kind.WHOLE, meaning, str(getattr(Drill(), name)), *span)
        for name, meaning, span in (
            ("days", "How many days pass from one restore drill to the next.", (1, 365)),
            ("overdue", "Days without a good drill after which there is an alarm.", (1, 400)),
            (
                "mailboxes",
                "How many mailboxes a drill restores and reads, chosen by chance; 0: all.",
                (0, 100_000),
            ),
            (
                "oldest_hours",
                "The age from which a drill calls the newest archive too old.",
                (1, 8760),
            ),
        )
    ),
    Key(
        "ids.enabled",
        Kind.FLAG,
        "Whether the firewall has intrusion detection (Suricata), which takes about 160 MB of its memory and some of "
        "its processor.",
        f"`{Intrusion().enabled}`".lower(),
    ),
    Key(
        "ids.rules",
        Kind.TEXT,
        "An https URL of an archive with further rules for it, fetched each day through watch; empty: none.",
        f"`{Intrusion().rules}`",
    ),
    Key(
        "ids.groups",
        Kind.TEXTS,
        "Which of these rules, by the names of their files.",
        ", ".join(f"`{it}`" for it in Intrusion().groups),
    ),
    Key(
        "verify.outside",
        Kind.TEXT,
        "The ssh name of a machine on the internet (any cheap one) from which `mastio verify` looks at the "
        "site as strangers do; it needs root there.",
        "none: what only an outsider can see is *not run*",
    ),
    Key(
        "verify.accepted.*.reason",
        Kind.TEXT,
        "Why a failing check (`*` is its identifier, such as `D6`) is accepted for now.",
        "required with `until`",
    ),
    Key(
        "verify.accepted.*.until",
        Kind.TEXT,
        "Until when, as `2027-01-31`; after that day it fails again.",
        "required with `reason`",
    ),
    Key(
        "verify.accepted.*.only",
        Kind.TEXTS,
        "Words of the findings that are accepted, such as `KRNL-5820` of lynis; what else the check finds still fails.",
        "all that it finds",
    ),
)


def below(path: tuple[str, ...]) -> dict[str, Key | None]:
    """What may stand directly in the table at `path`: keys, and tables as None.

    `*` is there when any name may be.
    """
    found: dict[str, Key | None] = {}
    for key in KEYS:
        if len(key.path) > len(path) and all(
            part in ("*", given) for part, given in zip(key.path, path, strict=False)
        ):
            rest = key.path[len(path) :]
            found[rest[0]] = key if len(rest) == 1 else None
    return found


def reference() -> str:
    """docs/reference/site-file.md."""
    lines = [
        "# The site file",
        "",
        "`site.toml` describes a site; `mastio init` writes one, `mastio check` reads it and tells all that is",
        "wrong at once. It is [TOML 1.0](https://toml.io/en/v1.0.0). `*` stands for a name that you choose.",
        "This page is made from `src/mastio/site/keys.py`.",
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for key in KEYS:
        span = f" From {key.least:g} to {key.most:g}." if key.most > key.least else ""
        default = key.default or "**required**"
        lines.append(f"| `{key.name}` | {key.kind} | {default} | {key.meaning}{span} |")
    lines += [
        "",
        "`greylist_score` < `spam_junk_score` < `spam_reject_score`. Each site has just one machine with the role",
        "`store`, one `webmail`, one `watch`, at most one `firewall` (which does nothing else), and one or more with",
        "`gateway-in` and `gateway-out`. Machines in several zones need a firewall, or public addresses.",
        "",
    ]
    return "\n".join(lines)
