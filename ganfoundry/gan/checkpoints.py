"""Read and write generators.

Read: networks that ship with the package (by name), this project's safetensors files and folders of them, safetensors
files under the names of stylegan2-ada-pytorch or stylegan2-pytorch, .pt files of rosinality/stylegan2-pytorch, and
NVIDIA's .pkl files (stylegan2-ada-pytorch, stylegan3, TensorFlow). Nothing stored in a file is executed.

Written: ``generator.safetensors`` and ``discriminator.safetensors`` with the configuration in their metadata, and
``card.json`` with their sha256. Safetensors files have no checksum of their own, so a file that does not match its
card is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor

from ganfoundry import weights
from ganfoundry.errors import InputError
from ganfoundry.gan import nvidia, rosinality, stylegan3, tensorflow
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.filling import describe, estimate_average, filled
from ganfoundry.gan.formats import READABLE, kind_of, read_pt, read_safetensors, sha256_of, tensors_of
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.infer import infer_config, infer_discriminator_config
from ganfoundry.gan.stylegan2 import Generator
from ganfoundry.gan.stylegan3_config import StyleGAN3Config
from ganfoundry.gan.train_data import write_atomically

GENERATOR_FORMAT = "ganfoundry-generator-1"
STYLEGAN3_FORMAT = "ganfoundry-stylegan3-1"
DISCRIMINATOR_FORMAT = "ganfoundry-discriminator-1"
Config = TypeVar("Config", GeneratorConfig, StyleGAN3Config, DiscriminatorConfig)


@dataclass(frozen=True)
class LoadedGan:
    """A generator read from somewhere, in evaluation mode, float32, without gradients.

    Parameters
    ----------
    generator : StyleGenerator
        StyleGAN2's or StyleGAN3's, on the CPU.
    discriminator : Discriminator or None
        Where the source has one.
    sha256 : str
        Of the file that holds the generator: its identity.
    description : str
        One line for people.
    path : Path
        That file.
    notes : tuple of str
        What was not in the file and had to be assumed.
    card : dict
        Contents of card.json, empty without one.
    """

    generator: StyleGenerator
    discriminator: Discriminator | None
    sha256: str
    description: str
    path: Path
    notes: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> str:
        """World whose class it shows; empty where its card does not say."""
        return weights.world_of(self.card)


def load_gan(source: str | Path, *, allow_inert: Collection[str] = ()) -> LoadedGan:
    """Read a generator, and its discriminator where there is one.

    Parameters
    ----------
    source : str or Path
        A shipped name ("cars-64"), a folder holding generator.safetensors, or a file (see the module's text).
    allow_inert : collection of str
        Dotted names beyond the known ones that a .pkl file may refer to; they become empty holders.

    Raises
    ------
    InputError
        If there is no such source, or it is damaged, incomplete, of another kind or not finite.
    """
    if isinstance(source, str) and not Path(source).exists() and source in weights.names():
        source = weights.path(source)
    path = Path(source)
    if path.is_dir():
        return _load_folder(path)
    if not path.is_file():
        shipped = ", ".join(weights.names()) or "none"
        raise InputError(f"there is no generator {source}; give {READABLE} (shipped: {shipped})")
    kind = kind_of(path)
    if kind == "pt":
        return _load_rosinality(path)
    if kind == "pkl":
        return _load_nvidia(path, allow_inert)
    return _load_generator_file(path, None, {})


def save_gan(
    folder: Path,
    generator: StyleGenerator,
    discriminator: Discriminator | None,
    card: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write generator.safetensors, discriminator.safetensors and, last, card.json.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    generator, discriminator : networks
        ``discriminator`` None: only the generator is written.
    card : mapping
        Recipe, data and figures; the sha256 and size of the files are added to it.
    half : bool
        Store float16, half the size; loading converts back to float32.

    Raises
    ------
    ValueError
        If a value is not finite (or does not fit in float16 with ``half``); nothing has been written.
    RunError
        If the files cannot be written.
    """
    kind = STYLEGAN3_FORMAT if isinstance(generator, stylegan3.Generator) else GENERATOR_FORMAT
    files = {"generator": _serialise(generator, kind, half)}
    if discriminator is not None:
        files["discriminator"] = _serialise(discriminator, DISCRIMINATOR_FORMAT, half)
    _write(folder, files, {**card, "config": generator.config.to_dict()})


def copy_gan(
    source: str | Path, folder: Path, *, world: str | None = None, allow_inert: Collection[str] = ()
) -> LoadedGan:
    """Bring a generator from anywhere that :func:`load_gan` reads into a folder of this project's form.

    Files of this project are copied byte for byte, so that the generator keeps its identity; others are converted.

    Parameters
    ----------
    source, allow_inert
        As for :func:`load_gan`.
    folder : Path
        Made if it does not exist.
    world : str, optional
        World whose class it shows, for the card; by default what the source's card says.

    Returns
    -------
    LoadedGan
        What was read, with the sha256, path and card of the copy and the notes of the original.

    Raises
    ------
    InputError
        If the source cannot be read.
    RunError
        If the copy cannot be written.
    """
    loaded = load_gan(source, allow_inert=allow_inert)
    card = {
        **loaded.card,
        "source": Path(source).name,
        "source_sha256": loaded.sha256,
        "source_bytes": loaded.path.stat().st_size,
    }
    if world or loaded.world:
        card["world"] = world or loaded.world
    ours = {GENERATOR_FORMAT, STYLEGAN3_FORMAT}
    if loaded.path.suffix == ".safetensors" and ours & read_safetensors(loaded.path)[0].keys():
        files = {"generator": loaded.path.read_bytes()}
        if loaded.discriminator is not None:
            files["discriminator"] = loaded.path.with_name("discriminator.safetensors").read_bytes()
        _write(folder, files, {**card, "config": loaded.generator.config.to_dict()})
    else:
        save_gan(folder, loaded.generator, loaded.discriminator, card)
    copy = load_gan(folder)
    return replace(copy, notes=loaded.notes)


def _write(folder: Path, files: Mapping[str, bytes], card: Mapping[str, Any]) -> None:
    """Write the networks and, last, the card with their digests."""
    entries = dict(card)
    for name, content in files.items():
        prefix = "" if name == "generator" else f"{name}_"
        entries |= {f"{prefix}sha256": hashlib.sha256(content).hexdigest(), f"{prefix}bytes": len(content)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)  # a card never describes files that are being replaced
    if "discriminator" not in files:
        (folder / "discriminator.safetensors").unlink(missing_ok=True)
    for name, content in files.items():
        write_atomically(folder / f"{name}.safetensors", content)
    write_atomically(folder / "card.json", (json.dumps(entries, indent=2) + "\n").encode())


def _serialise(network: StyleGenerator | Discriminator, kind: str, half: bool) -> bytes:
    dtype = torch.float16 if half else torch.float32
    state = {name: value.detach().to("cpu", dtype).contiguous().clone() for name, value in network.state_dict().items()}
    wrong = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if wrong:
        raise ValueError(f"not finite as {dtype}: {', '.join(wrong[:3])}; nothing was written")
    # One entry: safetensors writes several in no fixed order, and the file's sha256 is the generator's identity.
    return save(state, {kind: json.dumps(network.config.to_dict())})


def _load_folder(folder: Path) -> LoadedGan:
    card = weights.card_of(folder)
    file = folder / "generator.safetensors"
    if not file.is_file():
        raise InputError(f"{folder} holds no generator.safetensors; give {READABLE}")
    discriminator = None
    other = folder / "discriminator.safetensors"
    if other.is_file():
        sha256_of(other, card.get("discriminator_sha256"))
        discriminator = _load_discriminator_file(other)
    return _load_generator_file(file, discriminator, card)


def _load_generator_file(path: Path, discriminator: Discriminator | None, card: Mapping[str, Any]) -> LoadedGan:
    digest = sha256_of(path, card.get("sha256"))
    metadata, state = read_safetensors(path)
    notes: tuple[str, ...] = ()
    generator: StyleGenerator
    if STYLEGAN3_FORMAT in metadata:
        shape = _config(path, metadata[STYLEGAN3_FORMAT], StyleGAN3Config)
        generator = filled(path, stylegan3.Generator, shape, state)
    else:
        if GENERATOR_FORMAT in metadata:
            config = _config(path, metadata[GENERATOR_FORMAT], GeneratorConfig)
        else:
            state, config, notes = _foreign(path, state)
        generator = filled(path, Generator, config, state)
    if "mapping.w_avg" not in state:
        notes = (*notes, estimate_average(generator))
    return LoadedGan(generator, discriminator, digest, describe(generator), path, notes, card)


def _load_discriminator_file(path: Path) -> Discriminator:
    metadata, state = read_safetensors(path)
    if DISCRIMINATOR_FORMAT in metadata:
        config = _config(path, metadata[DISCRIMINATOR_FORMAT], DiscriminatorConfig)
    else:
        config = infer_discriminator_config(state)
    return filled(path, Discriminator, config, state)


def _foreign(path: Path, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], GeneratorConfig, tuple[str, ...]]:
    """State under native names, configuration and assumptions of a generator written by another program."""
    try:
        if rosinality.is_rosinality(state):
            state = rosinality.generator_state(state)
        config = infer_config(state)
    except InputError as error:
        raise InputError(f"{path} is not a generator checkpoint: {error}; give {READABLE}") from error
    return state, config, ("assumed: no clamp of activations, mapping learning-rate multiplier 0.01",)


def _load_rosinality(path: Path) -> LoadedGan:
    digest = sha256_of(path, None)
    content = read_pt(path)
    name = next((key for key in ("g_ema", "g") if key in content), None)
    if name is None:
        held = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise InputError(f"{path} holds no g_ema, only {held}; give {READABLE}")
    try:
        average = tensors_of(path, {key: content[key] for key in ("latent_avg",) if key in content})
        state = rosinality.generator_state(tensors_of(path, content[name]), average.get("latent_avg"))
        config = infer_config(state)
        discriminator = None
        if "d" in content:
            d_state = rosinality.discriminator_state(tensors_of(path, content["d"]))
            discriminator = filled(path, Discriminator, infer_discriminator_config(d_state), d_state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    generator = filled(path, Generator, config, state)
    notes = () if "mapping.w_avg" in state else (estimate_average(generator),)
    return LoadedGan(generator, discriminator, digest, describe(generator), path, notes)


def _load_nvidia(path: Path, allow_inert: Collection[str]) -> LoadedGan:
    found = nvidia.read_nvidia(path, allow_inert)
    name = next((name for name in ("G_ema", "G") if name in found.networks), None)
    if name is None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.problems.items())
        raise InputError(f"{path} holds no generator that can be read ({reasons or 'no G_ema or G'}); give {READABLE}")
    try:
        generator, notes = _nvidia_generator(path, found.networks[name], found.tensorflow)
    except InputError as error:
        raise InputError(f"{path}: its network {name} cannot be used: {error}; give {READABLE}") from error
    layout = "TensorFlow's StyleGAN2" if found.tensorflow else "NVIDIA's PyTorch code"
    notes = (f"a pickle of {layout} that holds {', '.join(found.networks)}; {name} is the generator", *notes)
    discriminator, problem = _nvidia_discriminator(path, found)
    notes += tuple(f"its {other} is unused: {reason}" for other, reason in (found.problems | problem).items())
    return LoadedGan(generator, discriminator, found.sha256, describe(generator), path, notes)


def _nvidia_generator(
    path: Path, module: nvidia.NvidiaModule, is_tensorflow: bool
) -> tuple[StyleGenerator, tuple[str, ...]]:
    """Generator of an NVIDIA file, by its architecture, and notes on what had to be assumed."""
    if module.is_stylegan3:
        return stylegan3.from_reference(module.kwargs, module.state, path), ()
    if is_tensorflow:
        state, config = tensorflow.generator_parts(module.state, module.kwargs)
        notes: tuple[str, ...] = ()
    else:
        state = module.state
        config, notes = nvidia.generator_config(module)
    generator = filled(path, Generator, config, state, copy=is_tensorflow)
    if "mapping.w_avg" not in state:
        notes = (*notes, estimate_average(generator))
    return generator, notes


def _nvidia_discriminator(path: Path, found: nvidia.NvidiaNetworks) -> tuple[Discriminator | None, dict[str, str]]:
    """Discriminator of an NVIDIA file, or why there is none: a generator is of use without it."""
    module = found.networks.get("D")
    if module is None:
        return None, {} if "D" in found.problems else {"D": "the file has none"}
    try:
        if found.tensorflow:
            state, config = tensorflow.discriminator_parts(module.state, module.kwargs)
        else:
            state, config = module.state, nvidia.discriminator_config(module)
        return filled(path, Discriminator, config, state, copy=found.tensorflow), {}
    except InputError as error:
        return None, {"D": str(error)}


def _config(path: Path, text: str, kind: type[Config]) -> Config:
    try:
        return kind.from_dict(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the configuration in {path} is damaged ({error}); copy the file again") from error
