import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from pipeline.config import (
    Setting,
    check_environment,
    param,
    parameters,
    read_toml,
    resolve,
    resolve_settings,
    suggest,
)
from pipeline.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    count: int = param(10, "How many.", min=1, max=100)
    truncation: float = param(0.7, "Psi.", min=0.0, max=1.0)
    name: str = param("cars", "Name.")
    mode: "Literal['fast', 'fine']" = param("fast", "Mode.")
    layers: tuple[int, ...] = param((4, 8), "Layers.", min=4, max=64)
    crop: bool = param(False, "Crop.")
    folder: Path | None = param(None, "Folder.")
    level: int = param(12, "Level.", choices=(5, 12))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strict:
    source: str = param(..., "Obligatory.")
    low: int = param(0, "Low.")
    high: int = param(1, "High.")

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")


def settings(table: Any = (), environ: Any = (), options: Any = ()) -> dict[str, Setting]:
    return resolve_settings(
        parameters(Config), dict(table), dict(environ), dict(options), stage="make-it", file="a.toml"
    )


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "count": st.integers(1, 100),
    "truncation": st.floats(0, 1),
    "name": st.text("abc", min_size=1),
    "mode": st.sampled_from(["fast", "fine"]),
    "layers": st.lists(st.integers(4, 64)).map(tuple),
    "crop": st.booleans(),
    "folder": st.none() | st.just(Path("a/b")),
    "level": st.sampled_from([5, 12]),
}
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}


def as_text(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def as_toml(value: Any) -> Any:
    if value is None:
        return "none"
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


@budget(max_examples=60)
@given(st.data())
def test_precedence_in_every_combination(data: st.DataObject) -> None:
    table, environ, options, wanted = {}, {}, {}, {}
    for name, values in VALUES.items():
        wanted[name] = Setting(DEFAULTS[name], "default")
        if data.draw(st.booleans()):
            value = data.draw(values)
            table[name] = as_toml(value)
            wanted[name] = Setting(value, "a.toml [make-it]")
        if data.draw(st.booleans()):
            value, variable = data.draw(values), f"GANFOUNDRY_MAKE_IT_{name.upper()}"
            environ[variable] = as_text(value)
            wanted[name] = Setting(value, f"environment {variable}")
        if data.draw(st.booleans()):
            value = data.draw(values)
            options[name] = value if isinstance(value, bool) else as_text(value)
            wanted[name] = Setting(value, f"option --{name}")
    assert settings(table, environ, options) == wanted


@given(st.sampled_from(sorted(VALUES)), st.data())
def test_a_misspelt_key_is_refused_with_the_right_one(name: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from("xq"))
    wrong = name[:position] + letter + name[position + 1 :]
    with pytest.raises(UserError) as toml:
        settings({wrong: 1})
    assert str(toml.value) == f'unknown key "{wrong}" in a.toml [make-it]: did you mean {name}?'
    with pytest.raises(UserError) as variable:
        settings(environ={f"GANFOUNDRY_MAKE_IT_{wrong.upper()}": "1"})
    assert str(variable.value) == (
        f"unknown environment variable GANFOUNDRY_MAKE_IT_{wrong.upper()}: "
        f"did you mean GANFOUNDRY_MAKE_IT_{name.upper()}?"
    )


def test_a_key_like_no_other_lists_them_all() -> None:
    with pytest.raises(UserError, match=r'unknown key "zzz" in a.toml \[make-it\]: known: count, crop, folder'):
        settings({"zzz": 1})


def test_a_dash_in_a_toml_key_is_a_misspelling() -> None:
    assert suggest("view-set", ["view_set"]) == "view_set"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"table": {"count": 0}}, "count = 0 (a.toml [make-it]) is out of range: allowed is 1 to 100."),
        ({"table": {"count": "10"}}, 'count = "10" (a.toml [make-it]): expected a whole number.'),
        ({"table": {"layers": [4, 128]}}, "layers = 4,128 (a.toml [make-it]) is out of range: allowed is 4 to 64."),
        (
            {"environ": {"GANFOUNDRY_MAKE_IT_TRUNCATION": "1.5"}},
            "truncation = 1.5 (environment GANFOUNDRY_MAKE_IT_TRUNCATION) is out of range: allowed is 0.0 to 1.0.",
        ),
        (
            {"environ": {"GANFOUNDRY_MAKE_IT_CROP": "maybe"}},
            'crop = "maybe" (environment GANFOUNDRY_MAKE_IT_CROP): expected true or false.',
        ),
        ({"options": {"mode": "slow"}}, 'mode = "slow" (option --mode): expected one of fast, fine.'),
        ({"options": {"level": "7"}}, "level = 7 (option --level) is out of range: allowed is one of 5, 12."),
    ],
)
def test_errors_name_key_value_source_and_range(source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        settings(**source)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_other_stages_variables_are_not_ours() -> None:
    assert settings(environ={"GANFOUNDRY_MAKE_COUNT": "5", "PATH": "x"})["count"].value == 10


def test_obligatory_settings_and_cross_checks() -> None:
    with pytest.raises(UserError, match=r"load needs a value for source: give --source or set source in \[load\]"):
        resolve(Strict, {}, {}, {}, stage="load")
    with pytest.raises(UserError, match=r"^load: low \(3\) must be below high \(1\)$"):
        resolve(Strict, {"source": "x", "low": 3}, {}, {}, stage="load")
    assert resolve(Strict, {"source": "x"}, {}, {"high": "9"}, stage="load") == Strict(source="x", high=9)


def test_parameters_of_string_annotations_and_paths() -> None:
    found = {key.name: key for key in parameters(Config)}
    assert found["mode"].range == ""
    assert found["folder"].content
    assert not found["name"].content
    assert [found[name].range for name in ("count", "level")] == ["1 to 100", "one of 5, 12"]


def test_toml_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    with pytest.raises(UserError, match=r"c.toml: no such configuration file"):
        read_toml(path, ["make-it"])
    path.write_text("[make-it\n", "utf-8")
    with pytest.raises(UserError, match=r"c.toml cannot be read as TOML: .*line 1"):
        read_toml(path, ["make-it"])
    path.write_text("[make-its]\n", "utf-8")
    with pytest.raises(UserError, match=r"unknown table \[make-its\] in .*c.toml: did you mean make-it\?"):
        read_toml(path, ["make-it"])
    path.write_text("run = 3\n", "utf-8")
    with pytest.raises(UserError, match=r"run must be a table, written \[run\]"):
        read_toml(path, ["make-it"])
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read as TOML"):
        read_toml(path, None)


def test_variables_of_no_stage_are_refused() -> None:
    stages = ["generate-views", "run"]
    check_environment({"GANFOUNDRY_DEBUG": "1", "GANFOUNDRY_RUN_NAME": "x", "GANFOUNDRY_GENERATE_VIEWS_Q": "1"}, stages)
    with pytest.raises(UserError) as caught:
        check_environment({"GANFOUNDRY_GENERATE_VIEW_SEED": "1"}, stages)
    assert str(caught.value) == (
        "unknown environment variable GANFOUNDRY_GENERATE_VIEW_SEED: no stage has that name, "
        "the nearest is GANFOUNDRY_GENERATE_VIEWS_<KEY>."
    )
