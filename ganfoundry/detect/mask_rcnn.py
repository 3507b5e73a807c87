"""A small Mask R-CNN for images of 64 to 256 px on a CPU, and the file it is kept in.

Mask R-CNN (He et al. 2017, arXiv 1703.06870) in torchvision's implementation, with a residual backbone of our own, a
feature pyramid at strides 4, 8 and 16, few anchors and few proposals: generated images show one object, sometimes none
or several, not the hundred that COCO's settings allow for.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from ganfoundry.detect.torchvision_shim import import_torchvision
from ganfoundry.errors import InputError
from ganfoundry.records import record_of_json
from ganfoundry.weights import card_of

if TYPE_CHECKING:
    from torchvision.models.detection import MaskRCNN

WEIGHTS_NAME = "detector.safetensors"
HEADER_KEY = "detector"  # of the architecture, in the header of the weights file


@dataclass(frozen=True)
class DetectorConfig:
    """Architecture of a detector.

    Attributes
    ----------
    classes : tuple of str
        Names; the index is the label. Label 0 is the background.
    stem_channels : int
        Channels at stride 2.
    channels : three ints
        Channels at strides 4, 8 and 16.
    blocks : three ints
        Residual blocks at strides 4, 8 and 16.
    pyramid_channels : int
        Channels of every level of the feature pyramid.
    side : int
        Images are scaled so that their shorter side has this many pixels.
    anchor_sizes : four ints
        Anchor sides in scaled pixels at strides 4, 8, 16 and 32.
    aspect_ratios : tuple of float
        Height over width of the anchors.
    box_features : int
        Width of the two fully connected layers of the box head.
    mask_layers : int
        3x3 convolutions of the mask head, before its transposed convolution.
    proposals : int
        Regions an image is allowed.
    """

    classes: tuple[str, ...] = ("background", "car")
    stem_channels: int = 24
    channels: tuple[int, ...] = (48, 96, 160)
    blocks: tuple[int, ...] = (1, 2, 2)
    pyramid_channels: int = 64
    side: int = 128
    anchor_sizes: tuple[int, ...] = (16, 32, 64, 112)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0)
    box_features: int = 256
    mask_layers: int = 2
    proposals: int = 48

    def to_json(self) -> str:
        """One line of JSON, stored in the header of the weights."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If the text is not such a description.
        """
        try:
            return record_of_json(cls, text)
        except ValueError as error:
            raise InputError("the detector's description cannot be read; train it again with train-detector") from error


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


class PyramidBackbone(nn.Module):
    """Residual network and feature pyramid (Lin et al. 2017), float32 out whatever the precision inside.

    Attributes
    ----------
    out_channels : int
        What torchvision's heads read.
    precision : torch.dtype
        bfloat16: the convolutions run in it, on processors that have it about twice as fast.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        torchvision = import_torchvision()
        self.stem = _convolution(3, config.stem_channels, 3, 2)
        widths = (config.stem_channels, *config.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(inputs, outputs, 2), *(ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1))
            )
            for inputs, outputs, blocks in zip(widths, widths[1:], config.blocks, strict=False)
        )
        self.pyramid = torchvision.ops.FeaturePyramidNetwork(
            list(config.channels),
            config.pyramid_channels,
            torchvision.ops.feature_pyramid_network.LastLevelMaxPool(),
        )
        self.out_channels = config.pyramid_channels
        self.precision = torch.float32

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features of (N, 3, H, W): "0", "1", "2" at strides 4, 8, 16 and "pool" at 32."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            x = functional.relu(self.stem(images.contiguous(memory_format=torch.channels_last)))
            levels = {}
            for index, stage in enumerate(self.stages):
                x = levels[str(index)] = stage(x)
            levels = self.pyramid(levels)
        return {name: level.float().contiguous() for name, level in levels.items()}


def build_detector(config: DetectorConfig) -> "MaskRCNN":
    """Make an untrained Mask R-CNN of the given architecture; its weights come from torch's random state."""
    torchvision = import_torchvision()
    detection = torchvision.models.detection
    width, classes = config.pyramid_channels, len(config.classes)
    anchors = detection.anchor_utils.AnchorGenerator(
        tuple((size,) for size in config.anchor_sizes), (config.aspect_ratios,) * len(config.anchor_sizes)
    )
    levels = ["0", "1", "2"]
    pooler = torchvision.ops.MultiScaleRoIAlign
    net: MaskRCNN = detection.MaskRCNN(
        PyramidBackbone(config),
        min_size=config.side,
        max_size=4 * config.side,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=120,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_train=2 * config.proposals,
        rpn_post_nms_top_n_test=config.proposals,
        rpn_batch_size_per_image=128,
        rpn_nms_thresh=0.7,
        box_roi_pool=pooler(levels, output_size=7, sampling_ratio=2, canonical_scale=64, canonical_level=3),
        box_head=detection.faster_rcnn.TwoMLPHead(width * 7 * 7, config.box_features),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(config.box_features, classes),
        box_batch_size_per_image=32,
        box_detections_per_img=20,
        mask_roi_pool=pooler(levels, output_size=14, sampling_ratio=2, canonical_scale=64, canonical_level=3),
        mask_head=detection.mask_rcnn.MaskRCNNHeads(width, (width,) * config.mask_layers, 1),
        mask_predictor=detection.mask_rcnn.MaskRCNNPredictor(width, width, classes),
    )
    return net.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class LoadedDetector:
    """A trained detector in evaluation mode, its architecture and the sha256 of its file."""

    net: "MaskRCNN"
    config: DetectorConfig
    sha256: str


def save_detector(folder: Path, net: "MaskRCNN", config: DetectorConfig, card: Mapping[str, Any]) -> str:
    """Write detector.safetensors (half precision) and card.json into a folder.

    Parameters
    ----------
    card : mapping
        Data, seed, recipe and figures; the file's sha256 and size are added.

    Returns
    -------
    str
        sha256 of the weights file.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    content = save(tensors, metadata={HEADER_KEY: config.to_json()})  # one key: the order of several is random
    digest = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_NAME).write_bytes(content)
    text = json.dumps({**card, "sha256": digest, "bytes": len(content)}, indent=2)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")
    return digest


def load_detector(path: Path) -> LoadedDetector:
    """Read a detector that `save_detector` wrote.

    Parameters
    ----------
    path : Path
        The weights file, or the folder that holds it; with a card.json beside it, its sha256 must agree.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or not the one that its card describes.
    """
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there are no detector weights at {file}; give a file or folder that train-detector wrote")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    _check_card(file, digest)
    try:
        with safe_open(file, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"the detector weights {file} are damaged ({error}); copy or train them again") from error
    if HEADER_KEY not in header:
        raise InputError(f"{file} does not hold a detector of train-detector; give one that does")
    config = DetectorConfig.from_json(header[HEADER_KEY])
    net = build_detector(config)
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    try:
        missing, unexpected = net.load_state_dict(floats, strict=False)
    except RuntimeError as error:
        raise InputError(f"the weights in {file} do not fit their own description; train them again") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        name = (missing + unexpected)[0]
        raise InputError(f"the weights in {file} do not fit their own description (at {name}); train them again")
    return LoadedDetector(net.eval().requires_grad_(False), config, digest)


def _check_card(file: Path, digest: str) -> None:
    expected = str(card_of(file.parent).get("sha256", digest))
    if expected != digest:
        raise InputError(
            f"the detector weights {file} are not those of their card (sha256 {digest[:12]}..., the card says "
            f"{expected[:12]}...); copy both again"
        )
