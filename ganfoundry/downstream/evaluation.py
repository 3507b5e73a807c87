"""What a trained network says of images, and how right it is: mIoU, pixel accuracy, PCK.

Every figure is over all images of a test set together. mIoU is the mean over the classes, background included, of the
intersections over the unions summed over the images, and a class in neither truth nor prediction counts 0: DatasetGAN's
released evaluation. PCK counts the visible keypoints whose distance from the truth is at most a share of the longer
side of the object's box; the box is that of the pixels which are not background.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.downstream.examples import Examples
from ganfoundry.downstream.networks import Net
from ganfoundry.errors import InputError
from ganfoundry.images import network_images
from ganfoundry.labels.keypoints import object_sizes
from ganfoundry.metrics import mean_iou, pck, pixel_accuracy
from ganfoundry.worlds.annotator_net import decode_keypoints


@dataclass(frozen=True)
class Found:
    """Predictions of one network, one of the two.

    Attributes
    ----------
    label : (N, R, R) uint8, or None
    keypoints : (N, K, 3) float32 (x, y in pixels, probability of being visible), or None
    """

    label: NDArray[np.uint8] | None = None
    keypoints: NDArray[np.float32] | None = None


@torch.inference_mode()
def predict(net: Net, images: NDArray[np.uint8], *, batch_size: int = 50) -> Found:
    """Predictions for images (N, R, R, 3) uint8 of the network's resolution.

    Raises
    ------
    InputError
        If the array is not of that shape and type, or empty.
    """
    side = net.config.resolution
    if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3) or len(images) == 0:
        raise InputError(
            f"the network takes uint8 images (N, {side}, {side}, 3), at least one; this array is "
            f"{images.dtype} {images.shape}"
        )
    net.eval()
    pieces = [_one(net, images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    joined = torch.cat(pieces).numpy()
    return Found(label=joined) if net.config.task == "parts" else Found(keypoints=joined)


def _one(net: Net, images: NDArray[np.uint8]) -> Tensor:
    output = net(network_images(images).contiguous(memory_format=torch.channels_last))
    if isinstance(output, Tensor):
        return output.argmax(1).to(torch.uint8)
    places = decode_keypoints(output.heatmaps, images.shape[1])
    return torch.cat([places, output.visibility.sigmoid()[..., None]], 2)


def part_figures(
    truth: NDArray[np.uint8], found: NDArray[np.uint8], num_classes: int, *, ignore: int | None = None
) -> dict[str, float]:
    """Part figures: "miou" and "pixel_accuracy" of label maps (N, R, R); true id `ignore` does not count."""
    return {
        "miou": mean_iou(truth, found, num_classes, absent="zero", ignore=ignore),
        "pixel_accuracy": pixel_accuracy(truth, found, ignore=ignore),
    }


def keypoint_figures(truth: Examples, found: NDArray[np.float32]) -> dict[str, float]:
    """Keypoint figures: "pck5" and "pck10" of keypoints (N, K, 3) against examples that have some."""
    assert truth.keypoints is not None
    size = object_sizes(truth.label)
    return {f"pck{share}": pck(truth.keypoints, found, share / 100, size) for share in (5, 10)}
