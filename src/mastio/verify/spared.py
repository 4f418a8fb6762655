"""While the site is verified, its bans leave the machine outside alone: its probes are offences.

The firewall forgets whom it spares within the hour, so a verification that is killed leaves nothing open
for long.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from mastio.bans import SPARED, Bans
from mastio.errors import MastioError
from mastio.transport import OUTSIDE
from mastio.verify.doors import doors
from mastio.verify.model import Check
from mastio.verify.probes import scan
from mastio.verify.vantage import Ground, Vantage

_SECONDS = 20.0


@contextmanager
def spared(ground: Ground, checks: Iterable[Check]) -> Iterator[None]:
    """No ban for the machine outside within, if any of `checks` looks from there.

    When it or the firewall does not answer, the checks will say so.
    """
    bans, mine = Bans(ground.site, ground.transport), []
    if ground.outside and any(OUTSIDE in it.vantages(ground.site) for it in checks):
        public = {str(it.address) for it in doors(ground.matrix, OUTSIDE)}
        vantage = Vantage(OUTSIDE, ground, monotonic() + _SECONDS)
        with suppress(MastioError, OSError):
            mine = [it for it in vantage.ask(scan.towards, sorted(public)) if it]
            bans.spare(mine, SPARED)
    try:
        yield
    finally:
        with suppress(MastioError, OSError):
            bans.spare(mine, 0)
