"""Values of settings: from text or TOML to the annotated type, and back to JSON.

Annotations understood: int, float, str, bool, Path, Literal[...], tuple[T, ...], and T | None of any of them.
"""

import math
import types
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


def convert(annotation: Any, raw: object, *, is_text: bool) -> Any:
    """Value of type `annotation` made from `raw`.

    Parameters
    ----------
    annotation
        One of the annotations this module understands.
    raw
        Text of an option or environment variable (`is_text`), or a value as tomllib gives it.
    is_text
        Text may spell any type: "8,16" is a tuple, "none" is None, "yes" is a bool. TOML values must have the type
        themselves, except that a whole number serves as a float and "none" as None.

    Raises
    ------
    ValueError
        With what was expected, e.g. "a whole number".
    """
    member = optional_member(annotation)
    if member is not None:
        return None if is_none_word(raw) else convert(member, raw, is_text=is_text)
    origin = get_origin(annotation)
    if origin is Literal:
        return _literal(annotation, raw, is_text=is_text)
    if origin is tuple:
        return _tuple(annotation, raw, is_text=is_text)
    return _scalar(annotation, raw, is_text=is_text)


def optional_member(annotation: Any) -> Any:
    """T of `T | None`, None for an annotation that is not of that form."""
    if get_origin(annotation) in (types.UnionType, Union):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1 and len(get_args(annotation)) == 2:
            return members[0]
        raise TypeError(f"a setting cannot be of type {annotation}: only T | None is understood")
    return None


def is_none_word(raw: object) -> bool:
    """Whether text or a TOML string spells None."""
    return raw is None or (isinstance(raw, str) and raw.strip().lower() == "none")


def expected(annotation: Any) -> str:
    """What a value of the type looks like, for an error message."""
    member = optional_member(annotation)
    if member is not None:
        return f'{expected(member)} or "none"'
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"a list of {metavar(get_args(annotation)[0]).lower()} values, separated by commas in text"
    return {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}.get(annotation, "text")


def metavar(annotation: Any) -> str:
    """Placeholder of the value in a help page, e.g. INTEGER or INTEGER,..."""
    member = optional_member(annotation)
    if member is not None:
        return metavar(member)
    if get_origin(annotation) is Literal:
        return "|".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"{metavar(get_args(annotation)[0])},..."
    return {int: "INTEGER", float: "NUMBER", bool: "true|false", Path: "PATH"}.get(annotation, "TEXT")


def to_json(value: Any) -> Any:
    """JSON form of a setting: paths become text, tuples lists."""
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value


def shown(value: Any) -> str:
    """Setting as a user would type it."""
    if isinstance(value, (tuple, list)):
        return ",".join(shown(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    return str(value)


def _scalar(annotation: Any, raw: object, *, is_text: bool) -> Any:
    if annotation is bool:
        return _bool(raw, is_text=is_text)
    if annotation is int:
        return _int(raw, is_text=is_text)
    if annotation is float:
        return _float(raw, is_text=is_text)
    if annotation in (str, Path):
        if not isinstance(raw, str) and not (annotation is Path and isinstance(raw, Path)):
            raise ValueError(expected(annotation))
        return annotation(raw)
    raise TypeError(f"a setting cannot be of type {annotation}")


def _bool(raw: object, *, is_text: bool) -> bool:
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if is_text and isinstance(raw, str) else None
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return word in TRUE_WORDS
    raise ValueError(expected(bool))


def _int(raw: object, *, is_text: bool) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if is_text and isinstance(raw, str):
        with suppress(ValueError):
            return int(raw)
    raise ValueError(expected(int))


def _float(raw: object, *, is_text: bool) -> float:
    value = math.nan
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        value = float(raw)
    elif is_text and isinstance(raw, str):
        with suppress(ValueError):
            value = float(raw)
    if not math.isfinite(value):
        raise ValueError("a finite number" if isinstance(raw, float) else expected(float))
    return value


def _literal(annotation: Any, raw: object, *, is_text: bool) -> Any:
    for choice in get_args(annotation):
        same = str(choice) == raw if is_text else type(choice) is type(raw) and choice == raw
        if same:
            return choice
    raise ValueError(expected(annotation))


def _tuple(annotation: Any, raw: object, *, is_text: bool) -> tuple[Any, ...]:
    member = get_args(annotation)[0]
    if isinstance(raw, str) and is_text:
        raw = [part.strip() for part in raw.split(",")] if raw.strip() else []
    if not isinstance(raw, (list, tuple)):
        raise ValueError(expected(annotation))
    try:
        return tuple(convert(member, item, is_text=is_text) for item in raw)
    except ValueError:
        raise ValueError(expected(annotation)) from None
