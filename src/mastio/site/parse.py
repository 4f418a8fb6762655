"""The site file → a frozen `Site`, or all that is wrong with it at once.

    site = parse.load(Path("demo/site.toml"))

A file of an older schema is read as if it were rewritten (`migrate`). Reading goes in steps, and each
goes on after a mistake, so that one run tells everything: `read` (syntax, keys, types), then the values
here, then `layout` (zones, machines, addresses). Every mistake
is a `Problem` with file, line, key, what is wrong and what is allowed; together they are one
`SiteFileError`. docs/reference/site-file.md describes the format.
"""

from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from mastio.errors import Exit, MastioError
from mastio.site import acme, filtering, mesh, migrate, programs, values
from mastio.site.layout import lay_out
from mastio.site.model import (
    DUTIES,
    REPORTS,
    Accepted,
    Address,
    Alarms,
    Backup,
    Bans,
    Dmarc,
    Dns,
    Drill,
    Intrusion,
    Machine,
    MtaSts,
    Network,
    Outbound,
    Patches,
    Policy,
    Reach,
    Role,
    Site,
    Topology,
)
from mastio.site.problems import Problem, SiteFileError, did_you_mean
from mastio.site.read import Raw, read

__all__ = ["Problem", "SiteFileError", "load", "parse"]

_LONGEST_NAME = 32
_T = TypeVar("_T")
_E = TypeVar("_E", Topology, Reach, Dmarc, MtaSts)


def load(path: Path) -> Site:
    """The site in the file at `path`. Raises SiteFileError, or MastioError when it cannot be read."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise MastioError(f"{path}: {error.strerror}", code=Exit.DATA) from error
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise SiteFileError([Problem(_short(path), line, "", "not UTF-8 text", "")]) from None
    return parse(text, _short(path), path.absolute().parent)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def parse(text: str, name: str, folder: Path | None = None) -> Site:
    """The site in `text`; `name` is how problems call it.

    With `folder`, paths in the file are relative to it, and must exist.
    """
    raw = read(migrate.current(text, name), name)
    site = _site(raw, folder)
    raw.problems.raise_if_any()
    return site


def _site(raw: Raw, folder: Path | None) -> Site:
    name = _one(raw, "name", lambda text: values.label(text, _LONGEST_NAME)) or "unnamed"
    domains = _many(raw, ("domains",), values.domain, least="a site has at least one domain")
    main = domains[0] if domains else "invalid"
    public = _public(raw)
    reach = _choice(raw, "reach", Reach, Reach.SSH)
    topology = _choice(raw, "topology", Topology, Topology.SEPARATED)
    admin_networks, admin_keys = _admins(raw, reach)
    # Without a sound name or public addresses, complaints about what follows from them would mislead.
    layout = lay_out(raw, name, topology, public, admin_networks) if public else None
    layout = layout and mesh.join(raw, name, public, layout, admin_networks)
    authority = acme.parse(raw, layout.machines if layout else ())
    people = programs.parse(raw, name, public, layout, authority, admin_networks)
    return Site(
        name=name,
        organisation=_one(raw, "organisation", _line) or "",
        domains=domains,
        topology=topology,
        reach=reach,
        public=public,
        zones=layout.zones if layout else (),
        machines=layout.machines if layout else (),
        mx_host=_one(raw, "mx", values.domain) or f"mx.{main}",
        webmail_host=_one(raw, "webmail", values.domain) or f"mail.{main}",
        admin_mail=_one(raw, "admin", lambda text: _admin(text, domains)) or "",
        admin_networks=admin_networks,
        admin_keys=admin_keys,
        ssh_config=_ssh_config(raw, folder),
        server=_server(raw, reach, layout.machines if layout else ()),
        outbound=Outbound(
            **_numbers(raw, "outbound"),
            exempt=_many(raw, ("outbound", "exempt"), values.mail),
        ),
        bans=_bans(raw),
        patches=_patches(raw),
        backup=_backup(raw),
        drill=Drill(**_numbers(raw, "drill")),
        ids=_intrusion(raw),
        dns=_dns(raw, domains),
        acme=authority,
        clients=people.clients,
        imap=_one(raw, "imap", values.domain) or "",
        vpn_networks=people.networks,
        policy=(policy := _policy(raw)),
        filter=filtering.parse(raw, domains, policy),
        verify_outside=_one_at(raw, ("verify", "outside"), values.ssh_name) or "",
        alarms=_alarms(raw, domains),
        accepted=_accepted(raw),
        **({"mirrors": _mirrors(raw)} if raw.has("proxy", "mirrors") else {}),
    )


def _backup(raw: Raw) -> Backup:
    wanted = Backup(
        **_numbers(raw, "backup"),
        copy=_one_at(raw, ("backup", "copy"), values.copy) or "",
        copy_host_key=_one_at(raw, ("backup", "copy_host_key"), values.ssh_key) or "",
    )
    if wanted.copied_by_ssh and not raw.has("backup", "copy_host_key"):
        raw.problems.add(
            ("backup", "copy"),
            "whoever answers there could be anybody",
            "give the host's public ssh key as copy_host_key, as its administrator tells it",
        )
    return wanted


def _one(raw: Raw, name: str, judge: Callable[[str], _T]) -> _T | None:
    return _one_at(raw, (name,), judge)


def _many(
    raw: Raw, path: tuple[str, ...], judge: Callable[[str], _T], *, least: str = ""
) -> tuple[_T, ...]:
    """Each element judged; the sound ones, without those that stand there twice."""
    found: dict[_T, int] = {}
    for number, text in enumerate(raw.texts(*path)):
        try:
            value = judge(text)
        except ValueError as error:
            raw.problems.add((*path, number), str(error))
            continue
        if value in found:
            first = raw.problems.line((*path, found[value]))
            what = values.shown(str(value))
            raw.problems.add(
                (*path, number), f"{what} stands here twice (line {first})", "keep one"
            )
        else:
            found[value] = number
    if least and raw.has(*path) and not raw.texts(*path):
        raw.problems.add(path, "is empty", least)
    return tuple(found)


def _choice(raw: Raw, name: str, among: type[_E], default: _E) -> _E:
    path = tuple(name.split("."))
    if not raw.has(*path):
        return default
    try:
        return among(raw.text(*path))
    except ValueError:
        hint = did_you_mean(raw.text(*path), among)
        raw.problems.add(path, f"{raw.text(*path)!r} is unknown", hint)
        return default


def _public(raw: Raw) -> tuple[Address, ...]:
    found = _many(
        raw, ("public",), values.address, least="the site needs an address on the internet"
    )
    # IPv4 first, else as written: a machine's first address is the one that ssh uses
    return tuple(sorted(found, key=lambda it: it.version))


def _line(text: str) -> str:
    """Text that may stand in a mail header or a title."""
    if not text.strip() or not text.isprintable() or len(text) > 100:
        raise ValueError("must be one line of 1 to 100 printable characters")
    return text.strip()


def _admins(raw: Raw, reach: Reach) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    networks = _many(raw, ("admins", "networks"), values.network)
    keys = _many(raw, ("admins", "keys"), values.ssh_key)
    if reach is not Reach.LAB:
        for name, hint in (
            ("networks", "name the networks from where administrators come by ssh"),
            ("keys", "give at least one administrator's OpenSSH public key"),
        ):
            if not raw.texts("admins", name):
                raw.problems.add(("admins", name), "nobody could get in by ssh", hint)
    return networks, keys


def _admin(text: str, domains: tuple[str, ...]) -> str:
    mail = values.mail(text)
    local, _, domain = mail.partition("@")
    if domain in domains and local in (*DUTIES, *REPORTS):
        raise ValueError(f"{mail} is itself for the administrator: name a person's mailbox")
    return mail


def _ssh_config(raw: Raw, folder: Path | None) -> str:
    given = raw.text("ssh", "config")
    if not given or folder is None:
        return given
    path = folder / Path(given).expanduser()
    if not path.is_file():
        raw.problems.add(("ssh", "config"), f"{path} is not a file", "a path relative to this file")
    return str(path)


def _server(raw: Raw, reach: Reach, machines: Sequence[Machine]) -> str:
    path = ("server", "ssh")
    if reach is Reach.SERVER and not raw.has(*path):
        raw.problems.add(path, "is missing", 'with reach = "server" say how ssh gets there')
    if raw.has(*path) and machines and not any(it.has(Role.FIREWALL) for it in machines):
        raw.problems.add(
            path,
            "no machine of the site is a firewall",
            "on a server the internet is the firewall machine's: choose the topology separated or split",
        )
    return _one_at(raw, path, values.ssh_name) or ""


def _mirrors(raw: Raw) -> tuple[str, ...]:
    return _many(
        raw, ("proxy", "mirrors"), values.domain, least="machines could not fetch their updates"
    )


def _accepted(raw: Raw) -> tuple[Accepted, ...]:
    """`[verify.accepted.ID]`: both keys, or a problem for the one that lacks."""
    top = ("verify", "accepted")
    found = []
    for check in dict.fromkeys(str(path[2]) for path in raw.leaves if path[:2] == top):
        here = (*top, check)
        reason = _one_at(raw, (*here, "reason"), _line)
        try:
            until = date.fromisoformat(raw.text(*here, "until"))
        except ValueError:
            raw.problems.add((*here, "until"), "must be a day", "written as 2027-01-31")
            continue
        if not reason and not raw.has(*here, "reason"):
            raw.problems.add((*here, "reason"), "is missing", "say why this is accepted")
        only = _many(raw, (*here, "only"), _line)
        found.append(Accepted(check, reason or "", until, only))
    return tuple(found)


def _one_at(raw: Raw, path: tuple[str, ...], judge: Callable[[str], _T]) -> _T | None:
    """One judged text below a table; None when it is not there or not sound."""
    if not raw.has(*path):
        return None
    try:
        return judge(raw.text(*path))
    except ValueError as error:
        raw.problems.add(path, str(error))
        return None


def _alarms(raw: Raw, domains: tuple[str, ...]) -> Alarms:
    def own(text: str) -> str:
        mail = values.mail(text)
        if domains and mail.partition("@")[2] not in domains:
            raise ValueError(f"{mail} is not of this site: let an alias of the site lead there")
        return mail

    def foreign(text: str) -> str:
        mail = values.mail(text)
        if mail.partition("@")[2] in domains:
            raise ValueError(
                f"{mail} is of this site, whose mail may be what is broken: alarms.mail takes it"
            )
        return mail

    quiet = _one_at(raw, ("alarms", "quiet"), values.hours_of_day)
    return Alarms(
        **_numbers(raw, "alarms"),
        mail=_many(raw, ("alarms", "mail"), own),
        webhook=_one_at(raw, ("alarms", "webhook"), values.https_url) or "",
        heartbeat=_one_at(raw, ("alarms", "heartbeat"), values.https_url) or "",
        quiet=quiet or None,
        escalate_to=_many(raw, ("alarms", "escalate_to"), own),
        outside=_many(raw, ("alarms", "outside"), foreign),
    )


def _dns(raw: Raw, domains: tuple[str, ...]) -> Dns:
    parked = _many(raw, ("dns", "parked"), values.domain)
    for domain in set(parked) & set(domains):
        raw.problems.add(
            ("dns", "parked", raw.texts("dns", "parked").index(domain)),
            f"{domain} has mail (domains)",
            "keep it in one of the two",
        )
    return Dns(
        dmarc=_choice(raw, "dns.dmarc", Dmarc, Dmarc.REJECT),
        mta_sts=_choice(raw, "dns.mta_sts", MtaSts, MtaSts.ENFORCE),
        caa=_many(raw, ("dns", "caa"), values.domain) if raw.has("dns", "caa") else Dns().caa,
        parked=parked,
    )


def _numbers(raw: Raw, table: str) -> dict[str, Any]:
    """The numbers of a table; each key's type was checked by `read`."""
    return {
        str(path[1]): value
        for path, value in raw.leaves.items()
        if path[0] == table and isinstance(value, int | float)
    }


def _bans(raw: Raw) -> Bans:
    bans = Bans(**_numbers(raw, "bans"), never=_many(raw, ("bans", "never"), values.network))
    if bans.first_seconds > bans.longest_seconds:
        written = "longest_seconds" if raw.has("bans", "longest_seconds") else "first_seconds"
        raw.problems.add(
            ("bans", written),
            f"the first ban ({bans.first_seconds}) takes longer than the longest ({bans.longest_seconds})",
            "bans grow: give the longest more seconds than the first",
        )
    return bans


def _patches(raw: Raw) -> Patches:
    at = _one_at(raw, ("patches", "at"), values.time_of_day) or Patches().at
    return Patches(at, bool(raw.leaves.get(("patches", "reboot"), Patches().reboot)))


def _intrusion(raw: Raw) -> Intrusion:
    default = Intrusion()
    rules = _one_at(raw, ("ids", "rules"), lambda text: text and values.https_url(text))
    return Intrusion(
        bool(raw.leaves.get(("ids", "enabled"), default.enabled)),
        default.rules if rules is None else rules,
        _many(raw, ("ids", "groups"), values.rule_group)
        if raw.has("ids", "groups")
        else default.groups,
    )


def _policy(raw: Raw) -> Policy:
    policy = Policy(**_numbers(raw, "policy"))
    scores = ("greylist_score", "spam_junk_score", "spam_reject_score")
    for low, high in pairwise(scores):
        if getattr(policy, low) >= getattr(policy, high):
            written = high if raw.has("policy", high) else low
            raw.problems.add(
                ("policy", written),
                f"{low} ({getattr(policy, low):g}) must be below {high} ({getattr(policy, high):g})",
                f"defaults: {', '.join(f'{it} {getattr(Policy(), it):g}' for it in scores)}",
            )
    return policy
