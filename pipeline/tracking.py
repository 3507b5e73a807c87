"""Curves of a run: one JSON line a step, pictures as PNG files beside it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tracker:
    """Appends to `track/log.jsonl` in a stage's folder; a tracker without a folder forgets.

    A torn last line, left by a killed run, is cut off when the file is opened.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._ready = False

    def log(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: "Mapping[str, NDArray[np.uint8]] | None" = None,
    ) -> None:
        """Record scalars by name at a step, and pictures of shape (H, W, 3) or (H, W), uint8.

        A picture goes to `track/<step>-<name>.png`; its line holds the file name.
        """
        if self.folder is None:
            return
        path = self._open()
        line: dict[str, Any] = {"step": int(step), "time": round(time.time(), 3)}
        line |= {name: _plain(value) for name, value in scalars.items()}
        for name, pixels in (images or {}).items():
            line[name] = _save_picture(path.parent / f"{int(step):08d}-{name}.png", pixels)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def _open(self) -> Path:
        assert self.folder is not None
        path = self.folder / "log.jsonl"
        if not self._ready:
            self.folder.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(path)
            self._ready = True
        return path


def _plain(value: float) -> float | str:
    number = float(value)
    return number if number - number == 0 else str(number)  # JSON has no infinity and no NaN


def _save_picture(path: Path, pixels: "NDArray[np.uint8]") -> str:
    from PIL import Image

    Image.fromarray(pixels).save(path)
    return path.name


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
