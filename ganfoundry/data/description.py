"""What ``labels.json`` says of a labelled set: classes, colours, keypoints, sources."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ganfoundry.errors import InputError

RECIPE = ("schema", "truncation", "noise", "root_seed")


@dataclass(frozen=True)
class SetDescription:
    """What ``labels.json`` says of a labelled set.

    Attributes
    ----------
    classes : tuple of str
        Class names; the index is the id in the label maps, 0 the background.
    palette : tuple of (int, int, int)
        One RGB colour (0-255) a class.
    level : str
        Level of the part schema the classes belong to.
    generator_sha256, interpreter_sha256 : str
        Of the weights that made the images and the labels.
    keypoints : tuple of str
        Names of the keypoints, in their order; empty for a set without.
    recipe : mapping
        What else is known of the making: name of the schema, truncation psi, noise, root seed.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    level: str
    generator_sha256: str
    interpreter_sha256: str
    keypoints: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SetDescription:
        """Read ``labels.json``.

        Raises
        ------
        InputError
            If it is missing, unreadable or incomplete.
        """
        try:
            return cls.parse(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path} is missing; make the labelled set again") from None
        except KeyError as error:
            raise InputError(f"{path} lacks {error}; make the labelled set again") from None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}); make the labelled set again") from None

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> SetDescription:
        """Build it from the JSON object, checking every value.

        Raises
        ------
        KeyError, ValueError, TypeError, AttributeError
            If anything is missing or of the wrong kind.
        """
        classes = tuple(map(str, table["classes"]))
        palette = tuple(tuple(int(value) for value in colour) for colour in table["palette"])
        keypoints = tuple(map(str, table.get("keypoints") or ()))
        if not 1 <= len(classes) <= 256 or len(set(classes)) != len(classes):
            raise ValueError("classes are 1 to 256 different names")
        if len(palette) != len(classes) or not all(len(c) == 3 and 0 <= min(c) <= max(c) <= 255 for c in palette):
            raise ValueError("palette has one [r, g, b] of 0 to 255 for each class")
        if len(set(keypoints)) != len(keypoints):
            raise ValueError("keypoints are different names")
        colours = cast(tuple[tuple[int, int, int], ...], palette)
        sources = str(table["generator_sha256"]), str(table["interpreter_sha256"])
        recipe = {name: table[name] for name in RECIPE if name in table}
        return cls(classes, colours, str(table.get("level", "")), *sources, keypoints, recipe)
