"""What the page for parts and keypoints asks the server for."""

import base64
import binascii
from dataclasses import asdict
from typing import Any

import numpy as np
from flask import Blueprint, Response, jsonify
from numpy.typing import NDArray
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.pictures import overlay, png_bytes
from pages.assistant import Assistant
from pages.label_store import ConflictError, LabelStore, Sample
from pages.server import json_body

THUMBNAIL = 96


def parts_api(store: LabelStore, assistant: Assistant, title: str) -> Blueprint:
    """Routes below api/.

    Parameters
    ----------
    store : what is edited
    assistant : what proposes
    title : shown at the top of the page
    """
    api = Blueprint("parts", __name__)

    @api.get("/project")
    def project() -> Response:
        schema = store.schema
        assert schema.palette is not None
        return jsonify(
            id=store.identity,
            title=title,
            resolution=store.resolution,
            parts=[
                {"name": name, "colour": colour.tolist()}
                for name, colour in zip(schema.parts, schema.palette, strict=True)
            ],
            keypoints=list(schema.keypoints),
            samples=[_listed(store, sample) for sample in store.samples()],
            sources=assistant.sources,
            training=asdict(assistant.progress),
        )

    @api.get("/samples/<name>")
    def sample(name: str) -> Response:
        return jsonify(_sample(store, store.get(name)))

    @api.put("/samples/<name>")
    def save(name: str) -> tuple[Response, int]:
        body = json_body()
        try:
            saved = store.save(name, _whole(body, "revision"), *_labels(body, store.resolution), _flag(body, "done"))
        except ConflictError as conflict:
            return jsonify(error="there is newer work on this image", newest=_sample(store, conflict.newest)), 409
        return jsonify(_listed(store, saved)), 200

    @api.get("/images/<name>.png")
    def image(name: str) -> Response:
        return _png(store.image(name))

    @api.get("/thumbnails/<name>.png")
    def thumbnail(name: str) -> Response:
        palette = store.schema.palette
        assert palette is not None
        picture = Image.fromarray(overlay(store.image(name), store.get(name).mask, palette, opacity=0.5))
        kind = Image.Resampling.NEAREST if store.resolution <= THUMBNAIL else Image.Resampling.BOX
        return _png(np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), kind)))

    @api.get("/proposals/<source>/<name>")
    def proposal(source: str, name: str) -> Response:
        found = assistant.propose(source, name)
        return jsonify(
            mask=_encoded(found.mask), keypoints=None if found.keypoints is None else _rounded(found.keypoints)
        )

    @api.get("/training")
    def training() -> Response:
        return jsonify(**asdict(assistant.progress), sources=assistant.sources)

    @api.post("/training")
    def train() -> Response:
        json_body()
        return jsonify(**asdict(assistant.train()), sources=assistant.sources)

    @api.delete("/training")
    def stop() -> Response:
        return jsonify(**asdict(assistant.stop()), sources=assistant.sources)

    return api


def largest_body(store: LabelStore) -> int:
    """Bytes of the largest save: a mask in base64, and room for keypoints."""
    return 2 * store.resolution**2 + 256 * len(store.schema.keypoints) + 16384


def _listed(store: LabelStore, sample: Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "revision": sample.revision,
        "done": sample.done,
        "corrected": store.corrected(sample.name),
    }


def _sample(store: LabelStore, sample: Sample) -> dict[str, Any]:
    return {**_listed(store, sample), "mask": _encoded(sample.mask), "keypoints": _rounded(sample.keypoints)}


def _encoded(mask: NDArray[np.uint8]) -> str:
    return base64.b64encode(mask.tobytes()).decode("ascii")


def _rounded(points: NDArray[np.float32]) -> list[list[float]]:
    rounded: list[list[float]] = np.round(points.astype(float), 2).tolist()
    return rounded


def _png(image: NDArray[np.uint8]) -> Response:
    return Response(png_bytes(image), mimetype="image/png")


def _labels(body: dict[str, Any], side: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    try:
        data = base64.b64decode(body["mask"], validate=True)
        mask = np.frombuffer(data, np.uint8).reshape(side, side)
        points = np.array(body["keypoints"], np.float32).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise InputError(f"mask or keypoints of the request cannot be read ({error}); reload the page") from None
    return mask, points


def _whole(body: dict[str, Any], key: str) -> int:
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f'"{key}" of the request must be a whole number; reload the page')
    return value


def _flag(body: dict[str, Any], key: str) -> bool:
    value = body.get(key)
    if not isinstance(value, bool):
        raise InputError(f'"{key}" of the request must be true or false; reload the page')
    return value
