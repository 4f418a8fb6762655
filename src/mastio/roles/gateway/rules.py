"""The site's own rules for Rspamd: who it is from, what is attached, who is welcome, who must wait.

They are Lua (`rspamd/lua.local.d/`, one file for each question, helpers in `rspamd/mastio/house.lua`),
the same on every gateway. What differs from site to site is data in /etc/rspamd/mastio/rules.json,
made here. The live lists of `mastio greylist` are files in `LISTS`; accounts' domains in `RECIPIENTS`.
"""

import json
from collections.abc import Iterable

from mastio.context import Context
from mastio.roles.gateway.files import LISTS, RECIPIENTS, etc
from mastio.site.filter import Filter, Leaning, Leaving, Listing, Topic
from mastio.site.model import Address, Policy, Site
from mastio.state import Command, Directory, File, HostState

RULES = "/etc/rspamd/mastio/rules.json"
CONTAINERS = "/var/lib/clamav/mastio.cdb"
"""ClamAV's signatures of what may not be inside archives, however deep."""
LUA = ("scanner", "authenticity", "attachments", "lists", "thresholds", "topics", "greylisting",
       "bayes")  # fmt: skip
LIVE = ("allow", "allow-networks", "block", "block-networks")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# What Windows, macOS or Office run, install, mount or obey when it is opened (Microsoft's list of blocked
# file types in Outlook, and disk images).
DANGEROUS = _words(
    "ade adp app appinstaller application appref-ms appx bas bat chm cmd com cpl crt desktop diagcab dll "
    "dmg exe fxp gadget grp hlp hpj hta img inf ins iso isp its jar jnlp js jse lnk mad maf mag mam "
    "mde msc msh msi msix msp mst msu ocx ops osd pif pl plg prf prg ps1 ps1xml ps2 psc1 reg scf scr sct "
    "search-ms settingcontent-ms shb shs sys theme url vb vbe vbp vbs vhd vhdx vxd wim wsc wsf wsh xbap "
    "xll xnk"
)
# Archives that ClamAV cannot take apart here (the library for RAR is not free), and calls clean; by how they begin, as
# clamav's .ndb format has it: offset, then octets in hex. Tools find a RAR behind other things too; of zip, it is how a
# file in it is packed (APPNOTE.TXT 4.4.5: LZMA, Zstandard, XZ, PPMd). Of a 7z that stands where nobody looks, but a
# block of BZip2 begins as no other does; one that lies in a 7z as a file is taken for it.
UNREAD = {
    "RAR": "*:526172211a07",
    "RAR before 1.50": "0:52457e5e",
    "ACE": "7:2a2a4143452a2a",
    "Zstandard": "0:28b52ffd",
    "zip": "*:504b0304????????(0e|14|5d|5f|62)00",
    "7z by BZip2": "*:377abcaf271c*425a68??314159265359",
}
MACROS = _words("docm dotm xlsm xltm xlam xlsb pptm potm ppam ppsm sldm")
TOPICS: dict[Topic, tuple[str, ...]] = {
    Topic.DRUGS: _words(
        "viagra cialis levitra sildenafil tadalafil xanax valium vicodin ambien tramadol oxycontin "
        "phentermine pharmacy prescription pills meds erectile"
    ),
    Topic.GAMBLING: _words(
        "casino jackpot poker roulette blackjack betting lottery lotto slots bookmaker"
    ),
    Topic.ADULT: _words("porn xxx sex sexy horny nude naked milf escort webcam hookup hardcore"),
    Topic.CRYPTO: _words("bitcoin btc ethereum crypto cryptocurrency blockchain airdrop"),
    Topic.LOANS: _words("loan loans mortgage refinance debt creditors lender payday consolidate"),
}


def build(ctx: Context, relays: Iterable[Address]) -> HostState:
    """The rules, and what they read."""
    values = {"domains": f"{RECIPIENTS}/domains", "lists": LISTS}
    files = (
        *(etc(ctx, f"rspamd/lua.local.d/{name}.lua", values) for name in LUA),
        etc(ctx, "rspamd/mastio/house.lua", values),
        etc(ctx, "rspamd/mastio/tnef.lua"),
        File(RULES, json.dumps(rules(ctx.site, relays), indent=1) + "\n"),
        File("/etc/rspamd/local.d/greylist.conf", "# See greylisting.lua.\nenabled = false;\n"),
        File(CONTAINERS, deeper(ctx.site.policy)),
    )
    return HostState(
        files=files,
        directories=(Directory(LISTS),),
        commands=tuple(
            Command(f"empty list {name}", ("touch", f"{LISTS}/{name}"), creates=f"{LISTS}/{name}")
            for name in LIVE
        ),
    )


def rules(site: Site, relays: Iterable[Address]) -> dict[str, object]:
    """What the Lua files read."""
    own = site.filter
    whole = Leaning("", welcome=own.welcome, block=own.block, topics=own.topics)
    return {
        "relays": [str(it) for it in relays],
        "trusted_forwarders": list(own.trusted_forwarders),
        "dangerous": list(DANGEROUS),
        "macros": list(MACROS),
        "attachments": {"incoming": _treatments(own), "leaving": _treatments(own.leaving)},
        "topics": {topic: list(words) for topic, words in TOPICS.items()},
        "greylist_delay": site.policy.greylist_delay,
        "site": _leaning(whole, whole, site.policy),
        "domains": {it.domain: _leaning(it, whole, site.policy) for it in own.domains},
    }


def _treatments(one: Filter | Leaving) -> dict[str, str]:
    return {
        "dangerous_attachments": one.dangerous_attachments,
        "macro_documents": one.macro_documents,
        "encrypted_archives": one.encrypted_archives,
    }


def deeper(policy: Policy) -> str:
    """ClamAV's container signatures (clamav docs, "Container Metadata Signatures"), for archives in archives.

    `Heuristics.` in the name lets any finding of malware go before. Of a file larger than MaxFileSize
    (clamd.conf) ClamAV looks at the beginning alone and says nothing of it: hence `Large`.
    """
    large = (policy.message_size + 1) * 1024 * 1024 + 1
    kinds = {
        "Dangerous": rf"\.({'|'.join(DANGEROUS)})$",
        "Macros": r"(vbaProject\.bin|^Basic/.+\.xml|^Scripts/(python|beanshell)/.+)$",
    }
    return (
        "".join(
            f"Heuristics.Mastio.{kind}:*:*:(?i){pattern}:*:*:*:*:*:*\n"
            for kind, pattern in kinds.items()
        )
        + f"Heuristics.Mastio.Large:*:*:*:*:{large}-{2**32 - 1}:*:*:*:*\n"
    )


def unread() -> str:
    """ClamAV's signatures of archives in which nobody here can look, alone or in others."""
    return "".join(f"Heuristics.Mastio.Unread:0:{it}\n" for it in UNREAD.values())


def _leaning(one: Leaning, whole: Leaning, policy: Policy) -> dict[str, object]:
    return {
        "greylist_score": _or(one.greylist_score, policy.greylist_score),
        "spam_junk_score": _or(one.spam_junk_score, policy.spam_junk_score),
        "spam_reject_score": _or(one.spam_reject_score, policy.spam_reject_score),
        "welcome": _listing(one.welcome),
        "block": _listing(one.block),
        "topics": {**dict(whole.topics), **dict(one.topics)},
    }


def _or(given: float | None, default: float) -> float:
    return default if given is None else given


def _listing(listing: Listing) -> dict[str, list[str]]:
    return {
        "senders": [*listing.addresses, *listing.domains],
        "networks": [str(it) for it in listing.networks],
    }
