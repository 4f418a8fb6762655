"""What is broken on purpose, on which machine, and the checks of `mastio verify` that must then fail.

`SABOTAGE` is the table, `sabotaged` does it and mends it again.
"""

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from mastio.context import PKI
from mastio.lab import outside
from mastio.roles.gateway.files import CONTROLLER
from mastio.roles.gateway.signing import SETTINGS
from mastio.roles.ids import RULES
from mastio.roles.restore import VERDICT
from mastio.roles.webmail import WWW
from mastio.verify.checks.content import SIGNATURES
from tests.lab.conftest import LIMIT
from tests.lab.conftest import TheLab as Lab


def on(lab: Lab, machine: str, script: str, stdin: bytes = b"") -> str:
    """A shell script on a machine; it must succeed."""
    result = lab.transport.run(machine, ["sh", "-euc", script], stdin, LIMIT)
    assert result.code == 0, f"{script}: {result.stderr.decode()}"
    return result.stdout.decode()


@contextmanager
def hung(lab: Lab, machine: str, unit: str) -> Iterator[None]:
    """A service that neither answers nor is gone."""
    on(lab, machine, f"systemctl kill --signal=STOP {unit}.service")
    try:
        yield
    finally:
        on(lab, machine, f"systemctl kill --signal=CONT {unit}.service")


def valkey_ends(lab: Lab, gateway: str, how: str) -> None:
    """Valkey is `restart`ed or gets a `kill`; returns when Rspamd, which goes and comes with it, answers again."""
    act = {"restart": "restart", "kill": "kill --signal=KILL"}[how]
    now = "systemctl show --value --property=MainPID rspamd.service"
    on(
        lab,
        gateway,
        f"""
        before=$({now}); systemctl {act} valkey-server.service
        for i in $(seq 1000); do
          sleep 0.2; [ $({now}) != $before ] && systemctl is-active -q rspamd.service || continue
          rspamc -h {CONTROLLER} stat >/dev/null 2>&1 && exit 0
        done; exit 1""",
    )


@dataclass(frozen=True)
class Sabotage:
    """`after` runs behind `script`, and again when `files` are put back and `undo` is done."""

    name: str
    machine: str
    script: str
    fails: str
    files: tuple[str, ...] = ()
    after: str = ""
    undo: str = ""
    expected: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "expected", frozenset(self.fails.split()))


_MAIN, _STORE, NGINX = "/etc/postfix/main.cf", "/etc/dovecot/dovecot.conf", "/etc/nginx/nginx.conf"
RSPAMD = (  # begins anew, with nothing remembered
    "valkey-cli -s /run/valkey/valkey.sock flushall >/dev/null; systemctl restart rspamd.service; "
    "for i in $(seq 100); do [ -S /run/rspamd/milter.sock ] && break; sleep 0.1; done; sleep 4"
)
_POSTFIX = "postfix reload >/dev/null 2>&1; sleep 2"
UNBOUND = "/etc/unbound/unbound.conf"
_LISTS = "/var/lib/apt/lists/deb.debian.org_debian-security_dists_trixie-security"
_HEARS = "for i in $(seq 600); do [ $(wc -l < /proc/net/packet) -gt 4 ] && break; sleep 0.1; done"
_STS = f"{WWW}/mta-sts.txt"
_DKIM = f"/etc/{SETTINGS}"


def postfix(name: str, fails: str, *settings: str) -> Sabotage:
    """Settings of the gateway's Postfix that are wrong."""
    script = "; ".join(f"postconf -e {shlex.quote(it)}" for it in settings)
    return Sabotage(name, "gateway", script, fails, (_MAIN,), _POSTFIX)


def signatures(daily: int | None = None) -> str:
    """A script that gives a scanner ClamAV's own signatures, as far as C5 reads them: their headers.

    `main` is a year old, as it may be, `daily` so many days; without it both are gone again.
    """
    files = {} if daily is None else {"main": 365, "daily": daily}
    header = "ClamAV-VDB:$(LC_ALL=C date -u -d '-{} days' '+%d %b %Y %H-%M +0000'):1:1:90:x:x:x:1:"
    return "; ".join(
        (
            f"rm -f {SIGNATURES}/main.cvd {SIGNATURES}/daily.cvd",
            *(
                f'printf %s "{header.format(days)}" > {SIGNATURES}/{name}.cvd'
                for name, days in files.items()
            ),
        )
    )


SABOTAGE = (
    Sabotage("a port opened on the store", "store",
             "nft insert rule inet mastio input tcp dport 3306 accept", "N2 N7",
             undo="nft -f /etc/nftables.conf"),
    Sabotage("the firewall forwards everything", "firewall", "nft insert rule inet mastio forward accept",
             "N5 N7", undo="nft -f /etc/nftables.conf"),
    Sabotage("a rule removed from the firewall", "firewall",
             "h=$(nft -a list chain inet mastio forward | grep 'dport 24 ' | sed 's/.*handle //'); "
             "for i in $h; do nft delete rule inet mastio forward handle $i; done",
             "N2 N7", undo="nft -f /etc/nftables.conf"),
    Sabotage("a published port more", "firewall",
             "nft insert rule inet mastio forward iifname internet accept; "
             "nft insert rule inet mastio input iifname internet accept", "N1 N7",
             undo="nft -f /etc/nftables.conf"),
    postfix("an open relay", "R1", "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination",
             "mynetworks = 0.0.0.0/0 [::]/0"),
    postfix("a banner", "N8", "smtpd_banner = $myhostname ESMTP Postfix (Debian)"),
    postfix("VRFY", "R2", "disable_vrfy_command = no"),
    postfix("table names", "R3", "show_user_unknown_table_name = yes"),
    postfix("bare newlines", "R4 R6", "smtpd_forbid_bare_newline = no", "smtpd_forbid_unauth_pipelining = no",
             "smtpd_data_restrictions ="),
    postfix("TLS 1.0", "T1 T2", "smtpd_tls_protocols = >=TLSv1", "tls_high_cipherlist = ALL:@SECLEVEL=0",
             "smtpd_tls_security_level = may"),
    Sabotage("no abuse desk", "gateway",
             "cd /var/lib/mastio/recipients; sed -i '/^abuse@/d' recipients; postmap lmdb:recipients", "R9",
             ("/var/lib/mastio/recipients/recipients",), "postmap lmdb:/var/lib/mastio/recipients/recipients"),
    Sabotage("no virus scanner", "gateway",
             "echo 'enabled = false;' > /etc/rspamd/local.d/antivirus.conf", "C1 C3 C4",
             ("/etc/rspamd/local.d/antivirus.conf",), RSPAMD),
    Sabotage("DMARC not enforced", "gateway", "rm /etc/rspamd/lua.local.d/authenticity.lua", "R8",
             ("/etc/rspamd/lua.local.d/authenticity.lua",), RSPAMD),
    Sabotage("keys that sign for years", "gateway", f"sed -i 's/signed since 20/signed since 19/' {_DKIM}", "D12",
             (_DKIM,)),
    Sabotage("test spam let in", "gateway",
             "echo 'gtube_patterns = \"disable\";' >> /etc/rspamd/local.d/options.inc", "C2 C3",
             ("/etc/rspamd/local.d/options.inc",), RSPAMD),
    Sabotage("a listener on a wrong address", "store",
             "systemd-run --quiet --unit=sabotage python3 -m http.server --bind 0.0.0.0 8000; "
             "for i in $(seq 600); do grep -q :1F40 /proc/net/tcp && break; sleep 0.1; done", "H1",
             undo="systemctl stop sabotage.service"),
    Sabotage("POP3", "store", f"sed -i 's/^  imap = yes/  imap = yes\\n  pop3 = yes/' {_STORE}", "W5", (_STORE,)),
    Sabotage("logging in without TLS", "store",
             "sed -i 's/^auth_allow_cleartext = no/auth_allow_cleartext = yes/; s/^ssl = required/ssl = yes/' "
             f"{_STORE}",
             "T7", (_STORE,), "doveadm reload; sleep 1"),
    Sabotage("no client certificate asked", "store", "sed -i 's/^verifyChain = yes/verifyChain = no/; "
             "/^checkHost/d' /etc/stunnel/mastio-password.conf", "T10", ("/etc/stunnel/mastio-password.conf",),
             "systemctl restart mastio-password-tls.service; sleep 1"),
    Sabotage("ssh with passwords", "watch",
             "echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-sabotage.conf", "A4",
             undo="rm /etc/ssh/sshd_config.d/00-sabotage.conf"),
    Sabotage("a password on a machine", "gateway", "printf 'games:%s\\n' '$6$x$y' | chpasswd -e", "A6",
             ("/etc/shadow",)),
    Sabotage("redirects believed", "store", "sysctl -qw net.ipv4.conf.all.accept_redirects=1", "H4",
             undo="sysctl -qw net.ipv4.conf.all.accept_redirects=0"),
    Sabotage("a deleted program runs", "webmail",
             # `exec`: it has begun when systemd-run returns.
             "cp /usr/bin/sleep /usr/local/bin/gone; systemd-run --quiet --service-type=exec --unit=sabotage "
             "/usr/local/bin/gone infinity; rm /usr/local/bin/gone", "H5", undo="systemctl stop sabotage.service"),
    Sabotage("a key of somebody else", "webmail",
             "umask 077; openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /root/notes.txt",
             "H7", undo="rm /root/notes.txt"),
    Sabotage("a reboot is due", "watch", "touch /run/reboot-required", "P2", undo="rm /run/reboot-required"),
    Sabotage("no protection in the browser", "webmail",
             "sed -i '/Strict-Transport-Security/s/max-age=63072000/max-age=60/; /X-Content-Type-Options/d; "
             f"/Content-Security-Policy/s/ default-src/ x-src/; s/object-src .none.; //' {NGINX}", "W1 W2 W3",
             (NGINX,), "systemctl reload nginx; sleep 1"),
    Sabotage("a weak cipher", "webmail",
             f"sed -i 's/^    ssl_ciphers /&ECDHE-ECDSA-AES128-SHA:/' {NGINX}", "T2", (NGINX,),
             "systemctl reload nginx; sleep 1"),
    Sabotage("Roundcube's rate limit off", "webmail",
             "sed -i \"s/'login_rate_limit'\\] = 5/'login_rate_limit'] = 500/\" /etc/roundcube/config.inc.php", "W4",
             ("/etc/roundcube/config.inc.php",)),
    Sabotage("an old certificate is still served", "webmail",
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null "
             "-subj /CN=x -out /etc/mastio/pki/public.pem 2>/dev/null || cp /etc/mastio/pki/host.pem "
             "/etc/mastio/pki/public.pem", "H7 T9", ("/etc/mastio/pki/public.pem",)),
    # Life of a year but for two days, for the key that is there.
    Sabotage("a certificate that nobody renewed", "webmail",
             "openssl req -x509 -key /etc/mastio/pki/public.key -subj /CN=x "
             "-addext subjectAltName=DNS:mail.fortress.test "
             "-not_before $(date -u -d '-363 days' +%Y%m%d%H%M%SZ) -not_after $(date -u -d '+2 days' +%Y%m%d%H%M%SZ) "
             "-out /etc/mastio/pki/public.pem", "T9 T11 T12", ("/etc/mastio/pki/public.pem",),
             "systemctl reload nginx; sleep 1"),
    Sabotage("names that lie", outside.MACHINE,
             "sed -i 's/^server:/server:\\n    local-zone: \"_dmarc.fortress.test.\" static\\n"
             "    local-zone: \"_domainkey.fortress.test.\" static\\n"
             "    local-zone: \"fortress.test.\" typetransparent\\n"
             "    local-data: \"fortress.test. TXT v=spf1\"\\n"
             "    local-zone: \"1.113.0.203.in-addr.arpa.\" static\\n"
             "    local-zone: \"mail.fortress.test.\" static/' /etc/unbound/unbound.conf", "D0 D1 D2 D3 D8",
             (UNBOUND,), "systemctl restart unbound; sleep 1"),
    Sabotage("on a block list", outside.MACHINE,
             "sed -i 's/^server:/server:\\n    local-zone: \"zen.spamhaus.org.\" static\\n"
             "    local-data: \"1.113.0.203.zen.spamhaus.org. A 127.0.0.2\"/' /etc/unbound/unbound.conf",
             "D9", (UNBOUND,), "systemctl restart unbound; sleep 1"),
    Sabotage("a resolver that does not validate", outside.MACHINE,
             "sed -i 's/^server:/server:\\n    module-config: \"iterator\"/; /trust-anchor/d' "
             "/etc/unbound/unbound.conf",
             "D6", (UNBOUND,), "systemctl restart unbound; sleep 1"),
    Sabotage("promises that are gone", outside.MACHINE,
             "sed -i 's/^server:/server:\\n    local-zone: \"_mta-sts.fortress.test.\" static\\n"
             "    local-zone: \"_smtp._tls.fortress.test.\" static\\n"
             "    local-zone: \"_25._tcp.mx.fortress.test.\" static\\n"
             "    local-zone: \"mx.fortress.test.\" typetransparent\\n"
             "    local-data: \"mx.fortress.test. CAA 0 issue strangers.test\"/' /etc/unbound/unbound.conf",
             "D4 D5 D7 T6", (UNBOUND,), "systemctl restart unbound; sleep 1"),
    Sabotage("a policy that asks for nothing", "webmail", f"sed -i 's/^mode: enforce/mode: testing/' {_STS}", "D4",
             (_STS,)),
    postfix("another key than DANE tells", "T6 T9 T11",
             f"smtpd_tls_chain_files = {PKI}/host.key, {PKI}/host.pem"),
    postfix("finite fields", "T3", "tls_ffdhe_auto_groups = ffdhe2048"),
    postfix("no hybrid group", "T3", "tls_eecdh_auto_curves = X25519, prime256v1"),
    # SSL_OP_NO_EXTENDED_MASTER_SECRET of OpenSSL.
    postfix("handshakes that are not bound", "T5", "tls_ssl_options = 0x1"),
    postfix("receivers are not verified", "T8", "smtp_tls_security_level = may"),
    postfix("MTA-STS is not asked", "T8", "smtp_tls_policy_maps = socketmap:unix:/run/nobody:policy"),
    Sabotage("a gateway that believes any answer", "gateway",
             f"sed -i 's/^server:/server:\\n    module-config: \"iterator\"/; /trust-anchor/d' {UNBOUND}",
             "T8", (UNBOUND,), "systemctl restart unbound; sleep 1"),
    postfix("stray line ends", "R5", "cleanup_replace_stray_cr_lf = no"),
    Sabotage("users write as others", "store",
             "postconf -e 'submission_sender_restrictions = reject_non_fqdn_sender'", "A5", (_MAIN,), _POSTFIX),
    Sabotage("an order to do nothing is obeyed", "gateway",
             "echo 'gtube_patterns = \"all\";' >> /etc/rspamd/local.d/options.inc", "C3",
             ("/etc/rspamd/local.d/options.inc",), RSPAMD),
    Sabotage("mail passes without its scan", "gateway",
             "sed -i 's/soft reject/no action/' /etc/rspamd/local.d/force_actions.conf", "C4",
             ("/etc/rspamd/local.d/force_actions.conf",)),
    Sabotage("mail passes when its time is up", "gateway",
             "sed -i '/^soft_reject_on_timeout/s/true/false/' /etc/rspamd/local.d/options.inc", "C4",
             ("/etc/rspamd/local.d/options.inc",)),
    postfix("mail passes without the filter", "C4", "milter_default_action = accept"),
    Sabotage("signatures of long ago", "gateway", signatures(daily=9), "C5", undo=signatures()),
    Sabotage("a fix that waits", "watch",
             f"printf 'Origin: Debian\\nLabel: Debian-Security\\nSuite: stable-security\\n' > {_LISTS}_InRelease; "
             "printf 'Package: base-files\\nVersion: 99\\nArchitecture: amd64\\nMaintainer: x\\nDescription: x\\n"
             f"Filename: x\\nSize: 1\\nSHA256: 00\\n' > {_LISTS}_main_binary-amd64_Packages", "P1",
             undo=f"rm {_LISTS}_*"),
    Sabotage("an old kernel runs", "store", "touch /boot/vmlinuz-99.1.2-amd64", "P3",
             undo="rm /boot/vmlinuz-99.1.2-amd64"),
    Sabotage("a drill that was not good", "watch",
             f"cp -p {VERDICT} {VERDICT}.kept 2>/dev/null || true; echo '{{\"at\": 1, \"good\": false, "
             f"\"last_good\": 1, \"wrong\": 1, \"overdue\": 10}}' > {VERDICT}; chmod 644 {VERDICT}", "B2",
             undo=f"rm {VERDICT}; mv {VERDICT}.kept {VERDICT} 2>/dev/null || true"),
    Sabotage("logs that stay at home", "webmail", "systemctl stop syslog.socket rsyslog.service", "L1",
             undo="systemctl start syslog.socket rsyslog.service"),
    Sabotage("nobody listens for intruders", "firewall", "systemctl stop suricata.service", "I4",
             undo=f"systemctl start suricata.service; {_HEARS}"),
    Sabotage("rules for intruders are gone", "firewall", f": > {RULES}", "I4", (RULES,),
             f"systemctl restart suricata.service; {_HEARS}"),
    # Who asks the site is sent on to a resolver outside, which answers anybody.
    Sabotage("names for strangers", "firewall",
             "nft insert rule inet mastio forward iifname internet oifname internet accept; "
             "nft 'table ip sabotage { "
             "chain to { type nat hook prerouting priority -150; iifname internet ip daddr 203.0.113.1 udp dport 53 "
             "dnat to 203.0.113.53; }; "
             "chain from { type nat hook postrouting priority 50; oifname internet udp dport 53 masquerade; }; }'",
             "N1 N6 N7", undo="nft delete table ip sabotage; nft -f /etc/nftables.conf"),
    Sabotage("a disguise taken off", "firewall",
             "nft flush chain inet mastio arrival; nft flush chain inet mastio disguise; "
             "nft insert rule inet mastio input iifname internet accept", "N1 N3 N7",
             undo="nft -f /etc/nftables.conf"),
    # T6, T9 and T11 know another one; H7 finds the key.
    Sabotage("a weak key", "gateway",
             "cd /etc/postfix; umask 077; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=mx.fortress.test "
             "-keyout weak.pem -out weak.crt 2>/dev/null; cat weak.crt >>weak.pem; rm weak.crt; "
             "postconf -e 'smtpd_tls_chain_files = /etc/postfix/weak.pem' 'tls_high_cipherlist = ECDHE+AESGCM'",
             "H7 T4 T6 T9 T11", (_MAIN,), _POSTFIX, undo="rm /etc/postfix/weak.pem"),
    Sabotage("a clock that follows nobody", "webmail", "sed -i '/^server /d' /etc/chrony/chrony.conf", "H6",
             ("/etc/chrony/chrony.conf",), "systemctl restart chrony; n=8; "
             "! grep -q '^server ' /etc/chrony/chrony.conf || n=60; chronyc waitsync $n 0 0 1 >/dev/null || true"),
    # SQLite's abs() has no answer to the smallest number: asking for who is not there is an error.
    Sabotage("other words for unknown users", "store",
             "sed -i \"s/enabled = 1), '{ARGON2ID}[^']*')/enabled = 1), abs(-9223372036854775807 - 1))/\" "
             f"{_STORE}", "A3", (_STORE,), "doveadm reload; postfix reload 2>/dev/null; sleep 2"),
)  # fmt: skip


def rounds(sabotage: tuple[Sabotage, ...]) -> list[list[Sabotage]]:
    """Sabotage that fails different checks is done at once: a round takes as long as one."""
    found: list[list[Sabotage]] = []
    for one in sabotage:
        for fitting in found:
            # What Rspamd lets through once colours what it thinks of the next: one change of it at a time.
            rspamd = one.after == RSPAMD and any(other.after == RSPAMD for other in fitting)
            if not rspamd and not any(one.expected & other.expected for other in fitting):
                fitting.append(one)
                break
        else:
            found.append([one])
    return found


@contextmanager
def sabotaged(lab: Lab, *these: Sabotage) -> Iterator[None]:
    """The site with something broken; whole again afterwards."""

    def settle() -> None:
        # Once for all that ask for the same.
        for machine, after in dict.fromkeys((it.machine, it.after) for it in these if it.after):
            on(lab, machine, after)

    with ExitStack() as whole:

        def do(one: Sabotage) -> None:
            saved = " ".join(map(shlex.quote, one.files))
            # What is saved is kept here: a copy of a secret in an odd place there is what H7 looks for.
            kept = on(lab, one.machine, f"tar -cP {saved} | base64") if saved else ""
            back = "base64 -d | tar -xP" if saved else ":"
            whole.callback(on, lab, one.machine, f"{back}; {one.undo or ':'}", kept.encode())
            on(lab, one.machine, one.script)

        whole.callback(settle)
        for one in (it for it in these if it.after):
            do(one)
        settle()
        # What asks for no reload counts on none.
        for one in (it for it in these if not it.after):
            do(one)
        yield
