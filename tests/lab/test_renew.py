"""Certificates and their authority are renewed, and every secret is rotated, while mail flows."""

import json

import pytest

from mastio import pki, renewal, rotation, secrets
from mastio.dns import rings
from mastio.renewal import Step
from mastio.vault import Vault
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.flow import flowing
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import eventually

pytestmark = pytest.mark.lab


def served(lab: Lab) -> bytes:
    """The certificate that the store shows to the webmail."""
    target = f"{lab.site.internal_name('store')}:993"
    text = lab.run("webmail", ["openssl", "s_client", "-connect", target], b"").stdout
    assert b"BEGIN CERTIFICATE" in text
    return text.partition(b"-----BEGIN")[2].partition(b"-----END")[0]


def believed(lab: Lab) -> set[str]:
    """What each machine has as its authorities."""
    return {
        lab.run(it.name, ["cat", "/etc/mastio/pki/ca.pem"]).stdout.decode()
        for it in lab.site.machines
    }


def test_an_authority_is_followed_while_mail_flows_and_nothing_else_comes_along(lab: Lab) -> None:
    """As one that was interrupted after its first step: that an old authority begins it is a unit's affair."""
    vault = Vault.open(lab.folder)
    old, before = vault["ca/cert"], served(lab)
    keys = {name: vault[name] for name in vault if name.startswith("host/") and name[-4:] == "/key"}
    renewal.take(vault, lab.site, Step.ANNOUNCE)
    vault.save()
    due = mastio(lab.folder, "renew", "--dry-run", "--json")
    assert due.returncode == 2
    assert json.loads(due.stdout)["authority"] == Step.SIGN
    path = lab.folder / "site.toml"
    text = path.read_text()
    try:
        path.write_text(f"{text}\n[policy]\nquota = 77\n")
        refused = mastio(lab.folder, "renew")
    finally:
        path.write_text(text)
    assert refused.returncode == 2
    assert "more than a renewal (store: /etc/dovecot/dovecot.conf" in refused.stderr
    assert believed(lab) == {old}
    with flowing(lab):
        told = json.loads(lab.mastio("renew", "--json"))
    assert {"ca", "host/store"} <= set(told["renewed"])
    vault = Vault.open(lab.folder)
    assert believed(lab) == {vault["ca/cert"]} != {old}
    assert keys == {name: vault[name] for name in keys}
    after = f"-----BEGIN{served(lab).decode()}-----END CERTIFICATE-----\n"
    assert served(lab) != before
    assert pki.key_digest(after) == pki.key_digest(keys["host/store/key"])
    again = mastio(lab.folder, "renew")
    assert (again.returncode, again.stdout) == (0, "nothing was due\n")


def test_every_secret_is_rotated_while_mail_flows(lab: Lab) -> None:
    vault = Vault.open(lab.folder)
    before, shown = dict(vault), served(lab)
    ways = {it: rotation.way(it, lab.site, before) for it in before}
    # A key that DNS knows already takes its turn: what follows is another then.
    ahead = {secrets.following(lab.site.mx_host)}
    for domain in lab.site.domains:
        coming = rings.following(secrets.ring_of(before, domain))
        ahead |= {rings.key(domain, it) for it in coming.selectors}
    commands = {way for name, way in ways.items() if way and name not in ahead}
    plain = {it.split()[-1] for it in commands if "secrets rotate" in it}
    with flowing(lab):
        lab.mastio("secrets", "rotate", *plain)
        for command in commands:
            if "secrets rotate" not in command:
                lab.mastio(*command.split()[1:])
        lab.mastio("apply", "--yes")
    now = dict(Vault.open(lab.folder))
    assert {it for it in ways if ways[it] and now.get(it) == before[it]} <= ahead
    assert served(lab) != shown, "Dovecot still shows its former certificate"
    user, word = next(iter(lab.accounts.items())), token()
    assert mail.submit(lab, *user, message(user[0], CAROL, word))[0] == 250
    assert mail.at_carols(lab, word)
    # Logs, too, travel under the new certificates.
    assert lab.run("gateway", ["logger", f"canary {word}"]).code == 0
    search = ["grep", "-rqF", f"canary {word}", "/var/log/remote/gateway"]
    eventually(lambda: lab.run("watch", search).code == 0, "watch gets no logs", 180, 0.3)
    lab.mastio("verify", "--only", "T6,T9,T10,T12,D2")


def test_the_vault_gets_another_key(lab: Lab) -> None:
    lab.mastio("secrets", "rekey")
    assert mastio(lab.folder, "plan").returncode == 0
