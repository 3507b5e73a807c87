"""The spaces in which an image of a StyleGAN generator has coordinates, as types, and files that name theirs.

    W     one w of the mapping network, the same in every layer       (N, w_dim)
    W+    one w for every layer (arXiv:1904.03189)                    (N, num_ws, w_dim)
    S     style vectors, the outputs of the layers' affine maps       {layer: (N, C_in)}
          (arXiv:2011.12799)

W lies in W+ and W+ maps to S; the ways back do not exist, since W+ and S hold points that no w makes. A file of one
space that is given where another is needed is therefore refused, with the sizes of both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import torch
from safetensors.torch import save
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.formats import read_safetensors
from ganfoundry.gan.generator import StyleGenerator, StyleSynthesis
from ganfoundry.gan.train_data import write_atomically

LATENTS_FORMAT = "ganfoundry-latents-1"
Space: TypeAlias = Literal["W", "W+", "S"]
SPACES: tuple[Space, ...] = ("W", "W+", "S")


@dataclass(frozen=True, eq=False)
class WLatents:
    """Points of W.

    Parameters
    ----------
    w : torch.Tensor
        (N, w_dim), finite floats; truncation, where wanted, already applied.

    Raises
    ------
    InputError
        If ``w`` has another shape, is not floating or not finite.
    """

    space: ClassVar[Space] = "W"
    w: Tensor

    def __post_init__(self) -> None:
        _check_floats({"w": self.w})
        if self.w.ndim != 2:
            raise InputError(f"W latents have shape (N, w_dim), not {tuple(self.w.shape)}")

    def __len__(self) -> int:
        return len(self.w)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a file of them holds."""
        return {"w": self.w}


@dataclass(frozen=True, eq=False)
class WPlusLatents:
    """Points of W+.

    Parameters
    ----------
    ws : torch.Tensor
        (N, num_ws, w_dim), finite floats; row [i, j] drives the layers whose ``w_index`` is j.

    Raises
    ------
    InputError
        If ``ws`` has another shape, is not floating or not finite.
    """

    space: ClassVar[Space] = "W+"
    ws: Tensor

    def __post_init__(self) -> None:
        _check_floats({"ws": self.ws})
        if self.ws.ndim != 3:
            raise InputError(f"W+ latents have shape (N, num_ws, w_dim), not {tuple(self.ws.shape)}")

    def __len__(self) -> int:
        return len(self.ws)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a file of them holds."""
        return {"ws": self.ws}


@dataclass(frozen=True, eq=False)
class StyleLatents:
    """Points of S, the style space.

    Parameters
    ----------
    styles : mapping of str to torch.Tensor
        {layer: (N, C_in)}, finite floats, one for every layer of the generator, as ``synthesis.styles`` makes them.

    Raises
    ------
    InputError
        If there is no layer, a vector has another shape or number of rows, is not floating or not finite.
    """

    space: ClassVar[Space] = "S"
    styles: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        _check_floats(self.styles)
        wrong = [f"{name} {tuple(value.shape)}" for name, value in self.styles.items() if value.ndim != 2]
        if wrong or len({len(value) for value in self.styles.values()}) != 1:
            shapes = wrong or [f"{name} {tuple(value.shape)}" for name, value in self.styles.items()]
            raise InputError(f"style vectors have shape (N, C), one N for all layers, not {', '.join(shapes[:3])}")

    def __len__(self) -> int:
        return len(next(iter(self.styles.values())))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a file of them holds."""
        return dict(self.styles)


Latents: TypeAlias = WLatents | WPlusLatents | StyleLatents


def check_latents(latents: Latents, generator: StyleGenerator, source: str = "these latents") -> None:
    """Refuse latents whose sizes are not those of a generator.

    Parameters
    ----------
    latents : WLatents, WPlusLatents or StyleLatents
    generator : StyleGAN2 or StyleGAN3 generator
    source : str
        How the message calls the latents, e.g. the path of their file.

    Raises
    ------
    InputError
        With both sizes.
    """
    wanted = _wanted(latents.space, generator.synthesis)
    found = {name: tuple(value.shape[1:]) for name, value in latents.tensors.items()}
    if found != wanted:
        raise InputError(
            f"{source}: {latents.space} latents of {_sizes(latents)} do not fit the generator, whose {latents.space} "
            f"latents are {_format(wanted, 'N')}{_difference(found, wanted)}; give latents of this generator"
        )


def convert_latents(latents: Latents, space: Space, generator: StyleGenerator) -> Latents:
    """The same images in another space: W to W+ by repetition, W and W+ to S by the layers' affine maps.

    Parameters
    ----------
    latents : WLatents, WPlusLatents or StyleLatents
        Of this generator.
    space : "W", "W+" or "S"
        Where to; the latents' own space returns them as they are.
    generator : StyleGAN2 or StyleGAN3 generator
        Its number of w vectors and affine maps are used.

    Raises
    ------
    InputError
        If the sizes do not fit the generator, or for a way back (S to W or W+, W+ to W).
    """
    check_latents(latents, generator)
    if latents.space == space:
        return latents
    synthesis = generator.synthesis
    if isinstance(latents, WLatents) and space == "W+":
        return WPlusLatents(latents.w.unsqueeze(1).expand(-1, synthesis.num_ws, -1).contiguous())
    if space == "S" and not isinstance(latents, StyleLatents):
        return StyleLatents(synthesis.styles(latents.w if isinstance(latents, WLatents) else latents.ws))
    raise InputError(
        f"{latents.space} latents of {_sizes(latents)} cannot become {space} latents: {latents.space} holds images "
        f"that no point of {space} makes; invert the images in {space} instead"
    )


def save_latents(path: Path, latents: Latents, generator_sha256: str) -> None:
    """Write latents to a safetensors file that names their space and generator; float32, equal latents equal bytes.

    Parameters
    ----------
    path : Path
        Written as a whole or not at all; its folder must exist.
    latents : WLatents, WPlusLatents or StyleLatents
    generator_sha256 : str
        Identity of the generator they belong to (``LoadedGan.sha256``).

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    state = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in latents.tensors.items()}
    # Copies, since safetensors refuses tensors that share memory; one metadata entry, since it sorts several anyhow.
    state = {name: value.clone() for name, value in state.items()}
    header = {LATENTS_FORMAT: json.dumps({"space": latents.space, "generator_sha256": generator_sha256})}
    write_atomically(Path(path), save(state, header))


def load_latents(
    path: Path,
    generator: StyleGenerator | None = None,
    space: Space | None = None,
    generator_sha256: str | None = None,
) -> Latents:
    """Read a file of :func:`save_latents`.

    Parameters
    ----------
    path : Path
    generator : StyleGAN2 or StyleGAN3 generator, optional
        Refuse latents whose sizes are not this generator's.
    space : "W", "W+" or "S", optional
        Refuse latents of another space.
    generator_sha256 : str, optional
        Refuse latents of another generator; equal sizes do not make latents interchangeable.

    Returns
    -------
    WLatents, WPlusLatents or StyleLatents
        float32, on the CPU; style vectors in the order of the generator's layers where one is given.

    Raises
    ------
    InputError
        If the file is missing, damaged or no file of latents, or is refused; the message has the sizes.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file of latents {path}; give one that save_latents or invert wrote")
    metadata, tensors = read_safetensors(Path(path))
    found, owner = _header(path, metadata)
    latents = _assemble(path, found, tensors)
    if space is not None and found != space:
        needed = _format(_wanted(space, generator.synthesis), "N") if generator is not None else _GENERAL[space]
        raise InputError(
            f"{path} holds {found} latents of {_sizes(latents)}, but {space} latents of {needed} are needed here; "
            + _advice(found, space)
        )
    if generator_sha256 is not None and owner != generator_sha256:
        raise InputError(
            f"{path} holds {found} latents of {_sizes(latents)} of the generator {owner[:12]}..., not of "
            f"{generator_sha256[:12]}...; use that generator, or make latents for this one"
        )
    if generator is None:
        return latents
    check_latents(latents, generator, str(path))
    if isinstance(latents, StyleLatents):
        return StyleLatents({name: latents.styles[name] for name in generator.synthesis.style_dims})
    return latents


_GENERAL: Mapping[Space, str] = {"W": "(N, w_dim)", "W+": "(N, num_ws, w_dim)", "S": "one (N, C) per layer"}


def _advice(found: Space, needed: Space) -> str:
    if SPACES.index(found) < SPACES.index(needed):
        return "turn them into that space with convert_latents"
    return "invert the images in that space, for there is no way back"


def _header(path: Path, metadata: Mapping[str, str]) -> tuple[Space, str]:
    if LATENTS_FORMAT not in metadata:
        raise InputError(
            f"{path} is not a file of latents (it does not name a space); give one that save_latents wrote"
        )
    try:
        table = json.loads(metadata[LATENTS_FORMAT])
        space, owner = table["space"], str(table["generator_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the description in {path} is damaged ({error}); copy the file again") from error
    if space not in SPACES:
        raise InputError(f"{path} holds latents of the space {space!r}, which is none of {', '.join(SPACES)}")
    return space, owner


def _assemble(path: Path, space: Space, tensors: Mapping[str, Tensor]) -> Latents:
    try:
        if space == "S":
            return StyleLatents({name: value.float() for name, value in tensors.items()})
        key = {"W": "w", "W+": "ws"}[space]
        if set(tensors) != {key}:
            raise InputError(f'{space} latents are one tensor "{key}", not {", ".join(sorted(tensors)) or "none"}')
        _check_floats(tensors)
        value = tensors[key].float()
        return WLatents(value) if space == "W" else WPlusLatents(value)
    except InputError as error:
        raise InputError(f"{path} is not a whole file of latents: {error}; copy it again") from error


def _check_floats(tensors: Mapping[str, Tensor]) -> None:
    if not tensors:
        raise InputError("there are no latents: no tensor is given")
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise InputError(f"latents are floating-point numbers, but {name} holds {value.dtype}")
        if not torch.isfinite(value).all():
            raise InputError(f"{name} of shape {tuple(value.shape)} holds values that are not finite")


def _wanted(space: Space, synthesis: StyleSynthesis) -> dict[str, tuple[int, ...]]:
    if space == "W":
        return {"w": (synthesis.config.w_dim,)}
    if space == "W+":
        return {"ws": (synthesis.num_ws, synthesis.config.w_dim)}
    return {name: (size,) for name, size in synthesis.style_dims.items()}


def _sizes(latents: Latents) -> str:
    shapes = {name: tuple(value.shape[1:]) for name, value in latents.tensors.items()}
    return _format(shapes, str(len(latents)))


def _format(shapes: Mapping[str, tuple[int, ...]], rows: str) -> str:
    """Return "(5, 14, 128)", or for style vectors "(5, 1312) in 17 layers"."""
    if set(shapes) in ({"w"}, {"ws"}):
        (shape,) = shapes.values()
        return f"({', '.join([rows, *map(str, shape)])})"
    return f"({rows}, {sum(shape[-1] for shape in shapes.values())}) in {len(shapes)} layers"


def _difference(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Name the first layers that differ between style spaces of two generators."""
    names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if set(wanted) in ({"w"}, {"ws"}):
        return ""
    shown = [f"{name} {found.get(name, 'missing')} for {wanted.get(name, 'none')}" for name in names[:3]]
    return f" ({', '.join(shown)})"
