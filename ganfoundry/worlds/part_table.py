"""Part schemas from tables: a row for each part, and keypoints that come in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from ganfoundry.labels.schema import PartSchema

Row = tuple[IntEnum, str, str, tuple[int, int, int]]
"""Fine part, its class in the finer and in the coarser level, its colour (RGB, 0..255)."""


def tabled_schema(
    name: str, table: Sequence[Row], levels: tuple[str, str], sided: Sequence[str], single: Sequence[str]
) -> PartSchema:
    """Make the schema of a world.

    Parameters
    ----------
    name : str
        Of the world.
    table : sequence of Row
        In the order of the ids; row 0 is the background.
    levels : (str, str)
        Names of the finer and of the coarser level.
    sided, single : sequences of str
        Keypoints that there are on the left and on the right ("eye" becomes "eye_left", "eye_right"), and the others.
    """
    return PartSchema(
        name=name,
        parts=tuple(row[0].name.lower() for row in table),
        levels={levels[0]: tuple(row[1] for row in table), levels[1]: tuple(row[2] for row in table)},
        keypoints=(*(f"{point}_{side}" for point in sided for side in ("left", "right")), *single),
        flip_pairs=tuple((2 * i, 2 * i + 1) for i in range(len(sided))),
        palette=np.array([row[3] for row in table], dtype=np.uint8),
    )
