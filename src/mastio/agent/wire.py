"""What the driver and the agent say to each other: the JSON shapes, typed once for both sides."""

from typing import TypedDict


class Node(TypedDict):
    """A path as it is. `kind`: absent, file, directory, link or other."""

    kind: str
    mode: int
    owner: str
    group: str
    digest: str
    target: str
    content: str | None
    """Only where the request asks for it, the digest differs, and it is text of at most 1 MiB."""


class UnitFact(TypedDict):
    """A unit, in the words of systemctl(1) show."""

    load: str
    active: str
    enabled: str


class Record(TypedDict):
    """What mastio remembers on the machine between runs."""

    generation: int
    """Grows with every write: an order made from an older observation is refused."""
    manifest: dict[str, str]
    """Each path that mastio put, and the fingerprint of what it put there."""
    secrets: list[str]
    """Paths whose content is secret: it is never sent back, even when the site forgets that."""
    units: dict[str, str]
    commands: dict[str, str]
    firewall: str
    """The digest of the *running* ruleset just after it was confirmed."""


class Listen(TypedDict):
    """A socket that should listen."""

    address: str
    port: int
    transport: str


class Look(TypedDict):
    """The observe request. `paths` maps each path to the digest it should have, or to a reason why
    its content must stay where it is: "" (not wanted) or "secret"."""

    op: str
    paths: dict[str, str]
    packages: list[str]
    users: list[str]
    units: list[str]
    listeners: list[Listen]
    firewall: bool


class Seen(TypedDict):
    """The answer to `Look`."""

    nodes: dict[str, Node]
    packages: list[str]
    users: dict[str, list[str]]
    units: dict[str, UnitFact]
    record: Record
    running: str
    silent: list[Listen]
    unfinished: bool


class Put(TypedDict):
    """A path as it shall be; `kind` absent removes it (a directory only when it is empty)."""

    path: str
    kind: str
    owner: str
    group: str
    mode: int
    content: str
    target: str
    secret: bool


class Account(TypedDict):
    """A system user: to be made (`create`), and to be in `groups`."""

    name: str
    home: str
    shell: str
    create: bool
    groups: list[str]


class Job(TypedDict):
    """A command line with a name: a check or a command."""

    name: str
    argv: list[str]


class Order(TypedDict):
    """The apply request: everything to do, nothing to decide."""

    op: str
    generation: int
    packages: list[str]
    debconf: list[str]
    users: list[Account]
    puts: list[Put]
    checks: list[Job]
    commands: list[Job]
    verbs: dict[str, list[str]]
    """systemctl verb → units; "retire" stops and disables units that left the site."""
    former: dict[str, UnitFact]
    """The units named in `verbs` as they were observed, for the way back."""
    active: list[str]
    """Units that must be active in the end."""
    oneshot: list[str]
    """Units that must not have failed in the end."""
    listeners: list[Listen]
    firewall: str
    """The ruleset to load, or "" to leave the firewall alone."""
    window: int
    """Seconds until an unconfirmed firewall goes back."""
    health: int
    """Seconds until everything must be healthy."""
    record: Record
    """What to remember after success (`generation` and `firewall` are the agent's own)."""
    die_at: str
    """For tests: the step at which the agent kills itself."""


class Event(TypedDict):
    """A line of progress; the last one has `done`."""

    step: str
    words: str
    done: bool
    ok: bool
    confirm: bool
    """The firewall waits for a confirmation."""
