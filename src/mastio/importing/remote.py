"""Another IMAP server, spoken with by this box: what it has comes into a folder here, and from there into the store.

    with Server(Account("imap.old.example", "bob"), password) as server:
        source = server.pull(stage, names, tell)

Nothing is changed there (EXAMINE, BODY.PEEK). The folder keeps each message under its UID and the size that the server
tells, whole or not at all: an interrupted run goes on where it was, and a later one fetches only what is new. The
password is in this process alone.
"""

import hashlib
import imaplib
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from socket import gaierror
from types import TracebackType

from mastio import files
from mastio.errors import Exit, MastioError
from mastio.importing import listing
from mastio.importing.folders import Names
from mastio.importing.message import Message, Source
from mastio.restoring.maildir import INBOX
from mastio.services import IMAPS

Tell = Callable[[str], None]
_STARTTLS: int = imaplib.IMAP4_PORT  # type: ignore[attr-defined]
PORTS = {"imaps": IMAPS.port, "starttls": _STARTTLS, "none": _STARTTLS}
_PATIENCE = 120.0
"""Seconds for an answer: a server that lists a large folder takes its time."""
_OCTETS, _COUNT = 8 << 20, 200
"""How much is asked for at once."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where somebody's mail is."""

    host: str
    login: str
    port: int = 0
    """0: the usual one."""
    tls: str = "imaps"
    """`imaps`, `starttls`, or `none` (to this box itself only)."""
    authorities: str = ""
    """A PEM file of authorities to believe instead of the system's."""
    pin: str = ""
    """The SHA-256 of the only certificate to believe, whoever signed it."""

    @property
    def where(self) -> str:
        """Host and port, in words."""
        return f"{self.host}:{self.port or PORTS[self.tls]}"

    def __post_init__(self) -> None:
        """Refuses what would send a password over a network for all to read."""
        if self.tls == "none" and not _is_here(self.host):
            raise MastioError(
                f"without TLS the password of {self.login} would cross the network for all to read",
                hint="--tls starttls; or bring the port here: ssh -L 1143:localhost:143 OLD, then --host 127.0.0.1 "
                "--port 1143", code=Exit.USAGE,
            )  # fmt: skip
        if self.pin and not re.fullmatch(r"[0-9a-f]{64}", self.pin):
            raise MastioError(
                "a pin is the SHA-256 of a certificate: 64 hexadecimal digits",
                hint="openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE", code=Exit.USAGE,
            )  # fmt: skip


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Server:
    """A session, logged in."""

    def __init__(self, account: Account, password: str) -> None:
        self._account = account
        with self._told():
            self._imap = self._connected()
        try:
            self._log_in(password)
        except BaseException:
            self._imap.shutdown()
            raise

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError, imaplib.IMAP4.error):
            if kind is None:
                self._imap.logout()
            else:
                self._imap.shutdown()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong, in words."""
        try:
            yield
        except (OSError, imaplib.IMAP4.error) as error:
            raise explained(error, self._account) from None

    def _connected(self) -> imaplib.IMAP4:
        account = self._account
        port = account.port or PORTS[account.tls]
        if account.authorities and not Path(account.authorities).is_file():
            raise MastioError(f"{account.authorities}: there is no such file", code=Exit.DATA)
        context = ssl.create_default_context(cafile=account.authorities or None)
        if account.pin:  # what is pinned need not be signed by anybody
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        imap: imaplib.IMAP4
        if account.tls == "imaps":
            imap = imaplib.IMAP4_SSL(account.host, port, ssl_context=context, timeout=_PATIENCE)
        else:
            imap = imaplib.IMAP4(account.host, port, timeout=_PATIENCE)
            if account.tls == "starttls":
                imap.starttls(context)
        if account.pin and account.tls != "none":
            shown = (
                imap.sock.getpeercert(binary_form=True)
                if isinstance(imap.sock, ssl.SSLSocket)
                else None
            )
            found = hashlib.sha256(shown or b"").hexdigest()
            if found != account.pin:
                imap.shutdown()
                raise MastioError(
                    f"{account.where} shows another certificate than the one that is pinned: {found}",
                    hint="somebody is in between, or the server has a new one: ask who runs it", code=Exit.DATA,
                )  # fmt: skip
        return imap

    def _log_in(self, password: str) -> None:
        account, imap = self._account, self._imap
        secret = f"\0{account.login}\0{password}".encode()
        try:
            if "AUTH=PLAIN" in imap.capabilities:
                imap.authenticate("PLAIN", lambda _: secret)
            else:
                imap.login(account.login, password)
        except imaplib.IMAP4.abort as error:
            raise explained(error, account) from None
        except (imaplib.IMAP4.error, UnicodeError) as error:
            said = (
                "this way of logging in takes ASCII only"
                if isinstance(error, UnicodeError)
                else _words(error).replace(password, "…")
            )
            raise MastioError(
                f"{account.where} does not let {account.login} in: {said}",
                hint="a wrong password, or a log-in name of another form (--login)? Some providers want a password for "
                "programs; nothing was changed", code=Exit.DATA,
            ) from None  # fmt: skip
        except OSError as error:
            raise explained(error, account) from None

    def pull(self, stage: Path, names: Names, tell: Tell) -> Source:
        """Everything that is in the account's own folders, fetched into `stage` as far as it is not there yet."""
        with self._told():
            unread: list[str] = []
            found = self._folders(unread)
            messages: list[Message] = []
            folders: list[tuple[str, str]] = []
            skipped: list[str] = []
            # What shows other folders' messages comes last: of it, only what is in no other one.
            for it in sorted(found, key=lambda it: it.virtual):
                there = "/".join(it.parts) or INBOX
                name = names.here(it.parts, it.use)
                if name is None:
                    skipped.append(f"the folder {there}")
                    continue
                rows = self._folder(it, name, there, stage, tell, unread)
                if it.virtual:
                    known = Counter(one.digest for one in messages)
                    rows = [one for one in rows if not known[one.digest]]
                    skipped.append(f"what {there} shows of other folders")
                if rows or not it.virtual:
                    folders.append((there, name))
                messages += rows
        return Source(tuple(messages), tuple(folders), tuple(skipped), tuple(unread))

    def _folders(self, unread: list[str]) -> list[listing.Folder]:
        prefix = b""
        foreign: tuple[bytes, ...] = ()
        # Asked anew: what a server can do, it tells those who are logged in.
        able = str((self._imap.capability()[1] or [b""])[-1]).upper()
        if "NAMESPACE" in able:
            answer = self._imap.namespace()[1]
            prefix, foreign = listing.personal(answer), listing.others(answer)
        uses = "SPECIAL-USE" in able and "LIST-EXTENDED" in able
        kind, lines = self._imap.list(pattern="* RETURN (SPECIAL-USE)" if uses else "*")
        if kind != "OK":
            raise imaplib.IMAP4.error(lines[-1])
        found = []
        for it in filter(None, lines):
            one = listing.mailbox(it, prefix)
            if not one:
                unread.append(f"a folder that the server names so: {_words(it)}")
            elif one.holds and not one.raw.startswith(foreign or (b"\0",)):
                found.append(one)
        return found

    def _folder(
        self, folder: listing.Folder, name: str, there: str, stage: Path, tell: Tell, unread: list[str]
    ) -> list[Message]:  # fmt: skip
        """A folder's messages, all of them in the stage."""
        quoted = re.sub(rb'(["\\])', rb"\\\1", folder.raw)
        kind, answer = self._imap.select(b'"%b"' % quoted, readonly=True)  # type: ignore[arg-type]
        if kind != "OK":
            unread.append(f"{there}: {_words(answer[-1])}")
            return []
        if answer[0] in (b"0", None):
            return []
        validity = (self._imap.response("UIDVALIDITY")[1] or [b"0"])[-1] or b"0"
        place = (
            stage
            / hashlib.sha256(folder.raw).hexdigest()[:16]
            / validity.decode("ascii", "replace")
        )
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = self._fetched("1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE)")
        rows = [one for it in lines if isinstance(it, bytes) and (one := listing.row(it))]
        if len(rows) < int(answer[0]):
            unread.append(
                f"{there}: of {int(answer[0])} messages the server tells only of {len(rows)}"
            )
        here = {it.name for it in place.iterdir()}
        lacking = [it for it in rows if _name(it) not in here]
        done = len(rows) - len(lacking)
        for batch in listing.batches(lacking, _OCTETS, _COUNT):
            names = {it.uid: _name(it) for it in batch}
            for uid, content in self._bodies([*names]):
                if uid in names:
                    files.put(place / names[uid], content)
            done += len(batch)
            tell(f"{there}: {done} of {len(rows)} messages fetched")
        return [*_read(rows, place, name, there, unread)]

    def _bodies(self, uids: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Whole messages. One that the server cannot give does not keep the others back."""
        try:
            found = self._fetched(",".join(map(str, uids)), "(UID BODY.PEEK[])")
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error:
            if len(uids) > 1:
                for it in uids:
                    yield from self._bodies([it])
        else:
            yield from listing.bodies(found)

    def _fetched(self, uids: str, what: str) -> Sequence[object]:
        kind, found = self._imap.uid("FETCH", uids, what)
        if kind != "OK":
            raise imaplib.IMAP4.error(found[-1])
        return found


def _name(row: listing.Row) -> str:
    """A message's file. Its size is as told, right or not (some servers estimate): another size, another message."""
    return f"{row.uid}.{row.size}"


def _read(
    rows: list[listing.Row], place: Path, name: str, there: str, unread: list[str]
) -> Iterator[Message]:
    for it in rows:
        path = place / _name(it)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            unread.append(f"{there}: the server names message {it.uid}, and does not give it")
            continue
        yield Message.of(name, content, it.received, it.flags, it.keywords, path.read_bytes)


def _words(said: object) -> str:
    """What a server said, or why there is no answer."""
    word = said.args[0] if isinstance(said, Exception) and said.args else said
    text = word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
    return re.sub(r"\s+", " ", text).strip()[:300]


def explained(error: Exception, account: Account) -> MastioError:
    """What went wrong with a server, and what to do about it."""
    where, hint = account.where, "is it the right --host and --port? Can this box reach it?"
    match error:
        case gaierror():
            return MastioError(
                f"there is no host {account.host}",
                hint="--host: its name in DNS, or an address",
                code=Exit.UNAVAILABLE,
            )
        case ConnectionRefusedError():
            words = "nobody listens there"
            hint = "--port names another; --tls starttls speaks on port 143"
        case TimeoutError():
            words = "no answer"
        case ssl.SSLCertVerificationError():
            words = f"its certificate is not believed: {error.verify_message}"
            hint = "--ca FILE names an authority to believe; --pin SHA256 believes one certificate alone"
        case ssl.SSLError():
            words = f"no TLS: {getattr(error, 'reason', '') or error}"
            hint = "--tls starttls, or another --port?"
        case imaplib.IMAP4.abort():
            words = f"the connection broke: {_words(error)}"
            hint = "run it again: it goes on where it was"
        case OSError():
            words = error.strerror or str(error)
        case _:
            words = _words(error)
            hint = "run it again: it goes on where it was"
    return MastioError(f"{where}: {words}", hint=hint, code=Exit.UNAVAILABLE)
