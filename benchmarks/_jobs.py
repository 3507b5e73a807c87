"""What the jobs of a benchmark leave behind: a result each when it is done, and arrays that several need."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganfoundry.gan.train_data import write_atomically


def read_result(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """A job's result, if it is there, whole, and of this identity."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found if found["identity"] == json.loads(json.dumps(identity)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_result(path: Path, identity: Mapping[str, Any], figures: Mapping[str, float], cpu_seconds: float) -> None:
    """Write a job's result whole or not at all."""
    table = {
        "identity": identity,
        "figures": {name: round(value, 5) for name, value in figures.items()},
        "cpu_seconds": round(cpu_seconds, 1),
    }
    write_atomically(path, (json.dumps(table, indent=1) + "\n").encode())


def cached(path: Path, make: Callable[[], Mapping[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    """Arrays of a file, made and written if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez(stream, **make())  # type: ignore[arg-type]
        write_atomically(path, stream.getbuffer())
    with np.load(path) as file:
        return dict(file)
