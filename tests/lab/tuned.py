"""A site with other settings for a while: `with tuned(lab, "[bans]\\nfailures = 3\\n"): …`."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.conftest import TheLab as Lab


@contextmanager
def tuned(lab: Lab, settings: str, *machines: str) -> Iterator[None]:
    """Adds tables to the site file and applies it (to these machines alone); afterwards everything is as before."""
    before = (lab.folder / "site.toml").read_text()
    with rewritten(lab, f"{before}\n{settings}", *machines):
        yield


@contextmanager
def rewritten(lab: Lab, text: str, *machines: str) -> Iterator[None]:
    """The same with another site file altogether."""
    path = lab.folder / "site.toml"
    before = path.read_text()
    path.write_text(text)
    try:
        lab.mastio("apply", "--yes", *machines)
        yield
    finally:
        path.write_text(before)
        lab.mastio("apply", "--yes", *machines)
