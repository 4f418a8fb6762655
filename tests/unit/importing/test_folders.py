"""What folders are called here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mastio.errors import Exit, MastioError
from mastio.importing.folders import Names, clean, decoded, parts_of
from mastio.restoring.maildir import folder_of, name_of, to_utf7


@pytest.mark.parametrize(
    ("folder", "parts"),
    [
        (".Work.2026", ("Work", "2026")),
        (".Work.Gr&APYA3w-e", ("Work", "Größe")),
        (".R&-D", ("R&D",)),
        (".R&D", ("R&D",)),  # as it stands: no base64
        (".&ZeVnLIqe-", ("日本語",)),
        (".Größe", ("Größe",)),
    ],
)
def test_directories_have_names(folder: str, parts: tuple[str, ...]) -> None:
    assert parts_of(folder) == parts


@pytest.mark.parametrize(
    ("names", "parts", "use", "here"),
    [
        (Names(), (), "", "INBOX"),
        (Names(), ("inbox",), "", "INBOX"),
        (Names(), ("Work", "v1.2"), "", "Work/v1_2"),
        (Names(), ("Gesendet",), "Sent", "Sent"),
        (Names(renamed={"Gesendet": "Gesendet"}), ("Gesendet",), "Sent", "Gesendet"),
        (Names(renamed={"Old": "New/Place"}), ("Old", "2026"), "", "New/Place/2026"),
        (Names(renamed={"Old": "New"}), ("Older",), "", "Older"),
        (Names(into="From there"), (), "", "From there"),
        (Names(into="a/b"), ("Work",), "", "a/b/Work"),
        (Names(skipped=frozenset({"Work"})), ("Work", "2026"), "", None),
        (Names(skipped=frozenset({"Work"})), ("Works",), "", "Works"),
        (Names(skipped=frozenset({"INBOX"})), (), "", None),
    ],
)
def test_names(names: Names, parts: tuple[str, ...], use: str, here: str | None) -> None:
    assert names.here(parts, use) == here


@pytest.mark.parametrize(
    ("names", "parts", "code", "said"),
    [
        (Names(into="a.b"), ("Work",), Exit.USAGE, "not the name of a folder"),
        (Names(into="a//b"), ("Work",), Exit.USAGE, "not the name of a folder"),
        (Names(), ("x" * 201,), Exit.DATA, "is too long"),
    ],
)
def test_refusals(names: Names, parts: tuple[str, ...], code: Exit, said: str) -> None:
    with pytest.raises(MastioError, match=said) as caught:
        names.here(parts)
    assert caught.value.code is code


@given(st.lists(st.text(max_size=8), max_size=4))
def test_whatever_it_was_called_dovecot_can_hold_it(parts: list[str]) -> None:
    here = Names().here(tuple(it.encode("utf-8", "replace").decode() for it in parts))
    assert here
    assert name_of(folder_of(here)) == here


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_utf7_goes_there_and_back(text: str) -> None:
    assert decoded(to_utf7(text)) == text


@given(st.text(max_size=12))
def test_no_part_separates(text: str) -> None:
    assert clean(text) and not {*clean(text)} & {*"./\n\0"}
