"""Labelled generated images on disk; reading which rows of a synthesised set are kept (filtering.py decides).

A labels folder is made to be edited: pictures that any paint program opens, and one JSON file.

    labels.json            format, generator_sha256, schema (whole), noise, samples (names), provenance; keypoints and
                           weights where there are any
    images/<name>.png      RGB, what the generator made
    masks/<name>.png       index PNG of fine part ids with the schema's palette
    latents.safetensors    w (n, w_dim) float32 after truncation; seed (n,) int64 where the samples came from a seed
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ganfoundry.errors import InputError
from ganfoundry.labels.schema import PartSchema

FORMAT = "ganfoundry-labels-1"


@dataclass(frozen=True)
class LabelSet:
    """Labelled images of one generator.

    Attributes
    ----------
    names : n file stems
    images : (n, R, R, 3) uint8
    masks : (n, R, R) uint8, fine part ids
    w : (n, w_dim) float32, style codes after truncation; the generator makes `images` of them with stored noise
    generator_sha256 : str
    schema : PartSchema
    provenance : dict, how the labels were made
    seeds : (n,) int64 or None
    keypoints : (n, K, 3) float32 (x, y, visibility as in docs/conventions.md: 0 outside, 1 hidden, 2 visible) or None
    weights : (n,) float32 or None
        How much a sample counts in training: 1 for generated images, less for inverted photographs.
    """

    names: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    w: NDArray[np.float32]
    generator_sha256: str
    schema: PartSchema
    provenance: Mapping[str, Any] = field(default_factory=dict)
    seeds: NDArray[np.int64] | None = None
    keypoints: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def at_level(self, level: str) -> NDArray[np.uint8]:
        """Masks with the class ids of a coarser level of the schema ("fine": as they are)."""
        return self.schema.merge(level)[self.masks]

    def save(self, folder: str | Path) -> None:
        """Write the folder; existing files of the same names are replaced."""
        folder = Path(folder)
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, image, mask in zip(self.names, self.images, self.masks, strict=True):
            Image.fromarray(image).save(folder / "images" / f"{name}.png", optimize=True)
            indexed = Image.fromarray(mask).convert("P")
            assert self.schema.palette is not None
            indexed.putpalette(self.schema.palette.tobytes())
            indexed.save(folder / "masks" / f"{name}.png", optimize=True)
        latents: dict[str, NDArray[Any]] = {"w": np.ascontiguousarray(self.w, np.float32)}
        if self.seeds is not None:
            latents["seed"] = np.ascontiguousarray(self.seeds, np.int64)
        safetensors.numpy.save_file(latents, folder / "latents.safetensors")
        table = {
            "format": FORMAT,
            "generator_sha256": self.generator_sha256,
            "noise": "const",
            "samples": list(self.names),
            "provenance": dict(self.provenance),
            "schema": self.schema.to_dict(),
        }
        if self.keypoints is not None:
            table["keypoints"] = np.round(self.keypoints.astype(float), 2).tolist()
        if self.weights is not None:
            table["weights"] = np.round(self.weights.astype(float), 4).tolist()
        (folder / "labels.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, generator_sha256: str | None = None) -> "LabelSet":
        """Read and check a labels folder.

        Parameters
        ----------
        folder : path
        generator_sha256 : str, optional
            Refuse labels of another generator.

        Raises
        ------
        InputError
            One sentence naming the file: labels of another generator, a missing or unreadable picture, a mask of
            another size, a part id that the schema does not have, latents that are missing or too few.
        """
        folder = Path(folder)
        table = _read_table(folder)
        if generator_sha256 is not None and table["generator_sha256"] != generator_sha256:
            raise InputError(
                f"the labels in {folder} belong to the generator {table['generator_sha256'][:12]}..., not to "
                f"{generator_sha256[:12]}...: use that generator, or label samples of this one"
            )
        schema = PartSchema.from_dict(table["schema"], str(folder / "labels.json"))
        names = tuple(table["samples"])
        images = [_read_picture(folder / "images" / f"{name}.png", ("RGB",)) for name in names]
        masks = [_read_picture(folder / "masks" / f"{name}.png", ("P", "L")) for name in names]
        for name, image, mask in zip(names, images, masks, strict=True):
            _check_sample(folder, name, image, mask, images[0].shape, len(schema.parts))
        w, seeds = _read_latents(folder / "latents.safetensors", len(names))
        keypoints = table.get("keypoints")
        if keypoints is not None:
            keypoints = _check_keypoints(folder, keypoints, (len(names), len(schema.keypoints), 3))
        return cls(
            names,
            np.stack(images),
            np.stack(masks),
            w,
            table["generator_sha256"],
            schema,
            table["provenance"],
            seeds,
            keypoints,
            _check_weights(folder, table.get("weights"), len(names)),
        )


def kept_rows(folder: str | Path) -> NDArray[np.int64]:
    """Row numbers of a labelled set that its selection.json keeps, ascending.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    path = Path(folder) / "selection.json"
    try:
        table = json.loads(path.read_text("utf-8"))
        mask = np.ones(int(table["rows"]), bool)
        mask[[int(entry["row"]) for entry in table["dropped"]]] = False
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"cannot read which rows are kept from {path}: {error}; run synthesize again") from None
    return np.flatnonzero(mask)


def _read_table(folder: Path) -> dict[str, Any]:
    path = folder / "labels.json"
    try:
        table = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; a labels folder has labels.json in it") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}; correct it or restore it") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise InputError(f'{path} does not say "format": "{FORMAT}"; is it a labels folder of this project?')
    missing = [key for key in ("generator_sha256", "schema", "samples", "provenance") if key not in table]
    if missing:
        raise InputError(f'{path} lacks "{missing[0]}"; restore it')
    names = table["samples"]
    if not isinstance(names, list) or not names or not all(_is_plain(name) for name in names):
        raise InputError(f'{path}: "samples" must list at least one plain file name without its ending')
    return table


def _is_plain(name: object) -> bool:
    """Whether a sample's name stays inside the folder."""
    return isinstance(name, str) and bool(name) and Path(name).name == name and name not in (".", "..")


def _read_picture(path: Path, modes: Sequence[str]) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            if picture.mode not in modes:
                kind = "an RGB picture" if modes[0] == "RGB" else "an index (palette) PNG of part ids"
                raise InputError(f"{path} has mode {picture.mode}, but it must be {kind}; save it so")
            return np.array(picture, np.uint8)
    except FileNotFoundError:
        raise InputError(f"{path} is missing, but labels.json lists it; restore it or take it off the list") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the picture {path}: {error}; restore it") from None


def _check_sample(
    folder: Path, name: str, image: NDArray[np.uint8], mask: NDArray[np.uint8], shape: tuple[int, ...], parts: int
) -> None:
    if image.shape != shape:
        raise InputError(f"{folder / 'images' / name}.png is {_size(image)}, the first image {shape[1]} x {shape[0]}")
    if mask.shape != image.shape[:2]:
        raise InputError(f"{folder / 'masks' / name}.png is {_size(mask)}, but its image is {_size(image)}; resize it")
    if mask.max() >= parts:
        raise InputError(
            f"{folder / 'masks' / name}.png holds part id {mask.max()} in {int((mask == mask.max()).sum())} pixels, "
            f"but the schema ends at {parts - 1}; repaint them"
        )


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]} pixels"


def _read_latents(path: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    try:
        latents = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"cannot read the latents {path}: {error}; restore the file") from None
    if "w" not in latents or latents["w"].ndim != 2:
        held = ", ".join(f'"{name}" {value.shape}' for name, value in latents.items()) or "nothing"
        raise InputError(f'{path} lacks "w" (samples, w_dim), latents of W, and holds {held}; restore it')
    for name in latents:
        rows = len(latents[name])
        if rows != count:
            raise InputError(f'{path}: "{name}" has {rows} rows for {count} samples; they belong together')
    if not np.isfinite(latents["w"]).all():
        raise InputError(f"{path} holds numbers that are not finite; restore it")
    return latents["w"].astype(np.float32), latents.get("seed")


def _check_keypoints(folder: Path, keypoints: object, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    try:
        array = np.array(keypoints, np.float32)
    except (ValueError, TypeError):
        array = np.empty(0, np.float32)
    if array.shape != shape:
        raise InputError(f'{folder / "labels.json"}: "keypoints" must have shape {shape}; correct or remove them')
    return array


def _check_weights(folder: Path, weights: object, count: int) -> NDArray[np.float32] | None:
    if weights is None:
        return None
    try:
        array = np.array(weights, np.float32)
    except (ValueError, TypeError):
        array = np.empty(0, np.float32)
    if array.shape != (count,) or not np.isfinite(array).all() or array.min() < 0 or array.max() <= 0:
        raise InputError(
            f'{folder / "labels.json"}: "weights" must be {count} numbers from 0 on, not all 0; correct or remove them'
        )
    return array
