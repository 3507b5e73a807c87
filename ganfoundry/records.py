"""Frozen dataclasses of numbers, names and tuples, read back from the JSON that describes a file."""

import json
from typing import Any, TypeVar

Record = TypeVar("Record")


def record_of_json(kind: type[Record], text: str, format: str | None = None) -> Record:
    """Build a dataclass from a JSON object of its fields; lists become tuples.

    Parameters
    ----------
    kind : a dataclass
    text : str
    format : str, optional
        What the object's own field "format" must say.

    Raises
    ------
    ValueError
        If the text is no such object, or the dataclass refuses it.
    """
    try:
        table: dict[str, Any] = json.loads(text)
        if format is not None and table.pop("format") != format:
            raise ValueError("another format")
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error
