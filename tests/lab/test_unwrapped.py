"""Files that readers find where scanners see no MIME part: encoded in the text (uuencode), wrapped by Outlook (TNEF),
behind a field that is written strangely.

The webmail hands the first two to its users as attachments. What scanners see of them is judged as any; what they
cannot see is `filter.encrypted_archives`, which files it away here. Each beside a clean twin.
"""

import binascii
import re
from base64 import b64encode

import pytest

from tests.lab import mail, tnef
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.test_filter import EICAR, arrives, attached, fires, send
from tests.lab.test_quarantine import held

pytestmark = pytest.mark.lab

WORDS = b"Good day.\n"
VIRUS = EICAR.encode()
ARCHIVE = "an archive that nobody here can look into"
ENCODED = "a file encoded in a way that nobody here can look into"


def lines(data: bytes, end: str = "`") -> str:
    """uuencode(5): 45 octets a line."""
    coded = [binascii.b2a_uu(data[at : at + 45]).decode() for at in range(0, len(data), 45)]
    return f"{''.join(coded)}{end}\n"


def encoded(begin: str, data: bytes, end: str = "`") -> str:
    return f"Good day.\n{begin}\n{lines(data, end)}end\n"


def in_base64(text: str) -> str:
    return b64encode(text.encode()).decode() + "\n"


# --- in the text

TEXTS_REFUSED = {
    "virus-by-the-manual": (encoded("begin 644 a.txt", VIRUS), "", "malware"),
    "program": (encoded("begin 0644 run.exe", WORDS), "", ".exe"),
    "program-by-the-manual": (encoded("begin 644 run.exe", WORDS), "", ".exe"),
    "program-with-a-blank": (encoded("begin 0644 run.exe ", WORDS), "", ".exe"),
    "second-one": (encoded("begin 0644 a.txt", WORDS) + encoded("x begin 644 run.exe", WORDS), "", ".exe"),
}  # fmt: skip
"""(The text, how it is encoded, why it is refused)."""
TEXTS_FILED = {
    "four-digits": (encoded("begin 0644 a.txt", VIRUS), ""),
    "within-a-line": (encoded("Look: begin 644 a.txt", VIRUS), ""),
    "at-once": (encoded("begin 0644 a.txt", VIRUS).partition("\n")[2], ""),
    "another-end": (encoded("begin 0644 a.txt", VIRUS, " "), ""),
    "in-base64": (in_base64(encoded("begin 0644 a.txt", VIRUS)), "base64"),
    "in-quoted-printable": (encoded("begin 0644 a.t=\nxt", VIRUS), "quoted-printable"),
    "behind-a-comment": (in_base64(encoded("begin 0644 a.txt", VIRUS)), "base64 (7bit)"),
    "in-one-of-two-ways": (
        in_base64(encoded("begin 0644 a.txt", VIRUS)), "7bit\nContent-Transfer-Encoding: base64"),
    "in-the-other-of-two-ways": (
        in_base64(encoded("begin 0644 a.txt", VIRUS)), "base64\nContent-Transfer-Encoding: 7bit"),
    "as-an-encoding": (lines(VIRUS), "x-uue"),
    "as-an-encoding-by-another-name": (lines(VIRUS), "uue"),
}  # fmt: skip
TEXTS_LET_IN = {
    "named": ("Each begin 644 readme.txt\nstarts a file, endings end it.\nendings\n", ""),
    "sentences": ("We begin 700 miles away.\nWe end here.\nend\n", ""),
    "base64": (in_base64("Good day.\n"), "base64"),
    "quoted-printable": ("Good day=2E\n", "Quoted-Printable"),
}


def wordy(to: str, word: str, text: str, way: str) -> str:
    """A message that is nothing but a text, encoded in this way."""
    letter = message(CAROL, to, word)
    del letter["Content-Transfer-Encoding"]
    head = letter.as_string().partition("\n\n")[0]
    return f"{head}\nContent-Transfer-Encoding: {way or '7bit'}\n\n{text}"


@pytest.mark.parametrize("name", TEXTS_REFUSED)
def test_what_is_seen_of_a_file_in_the_text_is_judged(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    text, way, reason = TEXTS_REFUSED[name]
    letter = wordy(alice[0], token(), text, way)
    fires(send(lab, letter, CAROL, alice[0], forged=False), reason)


@pytest.mark.parametrize("name", TEXTS_FILED)
def test_a_file_in_the_text_is_filed_away(lab: Lab, alice: tuple[str, str], name: str) -> None:
    word = token()
    letter = wordy(alice[0], word, *TEXTS_FILED[name])
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    filed(lab, alice, word, ENCODED)


@pytest.mark.parametrize("name", TEXTS_LET_IN)
def test_a_text_that_is_one_arrives(lab: Lab, alice: tuple[str, str], name: str) -> None:
    word = token()
    letter = wordy(alice[0], word, *TEXTS_LET_IN[name])
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)


# --- in winmail.dat


def filed(lab: Lab, user: tuple[str, str], word: str, reason: str) -> None:
    (entry,) = held(lab, word)
    assert entry["reason"] == reason
    assert not mail.inbox(lab, *user, word, patience=0)
    lab.mastio("quarantine", "delete", "--yes", entry["id"])


def file(name: str, data: bytes = WORDS, *properties: bytes) -> bytes:
    return tnef.file(name.encode() + b"\0", data, *properties)


def long_name(name: str, sort: int = tnef.TEXT) -> bytes:
    code = "utf-16-le" if sort == tnef.UNICODE else "ascii"
    return tnef.text(tnef.LONG_NAME, f"{name}\0".encode(code), sort=sort)


HALF = tnef.text(tnef.LONG_NAME, b"run.e", filling=b"xe\0")
"""Who takes the filling for a part of it reads `run.exe`."""
OUTLOOK_REFUSED = {
    "script": (tnef.wrapped(file("invoice.js")), ".js"),
    "script-beside-another": (tnef.wrapped(file("a.txt"), file("invoice.js")), ".js"),
    "long-name": (tnef.wrapped(file("a.txt", WORDS, long_name("invoice.js"))), ".js"),
    "long-name-later": (
        tnef.wrapped(file("a.txt", WORDS, tnef.number(0x3705, 1), long_name("invoice.js"))), ".js"),
    "long-name-wide": (
        tnef.wrapped(file("a.txt", WORDS, long_name("invoice.js", tnef.UNICODE))), ".js"),
    "long-name-by-another": (
        tnef.wrapped(file("a.txt", WORDS, tnef.named(tnef.LONG_NAME, b"invoice.js\0"))), ".js"),
    "virus": (tnef.wrapped(file("a.txt", VIRUS)), "malware"),
}  # fmt: skip
OUTLOOK_FILED = {
    "two-files": tnef.wrapped(file("a.txt"), file("b.txt")),
    "file-as-a-property": tnef.wrapped(file("a.txt", WORDS, tnef.text(tnef.BODY, WORDS))),
    "half-a-name": tnef.wrapped(file("a.txt", WORDS, HALF)),
    "strange-code-page": tnef.wrapped(tnef.file("run.exe".encode("cp037"), WORDS), code_page=37),
    "behind-nothing": tnef.wrapped(tnef.attribute(tnef.MESSAGE, 0x18004, b""), file("a.txt")),
    "before-a-message": tnef.wrapped(
        tnef.attribute(tnef.FILE, tnef.DATA, WORDS), tnef.attribute(tnef.MESSAGE, 0x18004, b"a\0")
    ),
    "cut-off": tnef.wrapped(file("a.txt"))[:-8],
    "at-another-level": tnef.wrapped(b"\x03", file("a.txt")),
}
OUTLOOK_LET_IN = {
    "no-file": tnef.wrapped(),
    "file": tnef.wrapped(file("a.txt", WORDS, long_name("read me first.txt"))),
    "wide": tnef.wrapped(
        file("a.txt", WORDS, long_name("read me.txt", tnef.UNICODE)), code_page=1251
    ),
    "unnamed-line-at-its-end": tnef.wrapped(file("a.txt")) + b"\r\n",
    "named-winmail": b"Not of Outlook: winmail.dat",
}


@pytest.mark.parametrize("name", OUTLOOK_REFUSED)
def test_what_is_seen_of_a_file_in_winmail_is_judged(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    data, reason = OUTLOOK_REFUSED[name]
    letter = attached("winmail.dat", data, CAROL, alice[0], token())
    fires(send(lab, letter, CAROL, alice[0], forged=False), reason)


@pytest.mark.parametrize("name", OUTLOOK_FILED)
def test_what_may_hide_in_winmail_is_filed_away(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    word = token()
    letter = attached("winmail.dat", OUTLOOK_FILED[name], CAROL, alice[0], word)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    filed(lab, alice, word, ARCHIVE)


@pytest.mark.parametrize("name", OUTLOOK_LET_IN)
def test_an_honest_winmail_arrives(lab: Lab, alice: tuple[str, str], name: str) -> None:
    word = token()
    letter = attached("winmail.dat", OUTLOOK_LET_IN[name], CAROL, alice[0], word)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)


# --- behind fields that are written strangely

IN_TWO = "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
IN_A_MESSAGE = f"{IN_TWO}Content-Type: message/rfc822\n\nSubject: a\nMIME-Version: 1.0\n"
IN_THREE = "Content-Type{blank}: multipart/mixed; boundary=c\n\n--c\n"
ATTACHED = (
    "Content-Type{blank}: application/octet-stream; name={name}\nContent-Transfer-Encoding{blank}: {way}\n"
    "Content-Disposition{blank}: attachment; filename={name}\n\n{data}\n"
)
WHERE = {
    "alone": ATTACHED,
    "in-a-part": f"{IN_TWO}{ATTACHED}--b--\n",
    "in-a-part-of-a-part": f"{IN_TWO}{IN_THREE}{ATTACHED}--c--\n--b--\n",
    "in-a-message": f"{IN_A_MESSAGE}{ATTACHED}--b--\n",
    "in-a-part-of-a-message": f"{IN_A_MESSAGE}{IN_THREE}{ATTACHED}--c--\n--b--\n",
}


def written(to: str, word: str, where: str, name: str, data: bytes, *, blank: str = "",
            way: str = "base64") -> str:  # fmt: skip
    head = message(CAROL, to, word).as_string().partition("Content-Type")[0]
    coded = b64encode(data).decode()
    body = WHERE[where].format(blank=blank, name=name, way=way, data=coded)
    return f"{head}MIME-Version: 1.0\n{body}"


@pytest.mark.parametrize("blank", ["", " ", "\t "], ids=["plain", "blank", "tab"])
@pytest.mark.parametrize("where", WHERE)
def test_a_blank_before_the_colon_hides_nothing(
    lab: Lab, alice: tuple[str, str], where: str, blank: str
) -> None:
    for name, data, reason in (("a.js", WORDS, ".js"), ("a.txt", VIRUS, "malware")):
        letter = written(alice[0], token(), where, name, data, blank=blank)
        fires(send(lab, letter, CAROL, alice[0], forged=False), reason)
    letter = written(alice[0], token(), where, "a.txt", WORDS, blank=blank)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250


OTHERWISE = {where: (where, "base64 (7bit)", "{data}") for where in WHERE} | {
    "behind-the-end": ("in-a-part", "base64", "{half}==\n{rest}"),
    "behind-the-end-in-a-line": ("alone", "Base64", "{half}={rest}"),
    "behind-a-beginning": ("in-a-part", "base64", "begin 644 xabc\n{data}"),
    "behind-a-blank": ("in-a-part", "quoted-printable", "G= \n=6F=\n=6Fd"),
    "behind-a-tab": ("in-a-part-of-a-message", "quoted-printable", "G=\t \n=6F=\n=6Fd"),
}
"""Where, encoded how. ClamAV looks for `7bit` anywhere in a field, and then for no file in a message; from what is no
plain block it makes another file than the webmail, or none."""
AS_ANY = {
    "base64": ("in-a-part", "base64", "{half}\n{rest}\n"),
    "base64-in-a-message": ("in-a-message", "BASE64", "{data}"),
    "quoted-printable": ("in-a-part", "quoted-printable", "x=3D1 \n=6F=\n=6Fd, =\nbegin\n="),
    "a-year": ("in-a-part", "quoted-printable", "Begin 644 it is.\nbegin 2026=2E\n"),
    "twice-as-it-is": ("in-a-part", "8bit\nContent-Transfer-Encoding: 7bit", "Words."),
}


def coded(lab: Lab, to: str, word: str, where: str, way: str, content: str) -> None:
    whole = b64encode(b"PK\3\4" + bytes(93)).decode()
    data = content.format(data=whole, half=whole[:40], rest=whole[40:])
    letter = written(to, word, where, "a.txt", b"", way=way).replace("\n\n\n", f"\n\n{data}\n", 1)
    assert data in letter
    assert send(lab, letter, CAROL, to, forged=False)[0] == 250


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_readers_decode_otherwise_is_filed_away(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    word = token()
    coded(lab, alice[0], word, *OTHERWISE[name])
    filed(lab, alice, word, ENCODED)


@pytest.mark.parametrize("name", AS_ANY)
def test_what_all_decode_alike_arrives(lab: Lab, alice: tuple[str, str], name: str) -> None:
    word = token()
    coded(lab, alice[0], word, *AS_ANY[name])
    assert arrives(lab, alice, word)


def test_no_verdict_hides_behind_a_blank(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    lies = [
        f"Authentication-Results{it}: {lab.site.mx_host}; dkim=pass header.d={lab.site.domains[0]}"
        for it in (" ", "", "\t", " ")
    ]
    letter = "\n".join([*lies, message(CAROL, alice[0], word).as_string()])
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    verdicts = re.findall(r"(?m)^Authentication-Results.*", arrives(lab, alice, word).as_string())
    assert len(verdicts) == 1, verdicts
