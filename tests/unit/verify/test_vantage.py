"""What a machine may answer to a probe: what the probe returns, whoever has the machine."""

import importlib
import inspect
import json
import pkgutil
import time
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest

from mastio.errors import MastioError
from mastio.verify import probes
from mastio.verify.probes import host, state
from mastio.verify.vantage import Vantage, of_kind
from tests.unit.verify.fakes import Says, ground


def _store(said: str) -> Vantage:
    return Vantage("store", ground(Says(said)), time.monotonic() + 10)


@pytest.mark.parametrize(
    "said", ["", "{}", "[]", "5", "null", "[" * 100_000, '{"answer": 1' + "0" * 5000 + "}"]
)
def test_what_is_no_answer_could_not_be_checked(said: str) -> None:
    with pytest.raises(MastioError, match="the probe on store broke"):
        _store(said).ask(host.listeners)


@pytest.mark.parametrize(
    ("probe", "answer", "sound"),
    [
        (host.deleted, ["sshd: its program"], True),
        (host.deleted, [], True),
        (host.deleted, {}, False),
        (host.deleted, [5], False),
        (host.deleted, None, False),
        (host.listeners, [["tcp", "192.0.2.1", 25, "smtpd"]], True),
        (host.listeners, [5], False),
        (host.kernels, {"running": "6.12", "installed": []}, True),
        (host.kernels, [], False),
        (host.kernel, {"net.ipv4.tcp_syncookies": 1}, False),
        (state.facts, [{"unit": ["x"]}, {"bash": "5"}], True),
        (state.facts, [{"unit": ["x"]}], False),
        (state.facts, [{"unit": "x"}, {}], False),
        (host.superusers, "root", False),
    ],
)
def test_what_is_of_another_type_is_no_answer(
    probe: Callable[..., Any], answer: object, sound: bool
) -> None:
    said = _store(json.dumps({"answer": answer}))
    if sound:
        assert said.ask(probe) == answer
        return
    with pytest.raises(MastioError, match="the probe on store broke: its answer makes no sense"):
        said.ask(probe)


def test_one_that_may_be_missing_may_be_missing() -> None:
    kind = get_type_hints(host.daily)["return"]
    assert of_kind([1, 2, None], kind) and of_kind([1, 2, 3], kind)
    assert not of_kind([1, 2, "3"], kind) and not of_kind([1, 2], kind)


def _probes() -> Iterator[Callable[..., Any]]:
    for found in pkgutil.iter_modules(probes.__path__):
        module = importlib.import_module(f"{probes.__name__}.{found.name}")
        for name, it in inspect.getmembers(module, inspect.isfunction):
            if it.__module__ == module.__name__ and not name.startswith("_"):
                yield it


@pytest.mark.parametrize("probe", [*_probes()], ids=lambda it: f"{it.__module__}.{it.__name__}")
def test_every_probe_says_what_it_returns_as_json_has_it(probe: Callable[..., Any]) -> None:
    kind = get_type_hints(probe)["return"]
    for it in (None, 5, "x", [], [1, 2], [{}], {}, {"x": 1}):
        assert of_kind(it, kind) in (True, False)


def test_who_says_much_many_times_is_stopped_and_others_are_asked_on() -> None:
    """All answers of a run are kept."""
    ours = ground(Says('{"answer": [' + '"x",' * 700_000 + '"x"]}'))
    store, webmail = (Vantage(it, ours, time.monotonic() + 60) for it in ("store", "webmail"))
    assert [len(store.ask(host.exists, [it])) for it in "ab"] == [700_001] * 2
    with pytest.raises(MastioError, match="store answers with more than 8,388,608 octets"):
        store.ask(host.exists, ["c"])
    assert len(webmail.ask(host.exists, ["a"])) == 700_001
