"""Configuration of a stage: one frozen dataclass, filled from options, environment, TOML and defaults.

    @dataclass(frozen=True, kw_only=True)
    class Config:
        truncation: float = param(0.7, "Truncation psi of the content codes.", min=0.0, max=1.0)

Precedence: option > environment (GANFOUNDRY_<STAGE>_<KEY>) > TOML table > default. A key that does not exist is an
error that suggests the right one, and every error says where the value came from.
"""

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import UserError, exit_code_of
from pipeline.values import convert, shown

ENVIRONMENT_PREFIX = "GANFOUNDRY_"
RESERVED_VARIABLES = frozenset({"GANFOUNDRY_DEBUG"})

C = TypeVar("C")


def param(
    default: Any,
    help: str,
    *,
    min: float | None = None,
    max: float | None = None,
    choices: Sequence[Any] | None = None,
    content: bool = False,
    resumes: bool = False,
    positional: bool = False,
) -> Any:
    """Field of a Config.

    Parameters
    ----------
    default
        Value when nothing else is given; `...` makes the setting obligatory.
    help
        One sentence for the help page, with the unit.
    min, max
        Inclusive range; for a tuple, of every element.
    choices
        Allowed values; for a tuple, of every element.
    content
        The value may name a file or folder whose content the result depends on: the fingerprint then holds the
        content's digest instead of the name. Fields annotated `Path` are always treated so.
    resumes
        A stage whose output lies there and was made with another value of this setting goes on from it, instead of
        emptying the folder: how long to train, on which device.
    positional
        For tuples: given as the command's arguments, one value each, instead of by an option.
    """
    metadata = {"help": help, "min": min, "max": max, "choices": choices, "content": content, "resumes": resumes}
    metadata["positional"] = positional
    if default is ...:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One setting of a Config: its name, type, default, range and help."""

    name: str
    annotation: Any
    default: Any
    help: str
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] | None = None
    content: bool = False
    resumes: bool = False
    positional: bool = False
    flag: str = ""

    @property
    def option(self) -> str:
        """Spelling on the command line, e.g. --num-objects; of arguments, e.g. IMAGES..."""
        return f"{self.name.upper()}..." if self.positional else self.flag or "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is dataclasses.MISSING

    @property
    def range(self) -> str:
        """Allowed values in words, empty when everything of the type is allowed."""
        if self.choices is not None:
            return "one of " + ", ".join(shown(choice) for choice in self.choices)
        if self.min is not None and self.max is not None:
            return f"{shown(self.min)} to {shown(self.max)}"
        if self.min is not None:
            return f"{shown(self.min)} or more"
        return "" if self.max is None else f"{shown(self.max)} or less"

    def check(self, value: Any) -> None:
        """Raise ValueError with the allowed range when a value lies outside it."""
        for item in value if isinstance(value, tuple) else (value,):
            if item is None:
                continue
            too_small = self.min is not None and item < self.min
            too_large = self.max is not None and item > self.max
            if too_small or too_large or (self.choices is not None and item not in self.choices):
                raise ValueError(self.range)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Value of a parameter and where it came from: default, a TOML file, an environment variable or an option."""

    value: Any
    source: str


def parameters(config_type: type) -> tuple[Parameter, ...]:
    """Every setting of a Config, in the order they are written. Annotations may be strings."""
    hints = typing.get_type_hints(config_type)
    found = []
    for field in dataclasses.fields(config_type):
        meta = field.metadata
        choices = meta.get("choices")
        found.append(
            Parameter(
                name=field.name,
                annotation=hints[field.name],
                default=field.default,
                help=meta.get("help", ""),
                min=meta.get("min"),
                max=meta.get("max"),
                choices=None if choices is None else tuple(choices),
                resumes=bool(meta.get("resumes")),
                positional=bool(meta.get("positional")),
                content=bool(meta.get("content")) or Path in (hints[field.name], *typing.get_args(hints[field.name])),
            )
        )
    return tuple(found)


def resolve(
    config_type: type[C],
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    stage: str = "",
    file: str = "the TOML table",
) -> C:
    """Config from all its sources.

    Parameters
    ----------
    config_type
        Frozen dataclass made of `param` fields.
    table
        The stage's TOML table.
    environ
        Environment variables; those starting with GANFOUNDRY_<STAGE>_ are read.
    options
        Text (bool for flags, a tuple for arguments) by parameter name; None and () mean not given.
    stage, file
        Names for the variables and the messages.

    Raises
    ------
    UserError
        An unknown key, a value of the wrong type or outside its range, a missing obligatory setting.
    """
    settings = resolve_settings(parameters(config_type), table, environ, options, stage=stage, file=file)
    return build(config_type, settings, stage)


def build(config_type: type[C], settings: Mapping[str, Setting], stage: str) -> C:
    """Config holding the values of `settings`; what its `__post_init__` refuses becomes a UserError."""
    try:
        return config_type(**{key.name: settings[key.name].value for key in parameters(config_type)})
    except (ValueError, TypeError) as error:
        if exit_code_of(error) is not None:
            raise
        raise UserError(f"{stage}: {error}" if stage else str(error)) from None


def resolve_settings(
    keys: Iterable[Parameter],
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    stage: str = "",
    file: str = "the TOML table",
) -> dict[str, Setting]:
    """Value and source of every parameter; see `resolve`."""
    by_name = {key.name: key for key in keys}
    prefix = variable_prefix(stage)
    variables = {name[len(prefix) :].lower(): name for name in environ if stage and name.startswith(prefix)}
    where = f"{file} [{stage}]" if stage else file
    refuse_unknown_keys(table, by_name, stage=stage, file=file)
    _refuse_unknown(
        variables,
        by_name,
        lambda name: f"unknown environment variable {variables[name]}",
        spell=lambda name: prefix + name.upper(),
    )
    settings = {}
    for name, key in by_name.items():
        if options.get(name) not in (None, ()):
            settings[name] = _checked(key, options[name], f"option {key.option}", is_text=True)
        elif name in variables:
            settings[name] = _checked(key, environ[variables[name]], f"environment {variables[name]}", is_text=True)
        elif name in table:
            settings[name] = _checked(key, table[name], where, is_text=False)
        elif key.required:
            raise UserError(f"{stage or file} needs a value for {name}: give {key.option} or set {name} in [{stage}].")
        else:
            settings[name] = Setting(key.default, "default")
    return settings


def variable_prefix(stage: str) -> str:
    """Start of the stage's environment variables, e.g. GANFOUNDRY_GENERATE_VIEWS_."""
    return f"{ENVIRONMENT_PREFIX}{stage.upper().replace('-', '_')}_"


def own_variables(environ: Mapping[str, str], stage: str, stages: Collection[str]) -> dict[str, str]:
    """Environment without the variables of stages whose names go on from this one's: export-labels from export."""
    longer = tuple(variable_prefix(name) for name in stages if name.startswith(f"{stage}-"))
    return {name: value for name, value in environ.items() if not (longer and name.startswith(longer))}


def check_environment(environ: Mapping[str, str], stages: Collection[str]) -> None:
    """Refuse a variable with our prefix that belongs to no stage.

    Raises
    ------
    UserError
        Naming the variable and the nearest stage.
    """
    prefixes = tuple(variable_prefix(stage) for stage in stages)
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in RESERVED_VARIABLES or name.startswith(prefixes):
            continue
        nearest = max(prefixes, key=lambda prefix: difflib.SequenceMatcher(None, name[: len(prefix)], prefix).ratio())
        raise UserError(f"unknown environment variable {name}: no stage has that name, the nearest is {nearest}<KEY>.")


def read_toml(path: Path, stages: Collection[str] | None) -> dict[str, dict[str, Any]]:
    """Tables of a configuration file, one a stage and [run].

    Raises
    ------
    UserError
        The file is missing or not TOML, a key stands outside a table, or a table belongs to no stage.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file; configs/ has some to start from.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML: {error}.") from None
    if stages is not None:
        _refuse_unknown(content, {*stages, "run"}, lambda name: f"unknown table [{name}] in {path}")
    for name, table in content.items():
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} must be a table, written [{name}].")
    return content


def refuse_unknown_keys(table: Iterable[str], known: Collection[str], *, stage: str, file: str) -> None:
    """Raise UserError for a key of a TOML table that the stage does not have, with a suggestion."""
    _refuse_unknown(table, known, lambda name: f'unknown key "{name}" in {file} [{stage}]')


def suggest(name: str, known: Iterable[str]) -> str:
    """Nearest known name, or empty text when none is near."""
    near = difflib.get_close_matches(name.lower().replace("-", "_"), [word.replace("-", "_") for word in known], n=1)
    spelt = {word.replace("-", "_"): word for word in known}
    return spelt[near[0]] if near else ""


def _refuse_unknown(names: Iterable[str], known: Collection[str], what: Any, spell: Any = str) -> None:
    for name in names:
        if name in known:
            continue
        near = suggest(name, known)
        hint = f"did you mean {spell(near)}?" if near else "known: " + ", ".join(spell(word) for word in sorted(known))
        raise UserError(f"{what(name)}: {hint}")


def _checked(key: Parameter, raw: object, source: str, *, is_text: bool) -> Setting:
    try:
        value = convert(key.annotation, raw, is_text=is_text and not isinstance(raw, bool))
    except ValueError as error:
        raise UserError(f"{key.name} = {_quoted(raw)} ({source}): expected {error}.") from None
    try:
        key.check(value)
    except ValueError as error:
        raise UserError(f"{key.name} = {shown(raw)} ({source}) is out of range: allowed is {error}.") from None
    return Setting(value, source)


def _quoted(raw: object) -> str:
    return f'"{raw}"' if isinstance(raw, str) else shown(raw)
