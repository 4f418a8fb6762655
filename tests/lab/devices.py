"""People's devices: WireGuard and msmtp on `outside`; and what they do, as programs: what these are asked is in
PAYLOAD, what they heard is JSON.
"""

import json
import re

from mastio.site.model import Site
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import message

TRUST = "/etc/ssl/certs/ca-certificates.crt"
LOG_IN = """
import imaplib, json, smtplib, socket, ssl
asked = json.loads(PAYLOAD)
if asked["source"]:
    connect = socket.create_connection
    socket.create_connection = lambda where, timeout, *_: connect(where, timeout, (asked["source"], 0))
said, context = [], ssl.create_default_context()
for way in asked["ways"]:
    try:
        if way == "imap":
            client = imaplib.IMAP4_SSL(asked["host"], ssl_context=context, timeout=20)
            said.append(client.login(asked["user"], asked["password"])[0])
            client.logout()
        else:
            client = smtplib.SMTP_SSL(asked["host"], 465, context=context, timeout=20)
            client.ehlo()
            said.append(client.docmd("AUTH PLAIN", asked["plain"])[0])
            client.quit()
    except (OSError, imaplib.IMAP4.error, smtplib.SMTPException) as error:
        said.append(str(error))
print(json.dumps(said))
"""
HOLD = """
import imaplib, json, ssl, time
asked = json.loads(PAYLOAD)
client = imaplib.IMAP4_SSL(asked["host"], ssl_context=ssl.create_default_context(), timeout=60)
client.login(asked["user"], asked["password"])
client.sock.settimeout(10)
open("/tmp/holding", "w").close()
end = time.monotonic() + 600
try:
    while time.monotonic() < end:
        client.noop()
        time.sleep(0.2)
    print("still there")
except (OSError, imaplib.IMAP4.error) as error:
    print("ended")
"""
SET_UP = """
import imaplib, json, smtplib, ssl, urllib.request
from xml.etree import ElementTree
asked, context = json.loads(PAYLOAD), ssl.create_default_context()
user, password = asked["user"], asked["password"]
url = "https://autoconfig." + user.partition("@")[2] + "/mail/config-v1.1.xml?emailaddress=" + user.replace("@", "%40")
with urllib.request.urlopen(url, context=context, timeout=20) as page:
    said, told = [page.headers.get_content_type()], ElementTree.parse(page).getroot()
for element in told.iter():
    if element.tag not in ("incomingServer", "outgoingServer"):
        continue
    assert element.findtext("socketType") == "SSL" and element.findtext("authentication") == "password-cleartext"
    where = element.findtext("hostname"), int(element.findtext("port"))
    name = element.findtext("username").replace("%EMAILADDRESS%", user)
    if element.get("type") == "imap":
        client = imaplib.IMAP4_SSL(*where, ssl_context=context, timeout=20)
        said.append(client.login(name, password)[0])
        client.logout()
    else:
        client = smtplib.SMTP_SSL(*where, context=context, timeout=20)
        said.append(client.login(name, password)[0])
        client.quit()
print(json.dumps(said))
"""


class Device:
    """WireGuard on `outside`, as one device has it."""

    def __init__(self, lab: Lab, name: str, *more: str) -> None:
        said = lab.mastio("vpn", "add", name, "--json", *more)
        self.lab, self.name = lab, name
        self.configuration: str = json.loads(said)["configuration"]

    def up(self, allowed: str = "") -> None:
        text = self.configuration
        if allowed:
            text = re.sub("AllowedIPs = .*", f"AllowedIPs = {allowed}", text)
        write(self.lab, f"/etc/wireguard/{self.name}.conf", text)
        run(self.lab, "systemctl", "restart", f"wg-quick@{self.name}")

    def down(self) -> None:
        run(self.lab, "systemctl", "stop", f"wg-quick@{self.name}")

    @property
    def addresses(self) -> list[str]:
        found = re.search("Address = (.*)", self.configuration)
        assert found
        return [it.partition("/")[0] for it in found[1].split(", ")]


def write(lab: Lab, path: str, text: str) -> None:
    done = lab.run("outside", ["install", "-D", "-m", "600", "/dev/stdin", path], text.encode())
    assert done.code == 0, done.stderr.decode()


def run(lab: Lab, *argv: str, stdin: bytes = b"") -> str:
    done = lab.run("outside", argv, stdin)
    assert done.code == 0, f"{argv}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode()


def ask(
    lab: Lab, site: Site, user: str, password: str, *ways: str, source: str = ""
) -> list[object]:
    """What a device hears when it logs in."""
    import base64

    plain = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    asked = {
        "host": site.imap_host,
        "user": user,
        "password": password,
        "plain": plain,
        "ways": ways,
        "source": source,
    }
    done = lab.transport.run_python("outside", LOG_IN, json.dumps(asked).encode(), 300)
    assert done.code == 0, done.stderr.decode()
    found: list[object] = json.loads(done.stdout)
    return found


def submit(
    lab: Lab, site: Site, user: str, password: str, recipient: str, word: str, source: str = ""
) -> None:
    """Sends by msmtp."""
    bound = f"source_ip {source}\n" if source else ""
    write(
        lab, "/root/msmtprc",
        f"account site\nhost {site.imap_host}\nport 465\ntls on\ntls_starttls off\ntls_trust_file {TRUST}\n"
        f"auth on\nuser {user}\npassword {password}\nfrom {user}\n{bound}",
    )  # fmt: skip
    letter = message(user, recipient, word).as_bytes()
    run(lab, "msmtp", "--file=/root/msmtprc", "--account=site", recipient, stdin=letter)
