"""A trained inverse-graphics network on disk: network.safetensors and network.json."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.train_data import write_atomically
from ganfoundry.images import network_images
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.inverse_graphics import Mesh, Reading, draw, infer, read
from ganfoundry.shape.inverse_training import InverseTrainer
from ganfoundry.shape.networks import InverseGraphicsNetwork, NetworkConfig

FORMAT = "ganfoundry-inverse-graphics-1"
WEIGHTS, TABLE = "network.safetensors", "network.json"
_BEFORE: dict[str, Any] = {"smoothing": 0.0, "keypoint_gain": 1.0, "part_gain": 1.0, "spread": False}  # in older files


@dataclass(frozen=True, eq=False)
class InverseModel:
    """A network that is ready to read images.

    Attributes
    ----------
    network : InverseGraphicsNetwork
        In evaluation mode, float32.
    size : int
        Side of the images it reads, pixels.
    part_names, keypoint_names : tuple of str
    palette : ndarray, uint8 (P, 3)
    description : dict
        network.json: recipe, figures, what it was trained on.
    """

    network: InverseGraphicsNetwork
    size: int
    part_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    palette: NDArray[np.uint8]
    description: dict[str, Any]

    @torch.inference_mode()
    def read(
        self, images: NDArray[np.uint8], cameras: Cameras | None = None, masks: NDArray[np.bool_] | None = None
    ) -> Reading:
        """Shapes, surfaces and cameras of images (N, size, size, 3).

        Parameters
        ----------
        images : ndarray, uint8
        cameras : Cameras, optional
            From which the images see the objects; without them what the network guesses, from each image and its mirror
            image together.
        masks : ndarray, bool (N, size, size), optional
            Where the images show the objects, so that no colour is taken from the background. An empty one says
            nothing.

        Raises
        ------
        InputError
            If the images have another size.
        """
        if images.shape[1:] != (self.size, self.size, 3):
            raise InputError(f"the network reads images ({self.size}, {self.size}, 3), not {images.shape[1:]}")
        known = None if masks is None else torch.from_numpy(masks | ~masks.any((1, 2), keepdims=True))
        stored = network_images(images)
        return infer(self.network, stored, known) if cameras is None else read(self.network, stored, cameras, known)

    @torch.inference_mode()
    def draw(self, reading: Reading, cameras: Cameras, size: int | None = None) -> Tensor:
        """Pictures (N, 3 + 1, S, S) of what was read, from cameras: colours in [-1, 1] times the mask, and the mask."""
        mesh = Mesh.of_level(self.network.config.level)
        drawn = draw(self.network, mesh, reading.shape.vertices, reading.surface.colours, cameras, size or self.size)
        assert drawn.image is not None
        return torch.cat([drawn.image, drawn.mask[:, None]], 1)

    @classmethod
    def load(cls, folder: str | Path) -> InverseModel:
        """Read what `save_model` wrote.

        Raises
        ------
        InputError
            If files are missing or damaged, or something else.
        """
        folder = Path(folder)
        try:
            table = json.loads((folder / TABLE).read_text())
            tensors = load((folder / WEIGHTS).read_bytes())
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"cannot read the network in {folder}: {error}; train it again") from error
        if table.get("format") != FORMAT:
            raise InputError(f"{folder} holds no inverse-graphics network; make one with train-inverse-graphics")
        settings = {key: tuple(v) if isinstance(v, list) else v for key, v in table["network"].items()}
        network = InverseGraphicsNetwork(NetworkConfig(**_BEFORE | settings))
        tensors.setdefault("paint_source", network.paint_source)  # older files say nothing of what is hidden
        network.load_state_dict(tensors)  # half precision becomes that of the network
        network.requires_grad_(False).eval()
        palette = np.array(table["palette"], np.uint8)
        return cls(network, table["size"], tuple(table["classes"]), tuple(table["keypoints"]), palette, table)


def save_model(folder: Path, trainer: InverseTrainer, palette: NDArray[np.uint8], extra: dict[str, Any]) -> None:
    """Write a trainer's network in half precision, with its camera table and what else is to be known.

    Parameters
    ----------
    folder : Path
    trainer : InverseTrainer
    palette : (P, 3) uint8
        Colours of the parts.
    extra : dict
        Further entries of network.json: figures, provenance.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() else value.int()).contiguous()
        for name, value in trainer.network.state_dict().items()
    }
    write_atomically(folder / WEIGHTS, save(tensors))
    codes = torch.arange(len(trainer.data.azimuths))
    table = {
        "format": FORMAT,
        "network": dataclasses.asdict(trainer.network.config),
        "training": dataclasses.asdict(trainer.training),
        "size": trainer.data.size,
        "classes": list(trainer.data.part_names),
        "palette": palette.tolist(),
        "keypoints": list(trainer.data.keypoint_names),
        "cameras": [
            [round(float(v), 4) for v in row] for row in trainer.table.parameters_of(codes).detach()
        ],  # azimuth, elevation (degrees), log relative distance, shift x and y (image sides), one a viewpoint code
        **extra,
    }
    write_atomically(folder / TABLE, (json.dumps(table, indent=1) + "\n").encode())
