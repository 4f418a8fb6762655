"""A small archive of packages on a lab machine: what Debian has newer, without any internet.

`MAKE` is for the machine's python3: `first` installs old packages and makes an archive that has newer ones;
`other VERSION POSTINST` puts a newer `other` there, `broken` a security fix after which a daemon is away.
`GONE` is for its shell.
`VULNERABLE` is for the python3 of watch: what the security tracker says of these packages.
"""

from mastio.roles.patching import FOLDER

_ARCHIVE = "/var/lib/patch-test"
_UNIT = "[Service]\\nExecStart=/usr/lib/tick/tickd infinity\\n"
MAKE = f"""
import hashlib, os, shutil, subprocess, sys
top = {_ARCHIVE!r}
os.umask(0o022)

def quiet(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)

def deb(name, version, files, postinst=""):
    tree = f"{{top}}/tree"
    shutil.rmtree(tree, ignore_errors=True)
    control = f"Package: {{name}}\\nVersion: {{version}}\\nArchitecture: all\\n"
    control += "Maintainer: A <a@b.test>\\nDescription: x\\n"
    for path, data in {{"DEBIAN/control": control.encode(), **files}}.items():
        os.makedirs(os.path.dirname(f"{{tree}}/{{path}}"), exist_ok=True)
        with open(f"{{tree}}/{{path}}", "wb") as file:
            file.write(data)
        os.chmod(f"{{tree}}/{{path}}", 0o755 if path.endswith("d") and path.startswith("usr/lib/tick") else 0o644)
    if postinst:
        with open(f"{{tree}}/DEBIAN/postinst", "w") as file:
            file.write("#!/bin/sh\\n" + postinst + "\\n")
        os.chmod(f"{{tree}}/DEBIAN/postinst", 0o755)
    path = f"{{top}}/{{name}}_{{version}}.deb"
    quiet("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, path)
    return control, path

def archive(label, codename, control, path):
    place = f"{{top}}/{{label}}/dists/{{codename}}"
    os.makedirs(f"{{place}}/main/binary-amd64", exist_ok=True)
    data = open(path, "rb").read()
    shutil.copy(path, f"{{top}}/{{label}}")
    text = control + f"Filename: {{os.path.basename(path)}}\\nSize: {{len(data)}}\\n"
    text += f"SHA256: {{hashlib.sha256(data).hexdigest()}}\\n\\n"
    with open(f"{{place}}/main/binary-amd64/Packages", "w") as file:
        file.write(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with open(f"{{place}}/Release", "w") as file:
        file.write(f"Origin: Debian\\nLabel: {{label}}\\nSuite: stable\\nCodename: {{codename}}\\n"
                   "Architectures: amd64\\nComponents: main\\nDate: Tue, 24 Nov 2026 00:00:00 UTC\\n"
                   f"SHA256:\\n {{digest}} {{len(text)}} main/binary-amd64/Packages\\n")

sleep, unit = open("/bin/sleep", "rb").read(), b"{_UNIT}"
tick = {{"usr/lib/tick/tickd": sleep, "usr/lib/systemd/system/tick.service": unit,
        "etc/tick.conf": b"fast = no\\n", "DEBIAN/conffiles": b"/etc/tick.conf\\n"}}
os.makedirs(top, exist_ok=True)
os.chmod(top, 0o755)
if sys.argv[1] == "first":
    old = deb("tick", "1.0", {{**tick, "usr/share/tick/old": b"old"}})
    other = deb("other", "1.0", {{"usr/share/other/x": b"1"}})
    quiet("dpkg", "-i", old[1], other[1])
    new = deb("tick", "1.1", {{**tick, "usr/lib/tick/tickd": sleep + b"!"}})
    archive("Debian-Security", "trixie-security", *new)
    archive("Debian", "trixie", *deb("other", "2.0", {{"usr/share/other/x": b"2"}}))
    # The lab has no internet: the machine's own sources would only be waited for.
    os.mkdir(f"{{top}}/sources")
    for name in os.listdir("/etc/apt/sources.list.d"):
        shutil.move(f"/etc/apt/sources.list.d/{{name}}", f"{{top}}/sources")
    with open("/etc/apt/sources.list.d/patch-test.list", "w") as file:
        for label, name in (("Debian-Security", "trixie-security"), ("Debian", "trixie")):
            file.write(f"deb [trusted=yes] file:{{top}}/{{label}} {{name}} main\\n")
    quiet("systemctl", "daemon-reload")
    quiet("systemctl", "start", "tick.service")
elif sys.argv[1] == "other":
    version, postinst = sys.argv[2:]
    archive("Debian", "trixie", *deb("other", version, {{"usr/share/other/x": version.encode()}}, postinst))
else:
    archive("Debian-Security", "trixie-security", *deb("tick", "1.2", tick, "systemctl stop nginx.service"))
"""
GONE = f"""
systemctl stop tick.service || true
dpkg --purge tick other >/dev/null 2>&1 || true
mv {_ARCHIVE}/sources/* /etc/apt/sources.list.d/ || true
rm -rf {_ARCHIVE} /etc/apt/sources.list.d/patch-test.list /run/reboot-required
find /var/lib/apt/lists -type f -delete
systemctl daemon-reload
"""
VULNERABLE = f"""
import os, zlib
text = '''VERSION 1
CVE-2030-0001,,mended in 1.1
CVE-2030-0002,,not mended

tick,0,SHRF,1.1,
tick,1,SL? ,9.9,

tick,tick
'''
os.makedirs("{FOLDER}/tracker", exist_ok=True)
with open("{FOLDER}/tracker/trixie", "wb") as file:
    file.write(zlib.compress(text.encode()))
"""
