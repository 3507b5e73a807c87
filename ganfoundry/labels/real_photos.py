"""Labelled photos as training examples: their latents are those that `invert` found (HandsOff, arXiv:2212.12645).

The Style Interpreter learns from a generator's features. A photo has such features once it has a latent: the labels are
drawn on the photo, the features come from the image that the generator makes of the latent. The two differ, so such an
example is less certain than a generated one, and its weight in the training says by how much.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganfoundry.data.reader import ShardReader
from ganfoundry.errors import InputError
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.latent_spaces import WLatents, load_latents
from ganfoundry.labels.pairing import Sample, plain_names

HALF_PSNR = 20.0


def certainty(psnr: ArrayLike, half: float = HALF_PSNR) -> NDArray[np.float32]:
    """Weight of an inverted photo, from how near the inversion comes to it.

        weight = 1 / (1 + e^2 / e0^2) = 1 / (1 + 10^((half - psnr) / 10))

    e^2 is the mean squared error of the inversion, e0^2 that of an inversion of PSNR `half`, which counts half. The
    weight rises with the PSNR from 0 (never reached: the worst PSNR is 0 dB) to 1, exact.

    Parameters
    ----------
    psnr : decibels, of any shape
    half : decibels

    Returns
    -------
    float32 in (0, 1]

    Raises
    ------
    InputError
        If a PSNR is not a number of decibels from 0 on.
    """
    values = np.asarray(psnr, np.float64)
    if not (values >= 0).all():  # also false for nan
        raise InputError("a photo's inversion has no PSNR from 0 dB on; invert it again")
    return (1 / (1 + 10 ** ((half - values) / 10))).astype(np.float32)


def load_photos(folder: Path, generator: StyleGenerator, *, half: float = HALF_PSNR) -> list[Sample]:
    """Photos with the latents that `invert` found, as samples that annotations can belong to.

    Parameters
    ----------
    folder : Path
        An inversions folder, of the method w (or pivotal, whose w is used with the generator as it was).
    generator : StyleGAN2 or StyleGAN3 generator
        Its sizes must fit; whose latents they are is recorded with the samples.
    half : float, decibels
        PSNR at which a photo counts half.

    Raises
    ------
    InputError
        For latents of W+ (labels hold one w a sample), or a damaged folder.
    """
    try:
        table = json.loads((folder / "inversions.json").read_text("utf-8"))
        names = [str(row["name"]) for row in table["images"]]
        sha256 = str(table["generator_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {folder / 'inversions.json'}: {error}; run invert again") from None
    if table.get("method") == "w+":
        raise InputError(
            f"{folder} holds latents of W+, one w for every layer, but labels hold one w a sample: run invert with "
            "--method w"
        )
    latents = load_latents(folder / "latents.safetensors", None, "W", sha256)
    assert isinstance(latents, WLatents)
    w = latents.w.numpy()
    fields = ShardReader(folder / "shards").rows(np.arange(len(names)), ["image", "inverted_image", "psnr"])
    if len(w) != len(names):
        raise InputError(f"{folder} has {len(w)} latents for {len(names)} pictures; run invert again")
    if w.shape[1] != generator.config.w_dim or fields["image"].shape[1] != generator.config.resolution:
        raise InputError(f"{folder} belongs to a generator of other sizes; pass its own, or invert the photos again")
    weights = certainty(fields["psnr"], half)
    return [
        Sample(
            stem,
            fields["inverted_image"][row],
            fields["image"][row],
            w[row],
            sha256,
            "photos",
            None,
            float(weights[row]),
            frozenset({name, Path(name).name, Path(name).stem}),
        )
        for row, (name, stem) in enumerate(zip(names, plain_names(names), strict=True))
    ]
