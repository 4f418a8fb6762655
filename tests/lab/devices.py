"""What people's devices do, as programs for `outside`: what they are asked is in PAYLOAD, what they heard is JSON."""

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
client = imaplib.IMAP4_SSL(asked["host"], ssl_context=ssl.create_default_context(), timeout=4)
client.login(asked["user"], asked["password"])
open("/tmp/holding", "w").close()
end = time.monotonic() + 60
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
