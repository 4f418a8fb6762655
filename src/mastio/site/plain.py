"""A `Site` as JSON, and back: how a machine that verifies on its own knows what the site is.

The site file is for people and has defaults; this is the whole site, each default said.

>>> recall(record(site)) == site
True
"""

import json
import types
from dataclasses import asdict, fields, is_dataclass
from datetime import date
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Union, get_args, get_origin, get_type_hints

from mastio.site.model import Site

_READ = {
    IPv4Address: ip_address,
    IPv6Address: ip_address,
    IPv4Network: ip_network,
    IPv6Network: ip_network,
    date: date.fromisoformat,
}


def record(site: Site) -> str:
    """The site as JSON text, the same for the same site."""
    return json.dumps(asdict(site), default=str, indent=1) + "\n"


def recall(text: str) -> Site:
    """The site that `record` wrote. Raises ValueError when it is none, or another version's."""
    try:
        found = _value(Site, json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a site as this version writes it: {error}") from error
    assert isinstance(found, Site)  # noqa: S101 — for the type checker
    return found


def _value(kind: Any, plain: Any) -> Any:
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{it.name: _value(hints[it.name], plain[it.name]) for it in fields(kind)})  # type: ignore[operator]
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if plain is None:
            return None
        return _value(next(it for it in inner if it is not type(None)), plain)
    if origin is tuple and inner[-1] is Ellipsis:
        return tuple(_value(inner[0], it) for it in plain)
    if origin is tuple:
        return tuple(_value(*it) for it in zip(inner, plain, strict=True))
    if origin is frozenset:
        return frozenset(_value(inner[0], it) for it in plain)
    if issubclass(kind, Enum):
        return kind(plain)
    return _READ.get(kind, kind)(plain)
