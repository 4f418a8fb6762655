"""The keys of what the gateway and the store keep out: filtering, limits on users, bans."""

from mastio.site.filter import Filter, Topic, Treatment
from mastio.site.key import Key, Kind, names
from mastio.site.model import Bans, Outbound


def _whole(table: str, fields: type, name: str, meaning: str, most: float) -> Key:
    default = fields.__dataclass_fields__[name].default  # type: ignore[attr-defined]
    return Key(f"{table}.{name}", Kind.WHOLE, meaning, f"{default}", 1, most)


def _attachments(name: str, what: str) -> Key:
    default = Filter.__dataclass_fields__[name].default
    meaning = f"What to do with {what}: {names(Treatment)}."
    return Key(f"filter.{name}", Kind.TEXT, meaning, f"`{default}`")


def _leaving(name: str, more: str = "") -> Key:
    return Key(
        f"filter.leaving.{name}",
        Kind.TEXT,
        f"The same in mail that leaves the site.{more}",
        f"`{Treatment.REJECT}` where `filter.{name}` is, else `{Treatment.MARK}`",
    )


def _leanings(
    below: str, whose: str, shared: tuple[str, str, str] = ("", "", "")
) -> tuple[Key, ...]:
    """The keys that a site has, and each of its domains may have for itself.

    `shared` says of welcome, block and topics what counts when a message goes to several domains.
    """
    welcome, block, topics = (it and f" {it}" for it in shared)
    senders = "mail addresses, domains (with all below them) and networks"
    return (
        Key(
            f"{below}.welcome",
            Kind.TEXTS,
            f"Senders whose mail {whose} is never spam: {senders}. Addresses and domains must be "
            f"proven by SPF or DKIM. Malware is refused all the same.{welcome}",
            "none",
        ),
        Key(
            f"{below}.block",
            Kind.TEXTS,
            f"Senders whose mail {whose} is refused: {senders}.{block}",
            "none",
        ),
        Key(
            f"{below}.topics.*",
            Kind.NUMBER,
            f"By what to multiply the score of what mail {whose} is about: {names(Topic)}; "
            f"0: it does not count.{topics}",
            "1",
            0,
            10,
        ),
    )


def _threshold(name: str, meaning: str) -> Key:
    return Key(f"filter.domains.*.{name}", Kind.NUMBER, meaning, f"`policy.{name}`", 0.1, 1000)


_LOWEST = (
    "As in `policy`, for mail to one of `domains`. For a message to several the lowest counts; "
    "a domain without its own has the site's."
)


CLEANING: tuple[Key, ...] = (
    _attachments(
        "dangerous_attachments",
        "attachments that a click would run (programs, scripts, shortcuts, disk images), also in archives",
    ),
    _attachments("macro_documents", "office documents with macros"),
    _attachments(
        "encrypted_archives",
        "archives that no scanner can look through: with a password, too deep, too large, RAR; files that a mail "
        "program finds in the text (uuencode), Outlook's winmail.dat with more than one file, and odd encodings",
    ),
    _leaving(
        "dangerous_attachments",
        " With `quarantine` the gateway holds it and its sender is told; `mastio quarantine` releases or deletes it. "
        "With `mark` it goes, and the log says so. A message that also goes to colleagues has the stricter of both.",
    ),
    _leaving("macro_documents"),
    _leaving("encrypted_archives"),
    Key(
        "filter.trusted_forwarders",
        Kind.TEXTS,
        "Domains whose forwarding is trusted: when their ARC seal says that the sender was proven, a "
        "message that fails DMARC on its way over them is not refused.",
        "none",
    ),
    *_leanings("filter", "to the site"),
    _threshold("greylist_score", _LOWEST),
    _threshold("spam_junk_score", _LOWEST),
    _threshold("spam_reject_score", _LOWEST),
    *_leanings(
        "filter.domains.*",
        "to one of `domains`",
        (
            "A message to several is welcome when all of them, or the site, welcome its sender.",
            "One of them is enough to refuse a message to several.",
            "For a message to several the highest counts.",
        ),
    ),
    *(
        _whole("outbound", Outbound, name, meaning, 1_000_000)
        for name, meaning in (
            (
                "messages_per_hour",
                "So many messages a user may send in an hour; what follows is held, and from ten times as many on "
                "refused for now.",
            ),
            ("recipients_per_hour", "So many recipients a user may write to in an hour."),
            (
                "new_recipients_per_day",
                "So many people a user may write to for the first time in a day.",
            ),
            ("bounces_per_day", "So many of a user's messages may come back in a day."),
            (
                "machine_messages_per_minute",
                "So many messages the webmail may submit in a minute, all users together; more is told to come later. "
                "The store may hand twice as many over to be sent; more waits in its queue.",
            ),
        )
    ),
    Key("outbound.exempt", Kind.TEXTS, "Users without limits, such as a newsletter's.", "none"),
    *(
        _whole("bans", Bans, name, meaning, most)
        for name, meaning, most in (
            ("failures", "So many offences (log-ins, SMTP abuse) lead to a ban.", 1000),
            ("within_seconds", "Offences count together for so long.", 86_400),
            (
                "first_seconds",
                "How long the first ban takes; each further one takes twice as long.",
                604_800,
            ),
            ("longest_seconds", "How long a ban takes at most.", 31_536_000),
        )
    ),
    Key(
        "bans.never",
        Kind.TEXTS,
        "Networks that are never banned.",
        "the site's own and its administrators' always are",
    ),
)
