"""Packs the agent's modules into one program for `Transport.run_python`."""

import json
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent
_OBSERVE = ("wire", "machine", "firewall", "observe")
_ALL = (*_OBSERVE, "journal", "stage", "packages", "units", "apply", "main")

_LOADER = """\
import sys, types
for name in ("mastio", "mastio.agent"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, text in {modules}.items():
    module = sys.modules["mastio.agent." + name] = types.ModuleType("mastio.agent." + name)
    setattr(sys.modules["mastio.agent"], name, module)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
{start}
"""


@cache
def observer() -> str:
    """The program that answers `wire.Look`: it is small, since a plan waits for it."""
    start = (
        "import json\n"
        "json.dump(sys.modules['mastio.agent.observe'].observe(json.loads(PAYLOAD)), sys.stdout)"
    )
    return _pack(_OBSERVE, start)


@cache
def applier() -> str:
    """The program that carries out `wire.Order`, and confirms."""
    return _pack(_ALL, "sys.modules['mastio.agent.main'].main(PAYLOAD)")


def _pack(names: tuple[str, ...], start: str) -> str:
    modules = {name: (_FOLDER / f"{name}.py").read_text("utf-8") for name in names}
    # JSON strings are Python strings: the program is plain text whatever the modules contain.
    return _LOADER.format(modules=json.dumps(modules), start=start)
