"""Images that a small network learns in seconds: a coloured square whose colour is its class, on grey noise."""

import numpy as np
import torch

from ganfoundry.downstream import Examples, NetConfig
from ganfoundry.downstream.networks import Task

SIDE = 32
COLOURS = np.array([(110, 110, 110), (230, 30, 30), (30, 60, 230)], np.uint8)
MIRROR = torch.tensor([1, 0])  # the two keypoints are the left and the right edge of the square


def toy_examples(count: int = 12, seed: int = 0) -> Examples:
    """Squares of classes 1 and 2; keypoints at the middles of the left and right edge."""
    random = np.random.default_rng(seed)
    image = random.integers(90, 130, (count, SIDE, SIDE, 3)).astype(np.uint8)
    label = np.zeros((count, SIDE, SIDE), np.uint8)
    keypoints = np.zeros((count, 2, 3), np.float32)
    for row in range(count):
        size, kind = int(random.integers(8, 15)), 1 + row % 2
        x, y = random.integers(2, SIDE - size - 2, 2)
        image[row, y : y + size, x : x + size] = COLOURS[kind]
        label[row, y : y + size, x : x + size] = kind
        keypoints[row] = [(x, y + size / 2, 1), (x + size, y + size / 2, 1)]
    return Examples(image, label, keypoints)


def toy_net(task: Task) -> NetConfig:
    outputs = ("background", "red", "blue") if task == "parts" else ("left", "right")
    return NetConfig(task, outputs, width=8, head_width=16, resolution=SIDE)
