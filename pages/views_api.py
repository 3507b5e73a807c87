"""What the page for viewpoint codes asks the server for."""

import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from flask import Blueprint, Response, jsonify
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.pictures import png_bytes
from pages.server import json_body
from pages.view_store import ViewStore

Draw = Callable[[int], NDArray[np.uint8]]


def views_api(store: ViewStore, draw: Draw, title: str) -> Blueprint:
    """Routes below api/.

    Parameters
    ----------
    store : what is answered
    draw : code number -> (contents, R, R, 3) uint8, several objects as this code shows them
    title : shown at the top of the page
    """
    api = Blueprint("views", __name__)
    drawing = threading.Lock()  # a page asks for all pictures of a code at once
    drawn = lru_cache(maxsize=64)(draw)

    @api.get("/project")
    def project() -> Response:
        return jsonify(title=title, **store.project())

    @api.get("/rows/<int:code>/<int:content>.png")
    def picture(code: int, content: int) -> Response:
        if code >= len(store.codes):
            raise InputError(f"there is no code {code}; reload the page")
        with drawing:
            images = drawn(code)
        return Response(png_bytes(images[content % len(images)]), mimetype="image/png")

    @api.put("/codes/<int:code>")
    def answer(code: int) -> Response:
        k = json_body().get("bin")
        if k is not None and (not isinstance(k, int) or isinstance(k, bool)):
            raise InputError('"bin" of the request must be a whole number or null; reload the page')
        store.answer(code, k)
        return jsonify(title=title, **store.project())

    return api
