"""interpreter.json: what the weights beside it mean."""

import json
from pathlib import Path
from typing import Any

from ganfoundry.errors import InputError


def interpreter_description(folder: str | Path, generator_sha256: str) -> dict[str, Any]:
    """Read the description of an interpreter for one generator.

    Parameters
    ----------
    folder : of the interpreter
    generator_sha256 : of the generator that it shall label

    Raises
    ------
    InputError
        If the file cannot be read, or the interpreter was trained on another generator's feature maps.
    """
    path = Path(folder) / "interpreter.json"
    try:
        table: dict[str, Any] = json.loads(path.read_text("utf-8"))
        trained_on = table["generator_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}; train the interpreter again") from None
    if trained_on != generator_sha256:
        raise InputError(
            f"the interpreter in {folder} reads the generator {trained_on[:12]}..., not {generator_sha256[:12]}...: "
            "train one for this generator"
        )
    return table
