"""Networks that are trained on labelled images: DeepLabV3 for parts, heat maps for keypoints.

Both come from torchvision's parts. The usual strides are made for images of 500 px; at 64 px they would leave a map of
4 x 4 cells. So the backbones here start at full size and stop at a quarter of the image side, and the rates of the
atrous pooling are brought to that size. "small" has residual blocks of 24, 48 and 96 channels and is the default on
CPUs; "resnet101" is torchvision's with dilated last stages, its first stride removed up to 128 px; "imagenet" is the
pretrained EfficientNet-Lite0 of the optional extra, read at strides 4 and 8 of the image (fed at twice its size).
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganfoundry.detect.torchvision_shim import import_torchvision
from ganfoundry.errors import InputError
from ganfoundry.gan import imagenet

Task = Literal["parts", "keypoints"]
Backbone = Literal["small", "resnet101", "imagenet"]
_RATES = (2, 4, 6)  # of the atrous convolutions, in cells: 8, 16 and 24 pixels


@dataclass(frozen=True)
class NetConfig:
    """What a downstream network is.

    Attributes
    ----------
    task : "parts" or "keypoints"
    outputs : tuple of str
        Classes (0 is the background) or keypoints.
    backbone : "small", "resnet101" or "imagenet"
    width : int
        Channels of the small backbone at full size; it ends with four times as many.
    head_width : int
        Channels of the head.
    resolution : int
        Side of the images, a multiple of 8.

    Raises
    ------
    InputError
        If a value is not possible.
    """

    task: Task
    outputs: tuple[str, ...]
    backbone: Backbone = "small"
    width: int = 24
    head_width: int = 64
    resolution: int = 64

    def __post_init__(self) -> None:
        if self.task not in get_args(Task) or self.backbone not in get_args(Backbone):
            raise InputError(f"there is no network for {self.task} with backbone {self.backbone}; see NetConfig")
        if not self.outputs or self.resolution < 8 or self.resolution % 8 or min(self.width, self.head_width) < 1:
            raise InputError(
                f"a network for {self.resolution} px images with {len(self.outputs)} outputs cannot be built: the side "
                "must be a multiple of 8, with at least one output"
            )


class KeypointOutput(NamedTuple):
    """Raw predictions of keypoints.

    Attributes
    ----------
    heatmaps : (N, K, h, h) float32, h = R / 2 (resnet101 above 128 px: R / 4)
        Logits of the position.
    visibility : (N, K) float32
        Logits of being visible.
    """

    heatmaps: Tensor
    visibility: Tensor


class PartNet(nn.Module):
    """DeepLabV3 (Chen et al., 2017): images (N, 3, R, R) in [-1, 1] to class logits (N, C, R, R) float32."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        import_torchvision()
        from torchvision.models.segmentation.deeplabv3 import ASPP

        self.backbone, channels = _backbone(config)
        width = config.head_width
        self.head = nn.Sequential(
            ASPP(channels, _RATES, width), _convolution(width, width), nn.Conv2d(width, len(config.outputs), 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Class logits at the size of the images."""
        logits = self.head(self.backbone(images)).float()
        return functional.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)


class KeypointNet(nn.Module):
    """Heat maps at twice the backbone's size by one transposed convolution (Xiao et al., "Simple baselines", 2018)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone, channels = _backbone(config)
        width = config.head_width
        self.context = _convolution(channels, width)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.heat = nn.Conv2d(width, len(config.outputs), 1)
        self.visible = nn.Linear(width, len(config.outputs))

    def forward(self, images: Tensor) -> KeypointOutput:
        """Heat maps and visibility."""
        features = self.context(self.backbone(images))
        # Visibility follows from the view: the most active cell of each channel shows it, wherever it lies.
        visibility = self.visible(features.amax((2, 3)))
        return KeypointOutput(self.heat(self.up(features)).float(), visibility.float())


Net = PartNet | KeypointNet


def build_net(config: NetConfig, seed: int = 0) -> Net:
    """Network with initial weights that follow from a seed alone.

    Raises
    ------
    InputError
        If the backbone needs packages that are not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PartNet(config) if config.task == "parts" else KeypointNet(config)


def _backbone(config: NetConfig) -> tuple[nn.Module, int]:
    """Network to a map of four pixels a cell (resnet101 above 128 px: eight), and its channels."""
    if config.backbone == "small":
        return _small(config.width), 4 * config.width
    if config.backbone == "resnet101":
        return _resnet101(config.resolution)
    return ImageNetBackbone(config.resolution), ImageNetBackbone.channels


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _small(width: int) -> nn.Sequential:
    import_torchvision()
    from torchvision.models.resnet import BasicBlock

    def down(inputs: int, outputs: int) -> nn.Module:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))
        block: nn.Module = BasicBlock(inputs, outputs, 2, shortcut)
        return block

    middle, last = 2 * width, 4 * width
    return nn.Sequential(
        _convolution(3, width),
        down(width, middle),
        BasicBlock(middle, middle),
        down(middle, last),
        BasicBlock(last, last),
    )


def _resnet101(resolution: int) -> tuple[nn.Module, int]:
    import_torchvision()
    from torchvision.models import resnet101

    net: Any = resnet101(weights=None, replace_stride_with_dilation=[False, True, True])
    if resolution <= 128:
        net.conv1.stride = (1, 1)
    stages = (net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    return nn.Sequential(*stages), 2048


class ImageNetBackbone(nn.Module):
    """EfficientNet-Lite0 trained on ImageNet: its maps of 40 and 112 channels, joined.

    The image is fed at twice its size, so that the maps have 4 and 8 pixels of it a cell.
    """

    channels = 40 + 112

    def __init__(self, resolution: int) -> None:
        super().__init__()
        net = imagenet.load_efficientnet(2 * resolution).requires_grad_(True)
        self.stem = nn.Sequential(net._conv_stem, net._bn0, net._swish)
        ends = [index for index, block in enumerate(net._blocks) if block._block_args.output_filters in (40, 112)]
        near = max(index for index in ends if net._blocks[index]._block_args.output_filters == 40)
        self.near = nn.Sequential(*net._blocks[: near + 1])
        self.far = nn.Sequential(*net._blocks[near + 1 : max(ends) + 1])

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 152, R / 4, R / 4) of images (N, 3, R, R) in [-1, 1]."""
        x = ((images + 1) / 2 - imagenet.MEAN) / imagenet.STD
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        near = self.near(self.stem(x))
        far = functional.interpolate(self.far(near), size=near.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([near, far], 1)
