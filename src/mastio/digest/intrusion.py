"""Suricata's lines: an alert as JSON (EVE), and what it says of itself.

>>> alert(b'{"event_type":"alert","alert":{"signature":"mastio: a > b smtp: not smtp","severity":1,…},…}').between
'a > b'
"""

import json
from dataclasses import dataclass
from ipaddress import ip_address

from mastio.digest.lines import UNREADABLE, Program, Reader
from mastio.intrusion import INSIDE, MARK

TAG = "suricata"
"""The tag of its lines."""
_ALERT = b'{"timest'


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert."""

    rule: str
    """What the rule says, without our mark."""
    severity: int
    """Suricata's priority, 1 the worst."""
    client: str
    """Who began the conversation, and with whom: addresses as people write them."""
    server: str
    own: bool
    """Whether the rule comes from the flow matrix."""
    seen: str
    """The protocol that Suricata took it for; `failed`: none that it knows."""

    @property
    def between(self) -> str:
        """Whose conversation it was: names where the rule has them, else addresses."""
        if self.own:
            return self.rule.partition(":")[0].rpartition(" ")[0]
        return f"{self.client} > {self.server}"

    @property
    def words(self) -> str:
        """The rule, and what was spoken instead."""
        if not self.own or self.seen in ("", "failed", "unknown"):
            return self.rule
        return f"{self.rule} ({self.seen})"

    @property
    def inside(self) -> bool:
        """Whether a rule of the flow matrix is about what a machine of the site did."""
        return self.own and self.severity <= INSIDE


def alert(text: bytes) -> Alert | None:
    """The alert that a line's text is; None when it is none."""
    try:
        said = json.loads(text)
        if said["event_type"] != "alert":
            return None
        rule, severity = str(said["alert"]["signature"]), int(said["alert"]["severity"])
        client, server = (str(ip_address(said[it])) for it in ("src_ip", "dest_ip"))
        if said.get("direction") == "to_client":
            client, server = server, client
        seen = str(said.get("app_proto", ""))
    except (*UNREADABLE, TypeError):
        return None
    own = rule.startswith(MARK)
    return Alert(rule.removeprefix(MARK) if own else rule, severity, client, server, own, seen)


def _met(reader: Reader, group: str, one: Alert, text: bytes, line: bytes) -> None:
    flows = reader.memory.flows
    if flows.new(reader.machine, group, one.rule):
        reader.news("alerts", one.words, text, line)
        reader.filled(flows, group)


def program(name: str, reader: Reader) -> Program:
    """The reader of its lines."""

    def alerted(text: bytes, line: bytes) -> None:
        tally, one = reader.tally, alert(text)
        if one is None:
            tally.counts["reading.unreadable"] += 1
            return
        tally.counts["intrusion.inside" if one.inside else "intrusion.others"] += 1
        tally.tops["intrusion"][one.words.encode()] += 1
        tally.tops["intrusion between"][one.between.encode()] += 1
        tally.tops["intrusion sources"][one.client.encode()] += 1
        group = one.between if one.own else "others' rules"
        reader.then(_met, f"{TAG} {group}", one, text, line)

    return Program({_ALERT: alerted}, lambda text, line: reader.odd(name, text, line))
