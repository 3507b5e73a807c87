"""Rows of a labelled 3D set: a generated object, read off one of its views and labelled in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ganfoundry.data.seeds import CONTENT, VIEW, sample_integer, sample_rng
from ganfoundry.detect.backends import Detector, open_detector
from ganfoundry.detect.filtering import FilterRule, decide
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.latents import content_codes
from ganfoundry.shape import labelled_3d
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.labelled_3d import LabelledViews, ObjectModel
from ganfoundry.views import ViewCodeSet
from ganfoundry.views.synthesis import render_objects

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the rows of an object follow from, besides the networks.

    Attributes
    ----------
    code_views, random_views : int
        Views from viewpoint codes, evenly spread over those of the object's shape, then views from random cameras.
    drawn : bool
        Show the drawn mesh at viewpoint codes too, instead of the generator's picture.
    truncation : float
        Psi of the content latents.
    seed : int
        Root seed.
    """

    code_views: int
    random_views: int
    drawn: bool
    truncation: float
    seed: int

    @property
    def views(self) -> int:
        """Rows of an object."""
        return self.code_views + self.random_views


@dataclass(frozen=True, eq=False)
class ObjectFactory:
    """The networks that make labelled objects."""

    generator: StyleGenerator
    codes: ViewCodeSet
    model: InverseModel
    detector: Detector

    @classmethod
    def load(cls, gan: str | Path, views: str | Path, network: str | Path, detector: str | Path) -> Self:
        """Load all four, and refuse what does not belong together.

        Raises
        ------
        InputError
            If a folder cannot be read, or codes or network are those of another generator; see `check_network`.
        """
        loaded, codes = load_gan(gan), ViewCodeSet.load(Path(views))
        generator = loaded.generator
        codes.check_generator(loaded.sha256, generator.synthesis.layer_names, generator.config.w_dim)
        model = InverseModel.load(network)
        labelled_3d.check_network(model, loaded.sha256, generator.config.resolution, len(codes))
        return cls(generator, codes, model, open_detector(detector, score_threshold=FilterRule().score_threshold))

    def make(self, number: int, recipe: Recipe) -> tuple[Arrays, Arrays]:
        """Rows (views first) and mesh of one object; they depend on its number and the recipe, not on its neighbours.

        The object is read from the first of its viewpoint codes, which one is drawn by its seed; without code views
        that picture is none of the rows.
        """
        rng, seed = sample_rng(recipe.seed, VIEW, number), sample_integer(recipe.seed, CONTENT, number)
        own, wanted = self.codes.of_objects([number])[0], max(recipe.code_views, 1)
        chosen = own[(int(rng.integers(len(own))) + np.arange(wanted) * len(own) // wanted) % len(own)]
        w_content = content_codes(self.generator, [seed], recipe.truncation)
        w_view = torch.from_numpy(self.codes.w[chosen])[None]
        pictures = render_objects(self.generator.synthesis, w_content, w_view, self.codes.layers)[0]
        at_codes = labelled_3d.camera_parameters(self.model, chosen)
        bins = self.codes.bins
        low = bins.first - bins.width / 2
        around = low, low + bins.width * bins.count
        at_random = labelled_3d.random_parameters(self.model, rng, recipe.random_views, around)
        masks = self._masks(pictures)
        reading = self.model.read(pictures[:1], labelled_3d.cameras_from(self.model, at_codes[:1]), masks[:1])
        found = labelled_3d.object_models(reading)[0]
        parameters = np.concatenate([at_codes, at_random])
        labels = labelled_3d.label_views(self.model, found, labelled_3d.cameras_from(self.model, parameters))
        iou = labelled_3d.outline_iou(labels.label[: len(chosen)] > 0, masks)
        identity = {"seed": np.uint64(seed), "w_content": w_content[0].numpy().astype(np.float32)}
        rows = self._rows(labels, parameters, chosen, pictures, iou, drawn=recipe.drawn)
        same = {"object": np.int32(number), **identity, **self._keypoints(found)}
        rows |= {name: np.repeat(np.asarray(value)[None], len(parameters), 0) for name, value in same.items()}
        mesh = self._mesh(found) | identity | {"read_view": np.int32(chosen[0]), "iou": iou[0]}
        return {name: values[-recipe.views :] for name, values in rows.items()}, mesh

    def _masks(self, pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Outline of the best-scoring object of each picture, empty where the detector sees none."""
        return np.stack([decide(found, FilterRule()).mask for found in self.detector.detect(pictures)])

    def _rows(
        self,
        labels: LabelledViews,
        parameters: NDArray[np.float64],
        codes: NDArray[np.int64],
        pictures: NDArray[np.uint8],
        iou: NDArray[np.float32],
        *,
        drawn: bool,
    ) -> Arrays:
        """Fields that differ from view to view."""
        cameras, n, more = labelled_3d.cameras_from(self.model, parameters), len(codes), len(parameters) - len(codes)
        distance, fov = cameras.position.norm(dim=1).numpy(), np.full(n + more, self.model.network.config.fov)
        columns = [parameters[:, 0] % 360, parameters[:, 1], distance, fov, parameters[:, 3], parameters[:, 4]]
        w_view = self.codes.w[codes]
        rows: Arrays = {
            "image": labels.image if drawn else np.concatenate([pictures, labels.image[n:]]),
            "drawn": np.concatenate([np.full(n, drawn), np.ones(more)]).astype(np.uint8),
            "mask": (labels.label > 0).astype(np.uint8),
            "label": labels.label,
            "depth": labels.depth,
            "normals": labels.normals.astype(np.float16),
            "uv": labels.uv,
            "camera": np.stack(columns, 1).astype(np.float32),
            "intrinsics": labelled_3d.intrinsics_of(cameras, self.model.size),
            "extrinsics": labelled_3d.extrinsics_of(cameras),
            "view": np.concatenate([codes, np.full(more, -1)]).astype(np.int32),
            "w_view": np.concatenate([w_view, np.zeros((more, w_view.shape[1]))]).astype(np.float32),
            "score": 1 - np.concatenate([iou, np.full(more, iou[0], np.float32)]),
        }
        if self.model.keypoint_names:
            visible = labels.keypoint_state == labelled_3d.VISIBLE
            rows["keypoints"] = np.concatenate([labels.keypoints, visible[..., None]], 2).astype(np.float32)
            rows["keypoint_state"] = labels.keypoint_state
        return rows

    def _mesh(self, found: ObjectModel) -> Arrays:
        """Fields of the object's mesh."""
        texture = ((found.texture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        return {
            "vertices": found.vertices.numpy(),
            "texture": texture,
            "part_texture": found.part_texture.numpy(),
            "face_parts": labelled_3d.parts_of_faces(self.model, found),
            **self._keypoints(found),
        }

    def _keypoints(self, found: ObjectModel) -> Arrays:
        return {"keypoints_3d": found.keypoints.numpy()} if self.model.keypoint_names else {}
