"""What an auditor wants, in one archive that nobody can change unseen. Pure.

    files = seal(parts, ca_key, ca_cert, "evidence.demo.internal")     with their digests, and a signature over these
    pack(files, "evidence-demo", at)                                   a tar archive

The signature is CMS (RFC 5652), detached, by a key made for this one and then forgotten; the site's authority says
whose it was. Whoever has the authority's certificate from elsewhere needs nothing of ours:

    sha256sum --check MANIFEST
    openssl cms -verify -inform DER -in MANIFEST.p7s -content MANIFEST -binary -CAfile ca.pem -out /dev/null
"""

import gzip
import io
import tarfile
from collections.abc import Mapping
from hashlib import sha256

from mastio import pki

MANIFEST = "MANIFEST"
SIGNATURE = f"{MANIFEST}.p7s"
AUTHORITY = "ca.pem"
README = f"""How this mail site stands, as it was found by mastio's own commands at the time that about.json tells.

Each file is what the command prints that about.json names beside it, so that it can be asked again; a file that is
missing is named there with the reason. To see that nobody has changed anything since:

    sha256sum --check {MANIFEST}
    openssl cms -verify -inform DER -in {SIGNATURE} -content {MANIFEST} -binary -CAfile {AUTHORITY} -out /dev/null

The second says whose signature it is only as far as {AUTHORITY} is the site's: take the authority's certificate from
its administrator (/etc/mastio/pki/ca.pem of any machine), and not from this archive.
"""


def seal(parts: Mapping[str, bytes], ca_key: str, ca_cert: str, signer: str) -> Mapping[str, bytes]:
    """The parts, with what proves that they are these: digests of all, signed in the name of `signer` (a DNS name)."""
    files = {**parts, "README": README.encode(), AUTHORITY: ca_cert.encode()}
    lines = (f"{sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    manifest = "".join(lines).encode()
    signature = pki.sign(ca_key, ca_cert, signer, manifest)
    return {**files, MANIFEST: manifest, SIGNATURE: signature}


def pack(files: Mapping[str, bytes], folder: str, at: float) -> bytes:
    """A gzipped tar archive of the files in a folder, all of the time `at` (seconds since the epoch)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(files[name]), int(at), 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(buffer.getvalue(), mtime=int(at))
