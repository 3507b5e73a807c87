"""Viewpoint codes: what they are and how they are stored.

GANverse3D (Zhang et al. 2021, section 3.1): the styles of the layers that work at 4 and 8 px hold the camera, all later
styles hold the object. One view latent, fed to the early layers, therefore shows every object from one camera.

In a small generator the early layers hold the outline too: one object seen from several codes changes its shape.
Codes therefore come in groups: all codes of a group show the same shape, and an object keeps to its group.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ganfoundry.errors import InputError
from ganfoundry.gan.generator import StyleSynthesis
from ganfoundry.views.bins import ALL_AROUND, AzimuthBins

HOW: Final = ("hand", "proposed and confirmed", "proposed")
"""How a code came by its bin."""

_FORMAT: Final = "ganfoundry view codes 2"
_VIEW_BANDWIDTH: Final = 4.01  # cycles per image side; 8 px hold 4
_LARGEST_FILE: Final = 64 * 2**20


def early_layers(synthesis: StyleSynthesis, prefixes: Iterable[str] = ()) -> tuple[str, ...]:
    """Layers that take the view.

    Parameters
    ----------
    synthesis : StyleSynthesis
    prefixes : names of blocks ("b8") or layers ("b8.conv0")
        By default the layers driven by the w vectors of the convolutions at 4 and 8 px. The RGB layer of 8 px is not
        among them: in style mixing it has always shared its w with the first convolution at 16 px, and it holds colour.
        A StyleGAN3 generator has no such sides: it is the layers of the same frequencies, up to 4 cycles an image.

    Raises
    ------
    InputError
        If a prefix names no layer, or if no layer is left for the content.
    """
    names, prefixes = synthesis.layer_names, tuple(prefixes)
    for prefix in prefixes:
        if not any(_named(name, prefix) for name in names):
            raise InputError(f"the generator has no layer {prefix!r}; its layers are {', '.join(names)}")
    early = [name for name, bandwidth in synthesis.bandwidths.items() if bandwidth < _VIEW_BANDWIDTH]
    last = max((synthesis.w_index[name] for name in early), default=-1)
    chosen = tuple(
        name
        for name in names
        if (any(_named(name, prefix) for prefix in prefixes) if prefixes else synthesis.w_index[name] <= last)
    )
    if not 0 < len(chosen) < len(names):
        raise InputError("the view must take some of the generator's layers and leave some for the content")
    return chosen


def _named(layer: str, prefix: str) -> bool:
    return layer == prefix or layer.startswith(prefix + ".")


@dataclass(frozen=True)
class ViewCode:
    """One camera.

    Attributes
    ----------
    id : int
        Row of `ViewCodeSet.w`.
    bin : int
        Azimuth bin, a number of `ViewCodeSet.bins`.
    azimuth, azimuth_std : float
        Circular mean and standard deviation over contents, degrees.
    elevation, distance : float
        Medians over contents, degrees and metres. Estimates; GANverse3D starts from elevation 0 and one distance.
    flip_share : float
        Share of contents seen more than 90 degrees away from the mean.
    how : str
        "hand", "proposed and confirmed" or "proposed".
    shape : str
        The shape that objects have when seen from this code; empty where shapes were not told apart.
    """

    id: int
    bin: int
    azimuth: float
    azimuth_std: float
    elevation: float
    distance: float
    flip_share: float
    how: str
    shape: str = ""


@dataclass(frozen=True)
class ViewCodeSet:
    """Viewpoint codes of one generator.

    Attributes
    ----------
    codes : tuple of ViewCode
        Shape by shape, as many codes for each, in a shape by azimuth bin; `codes[i].id == i`.
    w : (n, w_dim) float32
        Truncated view latents, row i for code i.
    layers : tuple of str
        Generator layers that take their style from the view latent; all others take the content's.
    generator_sha256 : str
        The generator whose latents these are.
    truncation : float
        Truncation psi of the view latents, already applied to `w`.
    bins : AzimuthBins
        Over the range of azimuths that the class is seen from.
    """

    codes: tuple[ViewCode, ...]
    w: NDArray[np.float32]
    layers: tuple[str, ...]
    generator_sha256: str
    truncation: float
    bins: AzimuthBins = ALL_AROUND

    def __post_init__(self) -> None:
        if self.w.ndim != 2 or len(self.w) != len(self.codes) or not len(self.codes):
            raise InputError(f"{len(self.codes)} viewpoint codes need as many latents (n, w_dim), not {self.w.shape}")
        if [code.id for code in self.codes] != list(range(len(self.codes))):
            raise InputError("the ids of viewpoint codes must be 0, 1, 2, ... in order")
        for code in self.codes:
            if not 0 <= code.bin < self.bins.count or code.how not in HOW:
                bins = f"0 to {self.bins.count - 1}"
                raise InputError(f"viewpoint code {code.id} has the bin {code.bin} ({bins}) and how={code.how!r} {HOW}")
        counts = Counter(code.shape for code in self.codes)
        blocks = [name for name in self.shapes for _ in range(self.views)]
        if len(set(counts.values())) > 1 or [code.shape for code in self.codes] != blocks:
            raise InputError(f"viewpoint codes must stand shape by shape, as many for each shape, not {dict(counts)}")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def shapes(self) -> tuple[str, ...]:
        """Names of the shapes, in order."""
        return tuple(dict.fromkeys(code.shape for code in self.codes))

    @property
    def views(self) -> int:
        """Codes of each shape: the images of one object."""
        return len(self.codes) // len(self.shapes)

    def of_objects(self, objects: ArrayLike) -> NDArray[np.int64]:
        """Codes that show some objects, (n, views) ids; object i takes shape i modulo the number of shapes.

        Parameters
        ----------
        objects : (n,) int
            Numbers of the objects, from 0.
        """
        shape = np.asarray(objects, np.int64) % len(self.shapes)
        return shape[:, None] * self.views + np.arange(self.views)

    @property
    def missing_bins(self) -> tuple[int, ...]:
        """Azimuth bins that some shape has no code in."""
        seen = {(code.shape, code.bin) for code in self.codes}
        return tuple(k for k in range(self.bins.count) if any((shape, k) not in seen for shape in self.shapes))

    def check_generator(self, sha256: str, layer_names: Sequence[str], w_dim: int) -> None:
        """Refuse a generator that these codes do not belong to.

        Raises
        ------
        InputError
            If the hash, a layer name or the latent size differs.
        """
        if sha256 != self.generator_sha256:
            raise InputError(
                f"these viewpoint codes belong to the generator {self.generator_sha256[:12]}, not to {sha256[:12]}; "
                "make codes for this generator with annotate-views"
            )
        if set(self.layers) - set(layer_names) or self.w.shape[1] != w_dim:
            raise InputError(
                f"the view codes take the layers {', '.join(self.layers)} and W latents of {self.w.shape}, but the "
                f"generator has {', '.join(layer_names)} and W latents of (N, {w_dim}); make codes for it with "
                "annotate-views"
            )

    def save(self, folder: Path) -> None:
        """Write codes.json and codes.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        payload = save({"w_view": np.ascontiguousarray(self.w, np.float32)})
        table = {
            "format": _FORMAT,
            "generator_sha256": self.generator_sha256,
            "truncation": self.truncation,
            "layers": list(self.layers),
            "bins": asdict(self.bins),
            "latents_sha256": hashlib.sha256(payload).hexdigest(),
            "codes": [asdict(code) for code in self.codes],
        }
        (folder / "codes.safetensors").write_bytes(payload)
        (folder / "codes.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, or what a person left of it.

        In codes.json codes may be missing or stand in another order: their ids say which rows of the latents they are,
        and are counted anew.

        Raises
        ------
        InputError
            If a file is missing, damaged, or the two do not belong together.
        """
        try:
            table = json.loads(_read(folder / "codes.json"))
            payload = _read(folder / "codes.safetensors")
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no readable viewpoint codes; make them with annotate-views") from error
        return cls._parse(folder, table, payload)

    @classmethod
    def _parse(cls, folder: Path, table: Any, payload: bytes) -> Self:
        if not isinstance(table, dict) or table.get("format") != _FORMAT:
            raise InputError(f"{folder / 'codes.json'} is not a file of viewpoint codes; make it with annotate-views")
        if hashlib.sha256(payload).hexdigest() != table.get("latents_sha256"):
            raise InputError(f"{folder / 'codes.safetensors'} is damaged or belongs to another codes.json")
        names = [f.name for f in fields(ViewCode)]
        try:
            codes = [ViewCode(**{name: code[name] for name in names}) for code in table["codes"]]
            w = load(payload)["w_view"]
            if not all(0 <= code.id < len(w) for code in codes) or len({code.id for code in codes}) < len(codes):
                raise InputError(f"{folder / 'codes.json'} names a code twice, or one without latents; restore it")
            return cls(
                codes=tuple(replace(code, id=number) for number, code in enumerate(codes)),
                w=w[[code.id for code in codes]],
                layers=tuple(table["layers"]),
                generator_sha256=str(table["generator_sha256"]),
                truncation=float(table["truncation"]),
                bins=AzimuthBins(**table.get("bins", {})),  # codes of cars were written without
            )
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{folder / 'codes.json'} lacks a field or has a wrong one: {error}") from error


def _read(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path} is larger than any file of viewpoint codes")
    return path.read_bytes()
