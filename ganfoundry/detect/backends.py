"""Detectors behind one interface: torchvision's Mask R-CNN (default) and detectron2 (optional).

A detector takes stored images and returns :class:`~ganfoundry.detect.filtering.Instances` for each. The default is the
small Mask R-CNN that ships with the project; a user's own weights (torchvision's Mask R-CNN on ResNet-50, or anything
that a detectron2 config describes) take its place without a change elsewhere.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry import weights as shipped
from ganfoundry.detect.filtering import Instances
from ganfoundry.detect.mask_rcnn import WEIGHTS_NAME, load_detector
from ganfoundry.detect.torchvision_shim import import_torchvision
from ganfoundry.errors import InputError

if TYPE_CHECKING:
    from torchvision.models.detection import MaskRCNN

BATCH_SIZE = 16
BACKENDS = ("torchvision", "detectron2")
_PUBLIC_PREFIX = "backbone.body.layer4."  # what tells torchvision's own models from ours


class Detector(Protocol):
    """Finds objects in images."""

    def detect(self, images: NDArray[np.uint8]) -> list[Instances]:
        """Objects of each image of (N, H, W, 3) uint8 RGB, best score first, masks of the images' own size."""
        ...


class TorchvisionDetector:
    """A torchvision Mask R-CNN.

    Parameters
    ----------
    net : torchvision.models.detection.MaskRCNN
        Put into evaluation mode.
    score_threshold : float in [0, 1]
        Detections below it are not returned; none of their masks is computed.
    """

    def __init__(self, net: "MaskRCNN", score_threshold: float = 0.05) -> None:
        self.net = net.eval().requires_grad_(False)
        self.net.roi_heads.score_thresh = score_threshold

    @torch.inference_mode()
    def detect(self, images: NDArray[np.uint8]) -> list[Instances]:
        """Find objects; see :class:`Detector`.

        Raises
        ------
        InputError
            If the array is not of shape (N, H, W, 3) and type uint8.
        """
        images = _checked(images)
        found = []
        for start in range(0, len(images), BATCH_SIZE):
            x = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH_SIZE]))
            outputs = self.net(list(x.permute(0, 3, 1, 2).float() / 255))
            found += [_from_torchvision(output) for output in outputs]
        return found


def _from_torchvision(output: dict[str, Tensor]) -> Instances:
    order = output["scores"].argsort(descending=True, stable=True)
    return Instances(
        masks=(output["masks"][order, 0] > 0.5).numpy(),
        scores=output["scores"][order].numpy(),
        boxes=output["boxes"][order].numpy(),
        labels=output["labels"][order].numpy(),
    )


def _checked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InputError(f"the detector takes uint8 images (N, H, W, 3); this array is {images.dtype} {images.shape}")
    return images


def open_detector(
    weights: str | Path, *, backend: str = "torchvision", config_file: str | Path = "", score_threshold: float = 0.05
) -> Detector:
    """Make a detector from weights.

    Parameters
    ----------
    weights : str or Path
        torchvision: a name that ships ("cars-detector"), a file or folder of train-detector, or a state dict of
        torchvision's maskrcnn_resnet50_fpn or its v2 (.pth or .safetensors), with any number of classes.
        detectron2: the model's weights file; empty: those that the config names.
    backend : {"torchvision", "detectron2"}
    config_file : str or Path
        detectron2's YAML config, a file or a name of its model zoo.
    score_threshold : float in [0, 1]
        Detections below it are not returned.

    Raises
    ------
    InputError
        If the weights are missing, damaged or of an unknown architecture, or the backend is unknown or not installed.
    """
    if backend == "detectron2":
        return Detectron2Detector(config_file, weights, score_threshold)
    if backend != "torchvision":
        raise InputError(f"there is no detector backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    path = resolve_weights(weights)
    if path.suffix in (".pth", ".pt") or _is_public_model(path):
        return TorchvisionDetector(_public_model(path), score_threshold)
    return TorchvisionDetector(load_detector(path).net, score_threshold)


def resolve_weights(weights: str | Path) -> Path:
    """Path of weights given by a path or by a shipped name; a path wins.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(weights)
    if path.exists():
        return path
    try:
        return shipped.path(str(weights))
    except InputError:
        names = ", ".join(name for name in shipped.names() if (shipped.ROOT / name / WEIGHTS_NAME).is_file())
        raise InputError(
            f"there are no detector weights {str(weights)!r}; give a file, a folder or a name: {names or 'none'}"
        ) from None


def _is_public_model(path: Path) -> bool:
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            return any(name.startswith(_PUBLIC_PREFIX) for name in stream.keys())  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError):
        return False  # load_detector says what is wrong with it


def _public_model(path: Path) -> "MaskRCNN":
    """Build the torchvision model that a state dict belongs to, by the names of its tensors, and fill it."""
    state = _read_state(path)
    if not any(name.startswith(_PUBLIC_PREFIX) for name in state):
        raise InputError(f"{path} is no torchvision Mask R-CNN on ResNet-50; give the state dict of one")
    detection = import_torchvision().models.detection
    is_v2 = "rpn.head.conv.1.0.weight" in state  # two convolutions in the proposal head
    build = detection.maskrcnn_resnet50_fpn_v2 if is_v2 else detection.maskrcnn_resnet50_fpn
    classes = state["roi_heads.box_predictor.cls_score.weight"].shape[0]
    net: MaskRCNN = build(weights=None, weights_backbone=None, num_classes=classes, rpn_post_nms_top_n_test=100)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the tensors of {path} do not fit torchvision's {build.__name__}") from error
    return net


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251  tensors only, runs no code
    except Exception as error:  # torch reports a damaged file in half a dozen ways
        raise InputError(f"{path} cannot be read as a state dict of tensors; save one with net.state_dict()") from error
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} is not a state dict of tensors; save one with net.state_dict()")
    return state


class Detectron2Detector:
    """A detectron2 model, imported when the first one is made.

    Parameters
    ----------
    config_file : str or Path
        YAML config, a file or a name of the model zoo such as COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml.
    weights : str or Path
        Weights file; empty: those that the config names.
    score_threshold : float in [0, 1]

    Raises
    ------
    InputError
        If detectron2 is not installed, or the config or the weights cannot be read.
    """

    def __init__(self, config_file: str | Path, weights: str | Path = "", score_threshold: float = 0.05) -> None:
        try:
            config_module = importlib.import_module("detectron2.config")
            engine = importlib.import_module("detectron2.engine")
        except ImportError as error:
            raise InputError(
                "the detectron2 backend needs detectron2, which is not installed: build it from its source "
                "(https://github.com/facebookresearch/detectron2) or use --backend torchvision"
            ) from error
        config = config_module.get_cfg()
        try:
            config.merge_from_file(_detectron2_config(str(config_file)))
        except Exception as error:
            raise InputError(f"detectron2 cannot read the config {str(config_file)!r}; give a YAML file") from error
        if str(weights):
            config.MODEL.WEIGHTS = str(weights)
        config.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
        config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = score_threshold
        try:
            self._predict = engine.DefaultPredictor(config)
        except Exception as error:
            raise InputError(f"detectron2 cannot load {config.MODEL.WEIGHTS!r} with this config ({error})") from error

    def detect(self, images: NDArray[np.uint8]) -> list[Instances]:
        """Find objects; see :class:`Detector`."""
        return [
            from_detectron2(self._predict(image[:, :, ::-1])["instances"]) for image in _checked(images)
        ]  # takes BGR


def _detectron2_config(name: str) -> str:
    if Path(name).is_file():
        return name
    found: str = importlib.import_module("detectron2.model_zoo").get_config_file(name)
    return found


def from_detectron2(found: Any) -> Instances:
    """Turn detectron2's `Instances` (labels from 0) into ours (labels from 1, best score first)."""
    found = found.to("cpu")
    order = found.scores.argsort(descending=True, stable=True)
    return Instances(
        masks=found.pred_masks[order].numpy().astype(bool),
        scores=found.scores[order].numpy().astype(np.float32),
        boxes=found.pred_boxes.tensor[order].numpy().astype(np.float32),
        labels=found.pred_classes[order].numpy().astype(np.int64) + 1,
    )
