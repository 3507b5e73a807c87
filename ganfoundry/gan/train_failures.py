"""Failures of a training that a person can act on: what happened, what to change, what is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ganfoundry.errors import RunError
from ganfoundry.gan.train_config import TrainingConfig
from ganfoundry.gan.train_distributed import DivergedError
from ganfoundry.gan.train_state import checkpoints

# What torch's CPU allocator and the C library say; on CUDA the exception has a type of its own.
OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory")


@contextmanager
def failures_explained(config: TrainingConfig, out: Path) -> Iterator[None]:
    """Turn exhausted memory and gradients that are not finite into a sentence.

    Parameters
    ----------
    config : TrainingConfig
        Its batch and precision are named.
    out : Path
        Folder of the run; its newest checkpoint is named.

    Raises
    ------
    RunError
        Instead of torch's own exceptions and MemoryError; others pass.
    """
    try:
        yield
    except DivergedError as error:
        precision = "--precision fp32, " if config.precision == "bf16" else ""
        changes = f"{precision}a lower --learning-rate or a larger --r1-gamma"
        raise RunError(f"{error}; begin a new run with {changes}{_kept(out, ' and --start {}')}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        precision = ", --precision bf16" if config.precision == "fp32" else ""
        raise RunError(
            f"training ran out of memory on {where} with {config.batch} images a step at {config.resolution} px; "
            f"use a smaller --batch{precision}, fewer channels or a lower --resolution{_kept(out, ' (kept: {})')}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in OUT_OF_MEMORY)


def _kept(out: Path, template: str) -> str:
    """Name of the newest checkpoint, in a template; nothing without one."""
    found = checkpoints(out / "checkpoints")
    return template.format(found[-1]) if found else "; there is no checkpoint yet"
