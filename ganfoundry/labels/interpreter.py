"""The Style Interpreter: an ensemble of per-pixel networks, from a generator's feature maps to parts and keypoints.

DatasetGAN (Zhang et al., CVPR 2021): a GAN's feature maps already know the parts, so 16 labelled samples teach a
three-layer MLP to label every other sample. Ten of them vote, and where they disagree the label is uncertain. The same
networks, or a second set, make a heat map for every keypoint.

Here the members are one batched network: parameters have a leading member axis, training is a few thousand pixels a
step (:mod:`ganfoundry.labels.interpreter_training`), and prediction uses the factorised first layer of
:mod:`ganfoundry.labels.factorised`. A pixel's D features are gathered from maps at their own resolutions, so the tall
feature tensor exists neither in training nor in prediction.

Defaults differ from the paper and its code; :mod:`ganfoundry.labels.presets` has all three side by side. There is no
mirror augmentation: a generator's feature maps of a mirrored image are not its mirrored feature maps.

With viewpoint codes at hand a :mod:`ganfoundry.labels.direction` head tells the networks which way the object faces.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels import uncertainty as js
from ganfoundry.labels.direction import DIRECTION, DirectionHead, with_direction
from ganfoundry.labels.factorised import Mode, project_tiles
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.interpreter_config import Head, Heat, InterpreterConfig, Training, Voting
from ganfoundry.labels.interpreter_training import Targets, train
from ganfoundry.labels.tally import Tally

__all__ = ["InterpreterConfig", "Prediction", "StyleInterpreter", "Training"]

FORMAT = "ganfoundry-interpreter-2"
# Hidden units computed at a time, and numbers of one tile of the first layer: products wide enough to be efficient, few
# enough numbers to stay in cache. Products in bfloat16 are fast, so the calls around them count.
_GROUP_UNITS, _TILE_ELEMENTS = 640, 1 << 18
_GROUP_UNITS_BF16, _TILE_ELEMENTS_BF16 = 256, 1 << 20


@dataclass(frozen=True)
class Prediction:
    """Labels of n images with their uncertainty."""

    label: Tensor  # (n, R, R) uint8
    uncertainty: Tensor  # (n, R, R) float32, Jensen-Shannon divergence in nats
    score: Tensor  # (n,) float32, mean of the most uncertain tenth of the pixels
    probabilities: Tensor | None = None  # (n, classes, R, R) float32: mean, or shares of the vote
    keypoints: Tensor | None = None  # (n, K, 3) float32: x, y in pixels and the chance of being visible
    keypoint_spread: Tensor | None = None  # (n, K) float32, pixels: how far apart the members place a keypoint

    @classmethod
    def joined(cls, parts: Sequence["Prediction"]) -> "Prediction":
        """Predictions of one interpreter, one after the other."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        return cls(**{name: torch.cat(column) for name, column in columns.items() if column[0] is not None})


class StyleInterpreter:
    """An ensemble of per-pixel MLPs.

    Parameters
    ----------
    config : InterpreterConfig
    weights : one (members, out, in) float32 tensor per layer
    biases : one (members, out) float32 tensor per layer
    heat_weights, heat_biases : the same of the second network, where `config.keypoint_head` is "separate"
    direction : DirectionHead, optional
        What makes the map of that name, the last of `config.layers`.
    """

    def __init__(
        self,
        config: InterpreterConfig,
        weights: list[Tensor],
        biases: list[Tensor],
        heat_weights: list[Tensor] | None = None,
        heat_biases: list[Tensor] | None = None,
        direction: DirectionHead | None = None,
    ) -> None:
        self.config, self.weights, self.biases = config, weights, biases
        self.heat_weights, self.heat_biases = heat_weights or [], heat_biases or []
        self.direction = direction

    @property
    def reads(self) -> list[str]:
        """Names of the generator's feature maps that labels are made of."""
        own = [name for name, _ in self.config.layers if name != DIRECTION]
        return own + [name for name in (self.direction.names if self.direction else ()) if name not in own]

    @classmethod
    def fit(
        cls,
        features: Mapping[str, Tensor] | FeatureTable,
        labels: NDArray[np.uint8],
        num_classes: int,
        *,
        members: int = 10,
        hidden: tuple[int, ...] | None = None,
        mode: Mode = "bilinear",
        voting: Voting = "soft",
        keypoints: NDArray[np.float32] | None = None,
        keypoint_head: Head = "shared",
        heat: Heat = "sigmoid",
        weights: NDArray[np.float32] | None = None,
        training: Training | None = None,
        direction: DirectionHead | None = None,
        advance: Callable[[], Any] | None = None,
    ) -> "StyleInterpreter":
        """Train an ensemble on labelled images.

        Parameters
        ----------
        features : {name: (n, C, r, r)}, the generator's feature maps, or a FeatureTable of them (which has its `mode`)
        labels : (n, R, R) uint8 class ids, 255 = not labelled
        num_classes : int
        members, hidden, mode, voting, keypoint_head, heat : see `InterpreterConfig`; `hidden` by default 128 and
            64, from 32 classes on 256 and 128
        keypoints : (n, K, 3) float32, optional
            x, y in pixels and visibility: 1 for what is visible, 0 for what is hidden or absent, nan for what nobody
            has labelled.
        weights : (n,) float32, optional
            How much each image counts; by default all the same.
        training : Training
        direction : DirectionHead, optional
            With which the FeatureTable, if it is one, was made.
        advance : called once after every step (a progress bar)

        Raises
        ------
        InputError
            If labels, keypoints, weights and features disagree in number, or a label is no class.
        """
        training = training or Training()
        hidden = hidden or ((256, 128) if num_classes >= 32 else (128, 64))
        targets = Targets.checked(labels, keypoints, weights)
        if not isinstance(features, FeatureTable):
            maps, side = [with_direction(features, list(features), direction)], labels.shape[-1]
            features = FeatureTable.build(
                maps, len(labels), side, mode, standardise=training.standardise, unscaled=(DIRECTION,)
            )
        if len(features) != len(labels) or features.resolution != labels.shape[-1]:
            raise InputError(
                f"{len(labels)} label maps of side {labels.shape[-1]}, but feature maps of {len(features)} images of "
                f"side {features.resolution}"
            )
        config = InterpreterConfig(
            num_classes,
            features.layers,
            features.resolution,
            members,
            tuple(hidden),
            features.mode,
            voting,
            num_keypoints=0 if keypoints is None else keypoints.shape[1],
            keypoint_head=keypoint_head,
            heat=heat,
            keypoint_sigma=training.sigma * features.resolution,
        )
        first, second = train(features, targets, config, training, advance)
        return cls(config, *first, *second, direction=direction)

    def with_config(self, **changes: Any) -> "StyleInterpreter":
        """Return the same weights under a changed configuration, such as another voting or image score."""
        config = replace(self.config, **changes)
        return StyleInterpreter(config, self.weights, self.biases, self.heat_weights, self.heat_biases, self.direction)

    def extended(self, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The feature maps with that of the direction, if this interpreter reads it and it is not there."""
        return features if DIRECTION in features else with_direction(features, list(features), self.direction)

    @torch.inference_mode()
    def predict(
        self, features: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32, probabilities: bool = False
    ) -> Prediction:
        """Label images from their feature maps.

        Parameters
        ----------
        features : {name: (n, C, r, r)}; maps that the interpreter does not use are ignored
        dtype : torch.float32 or torch.bfloat16, of the matrix products; probabilities are float32
        probabilities : bool
            Keep the class probabilities.

        Raises
        ------
        InputError
            If a map is missing or has another number of channels.
        """
        tallies = list(self.tallies(features, dtype=dtype))
        shares = torch.stack([tally.shares() for tally in tallies])
        divergence = torch.stack([tally.uncertainty() for tally in tallies])
        label = shares.argmax(1).to(torch.uint8)
        score = js.image_score(divergence, self.config.image_score, label)
        found = Prediction(label, divergence, score, shares if probabilities else None)
        if not self.config.num_keypoints:
            return found
        places, spread = (torch.stack(parts) for parts in zip(*(tally.keypoints() for tally in tallies), strict=True))
        return replace(found, keypoints=places, keypoint_spread=spread)

    @torch.inference_mode()
    def tallies(self, features: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32) -> Iterator[Tally]:
        """Sums over the members, image by image; parameters and errors are those of :meth:`predict`."""
        features = self.extended(features)
        maps = [self._feature(features, name, channels) for name, channels in self.config.layers]
        for image in range(len(maps[0])):
            one = [feature[image] for feature in maps]
            tally = Tally(self.config)
            for rows, outputs in self._output_tiles(one, self.weights, self.biases, dtype):
                tally.add(rows, outputs)
            if self.heat_weights:
                for rows, heat in self._output_tiles(one, self.heat_weights, self.heat_biases, dtype):
                    tally.add_heat(rows, heat)
            yield tally

    def _output_tiles(
        self, maps: list[Tensor], weights: list[Tensor], biases: list[Tensor], dtype: torch.dtype
    ) -> Iterator[tuple[slice, Tensor]]:
        """Outputs (rows, members, outputs, R) of one image by groups of members and tiles of rows."""
        config, first, side = self.config, self.config.hidden[0], self.config.resolution
        half = dtype == torch.bfloat16
        units, elements = (_GROUP_UNITS_BF16, _TILE_ELEMENTS_BF16) if half else (_GROUP_UNITS, _TILE_ELEMENTS)
        group = max(1, units // first)
        tile_rows = max(4, min(side, elements // (min(group, config.members) * first * side)))
        maps = [feature.to(dtype) for feature in maps]
        for start in range(0, config.members, group):
            part = slice(start, start + group)
            weight, bias = weights[0][part].flatten(0, 1).to(dtype), biases[0][part].flatten()
            later = [(w[part].to(dtype), b[part].to(dtype)) for w, b in zip(weights[1:], biases[1:], strict=True)]
            for row, tile in project_tiles(maps, weight, bias, side, mode=config.mode, tile_rows=tile_rows):
                value = tile.view(len(tile) * side, -1, first).transpose(0, 1)  # (members, pixels, units)
                for w, b in later[:-1]:
                    value = torch.baddbmm(b[:, None], value.relu_(), w.mT)
                w, b = later[-1]
                value = torch.baddbmm(b[..., None], w, value.relu_().mT)  # (members, outputs, pixels)
                yield slice(row, row + len(tile)), value.unflatten(2, (-1, side)).permute(2, 0, 1, 3)

    def _feature(self, features: Mapping[str, Tensor], name: str, channels: int) -> Tensor:
        if name not in features:
            raise InputError(f"the interpreter reads feature map {name}, which is missing")
        if features[name].shape[1] != channels:
            raise InputError(
                f"feature map {name} has {features[name].shape[1]} channels, the interpreter was trained on {channels}"
            )
        return features[name].detach()

    def save(self, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write weights and configuration to one safetensors file."""
        tensors = {f"layer{i}.weight": w.contiguous() for i, w in enumerate(self.weights)}
        tensors |= {f"layer{i}.bias": b.contiguous() for i, b in enumerate(self.biases)}
        tensors |= {f"heat{i}.weight": w.contiguous() for i, w in enumerate(self.heat_weights)}
        tensors |= {f"heat{i}.bias": b.contiguous() for i, b in enumerate(self.heat_biases)}
        header: dict[str, Any] = {"format": FORMAT, "config": asdict(self.config), **(metadata or {})}
        if self.direction is not None:
            tensors |= self.direction.tensors()
            header["direction"] = self.direction.layers
        # One entry only: safetensors writes several in no fixed order, and the file's sha256 is its identity.
        safetensors.torch.save_file(tensors, path, metadata={"interpreter": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> "StyleInterpreter":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged or something else.
        """
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("interpreter", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise InputError(f"cannot read the interpreter {path}: {error}; train it again") from error
        if header.get("format") != FORMAT:
            raise InputError(f"{path} is not an interpreter file; train one with train-interpreter")
        settings = header["config"]
        settings["layers"] = tuple((name, channels) for name, channels in settings["layers"])
        config = InterpreterConfig(
            **settings | {"hidden": tuple(settings["hidden"]), "visibility": tuple(settings["visibility"])}
        )
        weights, biases, heat_weights, heat_biases = (
            [tensors[f"{network}{i}.{kind}"] for i in range(max(0, len(widths) - 1))]
            for network, widths in (("layer", config.widths), ("heat", config.heat_widths))
            for kind in ("weight", "bias")
        )
        seen = header.get("direction")
        direction = None if seen is None else DirectionHead.of_tensors(seen, tensors)
        return cls(config, weights, biases, heat_weights, heat_biases, direction)
