"""Where the lab keeps things on the box.

| | default | setting | holds |
|---|---|---|---|
| `cache()` | /var/cache/mastio | MASTIO_CACHE | images and packages, shared by all labs |
| `state(site)` | /var/lib/mastio/lab/SITE | MASTIO_STATE | what each machine wrote, the lab's ssh keys |
| `runtime(site)` | /run/mastio/lab/SITE | MASTIO_RUN | consoles, records of what runs |
"""

import os
from pathlib import Path


def cache() -> Path:
    """Images and packages."""
    return Path(os.environ.get("MASTIO_CACHE", "/var/cache/mastio"))


def state(site: str) -> Path:
    """What outlives a stop."""
    return Path(os.environ.get("MASTIO_STATE", "/var/lib/mastio")) / "lab" / site


def runtime(site: str) -> Path:
    """What ends with a stop."""
    return Path(os.environ.get("MASTIO_RUN", "/run/mastio")) / "lab" / site
