import re
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.values import convert, expected, metavar, shown, to_json

WORD = st.text("abcxyz09_-./", min_size=1, max_size=12)
TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(10**12), 10**12)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, WORD),
    (Path, WORD.map(Path)),
    (Literal["a", "b", 3], st.sampled_from(["a", "b", 3])),
    (tuple[int, ...], st.lists(st.integers(-99, 99), max_size=5).map(tuple)),
    (tuple[str, ...], st.lists(WORD, max_size=4).map(tuple)),
    (tuple[float, ...], st.lists(st.floats(-9, 9), max_size=4).map(tuple)),
    (int | None, st.none() | st.integers()),
    (Path | None, st.none() | WORD.map(Path)),
]


@pytest.mark.parametrize(("annotation", "values"), TYPES, ids=lambda item: str(item)[:30])
def test_text_and_toml_give_the_value_back(annotation: Any, values: st.SearchStrategy[Any]) -> None:
    @given(values)
    def check(value: Any) -> None:
        from_text = convert(annotation, shown(value), is_text=True)
        assert from_text == value
        assert type(from_text) is type(value)
        in_toml = "none" if value is None else to_json(value)
        assert convert(annotation, in_toml, is_text=False) == value

    check()


@pytest.mark.parametrize(
    ("annotation", "raw", "message"),
    [
        (int, "1.5", "a whole number"),
        (int, "many", "a whole number"),
        (float, "nan", "a number"),
        (float, "inf", "a number"),
        (bool, "perhaps", "true or false"),
        (Literal["a", "b"], "c", "one of a, b"),
        (tuple[int, ...], "4,x", "a list of integer values, separated by commas in text"),
        (int | None, "x", "a whole number"),
    ],
)
def test_bad_text_says_what_was_expected(annotation: Any, raw: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        convert(annotation, raw, is_text=True)


@pytest.mark.parametrize(
    ("annotation", "raw"),
    [
        (int, True),
        (int, 1.0),
        (int, "1"),
        (float, "1"),
        (float, True),
        (float, float("nan")),
        (bool, 1),
        (bool, "yes"),
        (str, 3),
        (Path, 3),
        (tuple[int, ...], 3),
        (tuple[int, ...], "3"),
        (tuple[int, ...], [1, "2"]),
        (Literal["1"], 1),
    ],
)
def test_toml_values_must_have_the_type(annotation: Any, raw: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        convert(annotation, raw, is_text=False)


def test_whole_numbers_serve_as_floats() -> None:
    value = convert(float, 1, is_text=False)
    assert value == 1.0
    assert isinstance(value, float)


def test_types_that_are_not_understood_are_refused() -> None:
    with pytest.raises(TypeError, match=r"only T \| None"):
        convert(int | str, "1", is_text=True)
    with pytest.raises(TypeError, match="cannot be of type"):
        convert(dict, "1", is_text=True)


def test_words_for_help_pages() -> None:
    assert metavar(tuple[int, ...]) == "INTEGER,..."
    assert metavar(Literal["a", "b"] | None) == "a|b"
    assert expected(Path | None) == 'a path or "none"'
