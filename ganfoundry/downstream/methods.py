"""Ways to use images without labels, against which a data set is measured: mean teacher and self-trained features."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ganfoundry.downstream.augmentation import Batch, apply_affine, draw_affine, recolour
from ganfoundry.downstream.networks import Net, NetConfig, build_net
from ganfoundry.downstream.training import Objective, Recipe, Supervised, fit, task_losses
from ganfoundry.errors import InputError
from ganfoundry.images import network_images

Images = NDArray[np.uint8]
RAMP = 0.4  # share of the training over which the consistency grows
HIDDEN = 0.5  # share of the cells that the reconstruction hides
CELL = 8  # pixels


@dataclass(frozen=True)
class MeanTeacher:
    """Labels for some images, agreement with the running mean on all others (Tarvainen and Valpola, 2017).

    Network and running mean see the same piece of an unlabelled image in different colours; the squared difference of
    their probabilities is the second term, whose weight grows as exp(-5 (1 - t) ** 2) over the first part of the
    training. The running mean, which is what training leaves, is the teacher.

    Attributes
    ----------
    supervised : Supervised
        The labelled images.
    images : (n, R, R, 3) uint8
        The unlabelled ones; a step draws as many of them as of the others.
    weight : float
        Largest weight of the agreement.
    """

    supervised: Supervised
    images: Images
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise InputError("mean teacher needs images without labels; give at least one")

    def __call__(self, net: nn.Module, mean: nn.Module, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of one step."""
        batch = self.supervised.batch(generator)
        count = len(batch.image)
        rows = torch.randint(len(self.images), (count,), generator=generator)
        pieces = _moved(self.images[rows.numpy()], generator)
        mean.eval()  # its running statistics are as averaged as its weights
        with torch.no_grad():
            said = _probabilities(mean(recolour(pieces, generator)))
        output = net(torch.cat([batch.image, recolour(pieces, generator)]))
        labelled, other = _split(output, count)
        progress = min(1.0, step / (RAMP * self.supervised.recipe.steps))
        weight = self.weight * float(np.exp(-5 * (1 - progress) ** 2))
        difference = (_probabilities(other) - said).square().sum(1).mean()
        return task_losses(labelled, batch, self.supervised.class_weights) | {"agreement": weight * difference}


def _moved(images: Images, generator: torch.Generator) -> Tensor:
    """Network images, moved and mirrored."""
    image = network_images(images)
    nothing = torch.zeros(len(image), *image.shape[2:], dtype=torch.int64)
    matrix, mirrored = draw_affine(len(image), True, generator)
    return apply_affine(Batch(image, nothing, None), matrix, mirrored, None).image


def _probabilities(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Class probabilities at every pixel, or of every keypoint's place, on axis 1: (N, C, ...)."""
    if isinstance(output, Tensor):
        return output.float().softmax(1)
    return output[0].float().flatten(2).softmax(2).transpose(1, 2)


def _split(output: Tensor | tuple[Tensor, ...], count: int) -> tuple:  # type: ignore[type-arg]
    """Outputs of the first `count` images, and of the others."""
    if isinstance(output, Tensor):
        return output[:count], output[count:]
    return type(output)(*(o[:count] for o in output)), type(output)(*(o[count:] for o in output))


def reconstruction(images: Images, recipe: Recipe) -> Objective:
    """Objective without labels: paint the hidden half of an image (Pathak et al., "Context encoders", 2016).

    Cells of `CELL` pixels are hidden at random; the mean absolute difference counts where they were.
    """

    def objective(net: nn.Module, mean: nn.Module, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(images), (recipe.batch_size,), generator=generator)
        whole = recolour(_moved(images[rows.numpy()], generator), generator)
        cells = torch.rand(len(whole), 1, whole.shape[2] // CELL, whole.shape[3] // CELL, generator=generator) < HIDDEN
        hidden = functional.interpolate(cells.float(), size=whole.shape[2:], mode="nearest")
        painted = net((whole * (1 - hidden)).contiguous(memory_format=torch.channels_last))
        difference = (painted - whole).abs() * hidden
        return {"reconstruction": difference.sum() / (3 * hidden.sum()).clamp(min=1)}

    return objective


def painter(config: NetConfig, images: Images, recipe: Recipe, seed: int) -> Net:
    """Network that has learnt to paint the hidden half of unlabelled images, for the sake of its backbone.

    Raises
    ------
    InputError
        If there is no image.
    """
    if len(images) == 0:
        raise InputError("features cannot be trained without images; give at least one")
    net = build_net(replace(config, task="parts", outputs=("red", "green", "blue")), seed)
    fit(net, reconstruction(images, recipe), recipe)
    return net


def with_backbone(config: NetConfig, trained: Net, seed: int) -> Net:
    """Network with the backbone of another one; its head is new."""
    net = build_net(config, seed)
    net.backbone.load_state_dict(trained.backbone.state_dict())
    return net
