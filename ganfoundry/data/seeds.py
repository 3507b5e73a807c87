"""One seed per sample: sample i is the same whatever the shards, the workers or the restarts.

A stream names what the randomness is for, so that a sample's content does not change when its noise is drawn first.
The numbers are part of the data format: never renumber them, only append.
"""

from __future__ import annotations

from typing import Final

import numpy as np

CONTENT: Final = 0  # latents z of a generated object
VIEW: Final = 1  # viewpoint choice and jitter
NOISE: Final = 2  # per-layer generator noise
WORLD: Final = 3  # scenes of a parametric world
LABEL: Final = 4  # choice of samples to label
TRAIN: Final = 5  # initialisation and batch order of a training run
EVALUATION: Final = 6  # held-out samples; disjoint from every training stream by construction


def sample_seed(root: int, stream: int, index: int) -> np.random.SeedSequence:
    """Seed of one sample, ``SeedSequence(root, spawn_key=(stream, index))``.

    Parameters
    ----------
    root : int
        Root seed of the run, >= 0.
    stream : int
        One of the stream constants of this module.
    index : int
        Row number of the sample in the whole data set, >= 0.

    Returns
    -------
    numpy.random.SeedSequence
        Independent (by hashing) of every other (root, stream, index).

    Raises
    ------
    ValueError
        If an argument is negative.
    """
    if min(root, stream, index) < 0:
        raise ValueError(f"seeds are non-negative integers, got root={root}, stream={stream}, index={index}")
    return np.random.SeedSequence(int(root), spawn_key=(int(stream), int(index)))


def sample_rng(root: int, stream: int, index: int) -> np.random.Generator:
    """Random generator of one sample (Philox, whose stream numpy keeps stable across versions).

    Parameters are those of :func:`sample_seed`.
    """
    return np.random.Generator(np.random.Philox(sample_seed(root, stream, index)))


def sample_integer(root: int, stream: int, index: int) -> int:
    """Return one sample's seed as a plain integer in [0, 2**63), for files and for APIs that want one."""
    return int(sample_seed(root, stream, index).generate_state(1, np.uint64)[0] >> np.uint64(1))
