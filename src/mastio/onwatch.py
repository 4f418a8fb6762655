"""What mastio does on watch (`mastio.watch.PART`), asked from the administrator's side.

for event in onwatch.events(transport, "watch", "integrity", ["check", "store"]): …
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mastio.context import ON_WATCH
from mastio.errors import Exit, MastioError
from mastio.hearing import MOST
from mastio.transport import Transport


def events(
    transport: Transport,
    watch: str,
    part: str,
    words: Sequence[str],
    order: object = None,
    most: int = MOST,
) -> Iterator[dict[str, Any]]:
    """What a part says, an object a line, as it comes; `order` goes to its stdin as JSON. All of it has `most` octets.

    What it calls an error is raised as the MastioError that it was there.
    """
    stdin = b"" if order is None else json.dumps(order).encode()
    failed: MastioError | None = None
    try:
        for line in transport.stream(watch, [ON_WATCH, part, *words], stdin, most=most):
            event = json.loads(line)
            if "error" in event:
                failed = MastioError(event["error"], hint=event["hint"], code=Exit(event["code"]))
            else:
                yield event
    except MastioError as error:
        raise failed or error from None
    except ValueError:
        raise MastioError(f"{watch}: the answer makes no sense") from None
