"""Properties of any sequence of changes, and of where mail leads."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mastio.accounts import directory
from mastio.accounts.ways import Ways, faults, recipients, untagged
from mastio.roles import store
from tests.unit.accounts.test_model import HASH

_SCHEMA = Path(store.__file__).with_name("directory.sql").read_text()
_DOMAINS = ("a.test", "b.test")
_ADDRESSES = st.sampled_from([f"{it}@{domain}" for it in ("u", "v", "w") for domain in _DOMAINS])
_TARGETS = st.lists(
    _ADDRESSES | st.sampled_from(["x@outside.test", "u+tag@a.test"]),
    min_size=1,
    max_size=2,
    unique=True,
)
_OPTIONAL = st.none() | st.lists(_ADDRESSES, max_size=2, unique=True)


def _change(do: str, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({"do": st.just(do), **fields}).map(
        lambda it: {key: value for key, value in it.items() if value is not None}
    )


_CHANGES = st.one_of(
    _change("add_domain", name=st.just("b.test"), catch_all=_ADDRESSES | st.just("")),
    _change("change_domain", name=st.sampled_from(_DOMAINS), catch_all=_ADDRESSES | st.just("")),
    _change("delete_domain", name=st.sampled_from(_DOMAINS)),
    _change(
        "add_user",
        address=_ADDRESSES,
        password=st.just(HASH),
        enabled=st.booleans(),
        forwards=_OPTIONAL,
    ),
    _change(
        "change_user", address=_ADDRESSES, enabled=st.none() | st.booleans(), forwards=_OPTIONAL
    ),
    _change("delete_user", address=_ADDRESSES),
    _change("add_alias", address=_ADDRESSES, targets=_TARGETS),
    _change("change_alias", address=_ADDRESSES, targets=_TARGETS),
    _change("delete_alias", address=_ADDRESSES),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_CHANGES, min_size=1, max_size=3), max_size=12))
def test_any_sequence_leaves_a_sound_directory(batches: list[list[dict[str, object]]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        request = directory.Request(
            path=f"{folder}/d.sqlite", schema=_SCHEMA, owner="nobody", vmail=folder, admin="u@a.test",
            duties=["postmaster"], reports=[], site_domains=["a.test"], changes=[], dry=False, want="recipients",
        )  # fmt: skip
        before = directory.answer(request)
        for batch in batches:
            after = directory.answer({**request, "changes": batch})
            if after["errors"]:
                after = directory.answer(request)
                assert after["recipients"] == before["recipients"]
            before = after
        listed = directory.answer({**request, "want": "listing"})
        ways = Ways(
            "u@a.test",
            ("postmaster",),
            {it["name"]: it["catch_all"] for it in listed["domains"]},
            {it["address"]: it["enabled"] for it in listed["users"]},
            {it["address"]: it["forwards"] for it in listed["users"] if it["forwards"]},
            {it["address"]: it["targets"] for it in listed["aliases"]},
        )
        assert faults(ways) == {}
        assert set(before["recipients"]) == _reachable(ways)
        assert not set(ways.enabled) & set(ways.aliases)


def _reachable(ways: Ways) -> set[str]:
    """The recipients, by growing the set instead of following ways."""
    live = {address for address, on in ways.enabled.items() if on}
    leads = {**ways.aliases, **{f"postmaster@{domain}": [ways.admin] for domain in ways.domains}}
    for _ in range(len(leads) + 1):
        for address, targets in leads.items():
            if any(ways.is_outside(it) or untagged(it) in live for it in targets):
                live.add(address)
    return live | {
        f"@{name}"
        for name, it in ways.domains.items()
        if it and (ways.is_outside(it) or it in live)
    }


def test_a_long_chain_and_a_large_loop() -> None:
    chain = Ways("a@x.test", (), {"x.test": ""}, {"end@x.test": True})
    names = [f"n{number}@x.test" for number in range(3000)]
    chain.aliases = {
        here: [there] for here, there in zip(names, [*names[1:], "end@x.test"], strict=True)
    }
    assert any("chain" in words for words in faults(chain))
    chain.aliases[names[-1]] = [names[0]]
    assert any("a loop" in words for words in faults(chain))


def test_a_hundred_thousand_accounts_are_no_trouble() -> None:
    ways = Ways("u0@x.test", ("postmaster",), {"x.test": ""})
    ways.enabled = {f"u{number}@x.test": True for number in range(100_000)}
    ways.aliases = {f"a{number}@x.test": [f"u{number}@x.test"] for number in range(20_000)}
    assert faults(ways) == {}
    assert len(recipients(ways)) == 120_001
