"""The local web server under every page."""

import errno
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request, send_from_directory
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from ganfoundry.errors import InputError, RunError
from pages.guard import Guard

PORT = 8765
"""First port tried. A browser keeps unsaved work by address, so it should not change from start to start."""

_PORTS_TRIED = 20
_STATIC = Path(__file__).with_name("static")


def create_app(page: str, api: Blueprint, largest_body: int) -> Flask:
    """Application of one page, without its guard.

    Parameters
    ----------
    page
        Its HTML file in static/.
    api
        What it asks for, below api/.
    largest_body
        Bytes of the largest request; a larger one is answered 413 before it is read.
    """
    app = Flask(__name__, static_folder=str(_STATIC), static_url_path="/static")
    app.config["MAX_CONTENT_LENGTH"] = largest_body
    app.register_blueprint(api, url_prefix="/api")
    app.add_url_rule("/", "page", lambda: send_from_directory(_STATIC, page))
    app.register_error_handler(HTTPException, lambda error: _sentence(error.code or 500, error.description or ""))
    app.register_error_handler(InputError, lambda error: _sentence(400, str(error)))
    app.register_error_handler(RunError, lambda error: _sentence(507, str(error)))
    return app


def _sentence(status: int, text: str) -> tuple[Response, int]:
    return jsonify(error=text), status


def json_body() -> dict[str, Any]:
    """The request's body, a JSON object.

    Raises
    ------
    InputError
        It is something else.
    """
    try:
        body = request.get_json(silent=True)
    except RecursionError:  # brackets in brackets
        body = None
    if not isinstance(body, dict):
        raise InputError("the request must hold a JSON object; reload the page")
    return body


class _Quiet(WSGIRequestHandler):
    """Says nothing about requests: the terminal shows the address."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Drop the line."""


def serve(app: Flask, say: Callable[[str], None], port: int | None = None) -> None:
    """Serve a page until Ctrl-C (or SIGTERM, where it is turned into KeyboardInterrupt).

    Parameters
    ----------
    app : made by `create_app`
    say : shows a line; it is given the address
    port : int, optional
        Where to listen, 0 for anywhere; by default the first free one from PORT on.

    Raises
    ------
    RunError
        If no port can be had.
    """
    listener = _listen(port)
    number = listener.getsockname()[1]
    token = secrets.token_urlsafe(24)
    guarded = Guard(app.wsgi_app, token, number)
    server = make_server("127.0.0.1", number, guarded, threaded=True, request_handler=_Quiet, fd=listener.fileno())
    say(f"open http://127.0.0.1:{number}/{token}/ in a browser on this machine; Ctrl-C ends, everything is saved")
    try:
        server.serve_forever(poll_interval=0.2)  # returns on KeyboardInterrupt
        say("the page is closed")
    finally:
        listener.close()


def _listen(port: int | None) -> socket.socket:
    for number in range(PORT, PORT + _PORTS_TRIED) if port is None else (port,):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if port is not None or error.errno != errno.EADDRINUSE:
                raise RunError(f"cannot listen on 127.0.0.1:{number} ({error.strerror}); try another --port") from error
    raise RunError(f"the ports {PORT} to {PORT + _PORTS_TRIED - 1} are taken; give one with --port, or 0 for any")
