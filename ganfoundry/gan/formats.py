"""Files that may hold a generator: which kind each is, and reading it without running anything stored in it.

.pt files go through torch's restricted unpickler (``weights_only=True``); this is the one module that calls
``torch.load``. NVIDIA's .pkl files are read by ``ganfoundry.gan.nvidia``, without any unpickler.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ganfoundry.errors import InputError

MAX_BYTES = 8 << 30
READABLE = (
    "a name of ganfoundry.weights, a folder with generator.safetensors, a .safetensors file, "
    "NVIDIA's .pkl, or a .pt file of rosinality/stylegan2-pytorch"
)
_LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # a pickled magic number opens torch's old format


def kind_of(path: Path) -> str:
    """Return "pt", "pkl" (a plain pickle) or "safetensors", by the first bytes of a file.

    Pickles of protocols 0 and 1 have no mark of their own and are known by the suffix .pkl.

    Raises
    ------
    InputError
        If it is none of them, or is larger than 8 GiB.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 30} GiB, too large for a generator; give {READABLE}")
    with path.open("rb") as stream:
        head = stream.read(16)
    if head[:4] == b"PK\x03\x04" or head.startswith(_LEGACY_TORCH):
        return "pt"
    if head and (path.suffix == ".pkl" or (head[:1] == b"\x80" and head[8:9] != b"{")):
        return "pkl"
    if head[8:9] != b"{":
        raise InputError(f"{path} is not a generator checkpoint; give {READABLE}")
    return "safetensors"


def sha256_of(path: Path, recorded: object = None) -> str:
    """Sha256 of a file, compared with the one on its card.

    Raises
    ------
    InputError
        If ``recorded`` is given and differs.
    """
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
    digest = hasher.hexdigest()
    if recorded is not None and recorded != digest:
        raise InputError(
            f"{path} is damaged or was replaced: its sha256 is {digest[:12]}..., not {str(recorded)[:12]}... as on its "
            "card; copy or import it again"
        )
    return digest


def read_pt(path: Path) -> dict[str, Any]:
    """Contents of a .pt file, with torch's restricted unpickler only: tensors, containers and argparse.Namespace.

    Raises
    ------
    InputError
        If the file is damaged, asks for anything else, or does not hold a dict.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:
        # Damaged files raise anything from KeyError to RuntimeError; forbidden content raises UnpicklingError.
        reason = str(error).strip().split("\n")[0][:160]
        raise InputError(f"{path} is damaged or not a .pt file of tensors ({reason}); get the file again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a checkpoint; give {READABLE}")
    return content


def tensors_of(path: Path, state: object) -> dict[str, Tensor]:
    """Check that part of a .pt file is a state dict of tensors; InputError if it is not."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} does not hold a state dict of tensors; give {READABLE}")
    return {str(name): value for name, value in state.items()}


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file; InputError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as stream:
            return stream.metadata() or {}, {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error}); copy it again") from error
