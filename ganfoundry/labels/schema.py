"""Part schema: the names, hierarchy, keypoints and colours of a class's labels."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError


def mirror_order(names: Sequence[str]) -> list[int]:
    """Order of keypoints after a left-right mirror, from their names: "left" and "right" change places.

    A keypoint whose name has no partner keeps its place, as those in the middle do.
    """
    swap = {"left": "right", "right": "left"}
    partner = [re.sub("left|right", lambda found: swap[found[0]], name) for name in names]
    return [names.index(other) if other in names else row for row, other in enumerate(partner)]


@dataclass(frozen=True, eq=False)
class PartSchema:
    """Names of the parts (fine level) and how they merge into coarser levels.

    Attributes
    ----------
    name : str
        Name of the class, such as "cars".
    parts : tuple of str
        Fine parts; the index is the id, 0 is "background".
    levels : Mapping from str to tuple of str
        For every coarser level the coarse name of every fine part, in the order of `parts`. Coarse ids count the names
        in order of first appearance, so 0 is always the background.
    keypoints : tuple of str
        Names of the keypoints.
    flip_pairs : tuple of (int, int)
        Keypoints that change places when the image is mirrored.
    palette : ndarray, uint8 (n, 3)
        One RGB colour a fine part.

    Raises
    ------
    InputError
        If the tables do not fit together.
    """

    name: str
    parts: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    keypoints: tuple[str, ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    palette: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if not self.parts or self.parts[0] != "background":
            raise InputError(f"schema {self.name!r}: the first part must be 'background'; put it first")
        if len(self.parts) > 255:  # 255 means "not labelled"
            raise InputError(f"schema {self.name!r}: {len(self.parts)} parts, but ids end at 254; merge some")
        for label, names in (("part", self.parts), ("keypoint", self.keypoints)):
            if len(set(names)) != len(names):
                raise InputError(f"schema {self.name!r}: a {label} name appears twice; rename one")
        for level, names in self.levels.items():
            if len(names) != len(self.parts):
                raise InputError(
                    f"schema {self.name!r}: level {level!r} names {len(names)} of {len(self.parts)} parts; name each"
                )
            if names[0] != "background" or "background" in names[1:]:
                raise InputError(f"schema {self.name!r}: level {level!r} must keep 'background' for itself; fix it")
        flat = [index for pair in self.flip_pairs for index in pair]
        if len(set(flat)) != len(flat) or any(not 0 <= index < len(self.keypoints) for index in flat):
            raise InputError(f"schema {self.name!r}: a flip pair repeats or names no keypoint; correct flip_pairs")
        palette = default_palette(len(self.parts)) if self.palette is None else np.asarray(self.palette, dtype=np.uint8)
        if palette.shape != (len(self.parts), 3):
            raise InputError(f"schema {self.name!r}: the palette has shape {palette.shape}; give one colour a part")
        palette = palette.copy()
        palette.flags.writeable = False
        object.__setattr__(self, "palette", palette)
        object.__setattr__(self, "levels", MappingProxyType({k: tuple(v) for k, v in self.levels.items()}))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartSchema) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.name, self.parts, self.keypoints))

    def names(self, level: str = "fine") -> tuple[str, ...]:
        """Class names of a level by id; "fine" gives the parts themselves."""
        if level == "fine":
            return self.parts
        if level not in self.levels:
            known = ", ".join(["fine", *self.levels])
            raise InputError(f"schema {self.name!r} has no level {level!r}; choose one of: {known}")
        return tuple(dict.fromkeys(self.levels[level]))

    @property
    def default_level(self) -> str:
        """The first of the coarser levels, which stand from many classes to few; "fine" where there is none."""
        return next(iter(self.levels), "fine")

    def merge(self, level: str) -> npt.NDArray[np.uint8]:
        """Table from fine id to the id of a level, uint8 (n,): ``schema.merge("parts5")[label_map]``."""
        names = self.names(level)
        fine = self.parts if level == "fine" else self.levels[level]
        return np.array([names.index(name) for name in fine], dtype=np.uint8)

    def level_palette(self, level: str) -> npt.NDArray[np.uint8]:
        """Colours of a level's classes, uint8 (m, 3): that of the first fine part of each."""
        table = self.merge(level)
        assert self.palette is not None
        return self.palette[[int(np.argmax(table == index)) for index in range(int(table.max()) + 1)]]

    def part_id(self, name: str) -> int:
        """Fine id of a part."""
        if name not in self.parts:
            raise InputError(f"schema {self.name!r} has no part {name!r}; it has: {', '.join(self.parts)}")
        return self.parts.index(name)

    def flip_permutation(self) -> npt.NDArray[np.int64]:
        """Order of the keypoints after mirroring, (K,): row i of a mirrored image is old row permutation[i]."""
        order = np.arange(len(self.keypoints))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return order

    def to_dict(self) -> dict[str, Any]:
        """Plain tables, as in the TOML file."""
        assert self.palette is not None
        parts = [
            {
                "name": part,
                "colour": [int(channel) for channel in self.palette[index]],
                **{level: names[index] for level, names in self.levels.items()},
            }
            for index, part in enumerate(self.parts)
        ]
        pairs = [[self.keypoints[a], self.keypoints[b]] for a, b in self.flip_pairs]
        return {
            "name": self.name,
            "levels": list(self.levels),
            "keypoints": list(self.keypoints),
            "flip_pairs": pairs,
            "parts": parts,
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], source: str = "schema") -> Self:
        """Schema from plain tables; `source` names them in errors."""
        try:
            levels, rows, keypoints = list(table["levels"]), list(table["parts"]), tuple(table["keypoints"])
            return cls(
                name=table["name"],
                parts=tuple(row["name"] for row in rows),
                levels={level: tuple(row[level] for row in rows) for level in levels},
                keypoints=keypoints,
                flip_pairs=tuple((keypoints.index(a), keypoints.index(b)) for a, b in table["flip_pairs"]),
                palette=np.array([row["colour"] for row in rows], dtype=np.uint8),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            missing = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{source} is not a part schema: {missing}; compare with annotations/cars/schema.toml"
            ) from None

    def to_toml(self, path: str | Path) -> None:
        """Write the schema as TOML, one part a line."""
        table = self.to_dict()
        lines = [f"name = {_quote(table['name'])}", f"levels = {_inline(table['levels'])}", "", "keypoints = ["]
        lines += [f"    {_quote(keypoint)}," for keypoint in table["keypoints"]]
        lines += (
            ["]", "flip_pairs = ["] + [f"    {_inline(pair)}," for pair in table["flip_pairs"]] + ["]", "parts = ["]
        )
        for row in table["parts"]:
            fields = ", ".join(f"{_key(key)} = {_inline(value)}" for key, value in row.items())
            lines.append(f"    {{ {fields} }},")
        Path(path).write_text("\n".join([*lines, "]", ""]), encoding="utf-8")

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a schema written by `to_toml` or by hand.

        Raises
        ------
        InputError
            If the file is missing, is no TOML or is no schema.
        """
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the part schema {path}: {error.strerror}; check the path") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not TOML: {error}; correct it") from None
        return cls.from_dict(table, str(path))


def default_palette(count: int) -> npt.NDArray[np.uint8]:
    """Well-separated colours, uint8 (count, 3): black, then hues a golden angle apart in three brightnesses."""
    colours = np.zeros((count, 3), dtype=np.uint8)
    for index in range(1, count):
        hue = (index * 0.61803398875) % 1.0
        value = (1.0, 0.75, 0.9)[index % 3]
        saturation = (0.85, 0.6, 0.45)[index % 3]
        rgb = [
            value * (1.0 - saturation * min(max(abs((hue * 6.0 + s) % 6.0 - 3.0) - 1.0, 0.0), 1.0)) for s in (3, 1, 5)
        ]
        colours[index] = [round(255 * channel) for channel in rgb]
    return colours


def _quote(text: str) -> str:
    """TOML basic string."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    body = "".join(escapes.get(ch, ch if ch.isprintable() and ch.isascii() else f"\\U{ord(ch):08x}") for ch in text)
    return f'"{body}"'


def _key(text: str) -> str:
    """TOML key, bare where that is allowed."""
    bare = text.isascii() and text.replace("_", "").replace("-", "").isalnum()
    return text if bare else _quote(text)


def _inline(value: str | int | list[Any]) -> str:
    """TOML value on one line."""
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return str(value)
