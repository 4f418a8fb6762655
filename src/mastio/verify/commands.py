"""The command lines that checks run on the site's machines: all of them, so that a list can say so.

What a check asks in another way is a probe (`probes/`). On the machine outside, which is nobody's, checks
run the usual scanners as well.
"""

Command = tuple[str, ...]

HELLO: Command = ("true",)
SSHD: Command = ("/usr/sbin/sshd", "-T")
CLOCK: Command = ("chronyc", "-c", "tracking")
PACKAGES: Command = ("dpkg", "--verify")
PROTOCOLS: Command = ("doveconf", "-h", "protocols")
UPDATES: Command = ("apt-get", "-s", "-o", "Debug::NoLocking=1", "dist-upgrade")
"""What an upgrade would install; nothing is."""
FILTER_SECTIONS = ("antivirus", "force_actions", "options")
FILTER: Command = ("rspamadm", "configdump", "-j", *FILTER_SECTIONS)
"""Sections of Rspamd's configuration, as it understands them: a JSON object each, in this order."""
ROUNDCUBE_KEYS = (
    "use_https", "session_samesite", "display_product_info", "enable_installer", "login_rate_limit",
)  # fmt: skip
ROUNDCUBE: Command = (
    "php", "-r",
    "include '/etc/roundcube/config.inc.php'; foreach (array_slice($argv, 1) as $key) "
    "echo $key, ' ', isset($config[$key]) ? trim(var_export($config[$key], true), \"'\") : 'missing', \"\\n\";",
    "--", *ROUNDCUBE_KEYS,
)  # fmt: skip
"""What Roundcube's switches are, as PHP reads them, a line each."""

ALL: tuple[Command, ...] = (
    HELLO, SSHD, CLOCK, PACKAGES, PROTOCOLS, UPDATES, ROUNDCUBE, FILTER,
)  # fmt: skip
