"""Who may talk to a local page: only the browser of the person who was told its address.

Every program of the machine can reach a web server on 127.0.0.1 and, through the browser, every web site. So:

- the address holds a random token, compared in constant time;
- the Host header must name this machine: a site that rebinds its own name to 127.0.0.1 cannot make a browser say so;
- Origin and Sec-Fetch-Site, which browsers send by themselves, must not name another site;
- no answer carries a CORS header, and a content security policy lets the page load and run nothing but its own files.
"""

import hmac
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """WSGI application that lets a request through to another one, its path without the token, or answers 403.

    Parameters
    ----------
    app
        What is guarded.
    token
        First segment of every path.
    port
        Port the server listens on; the Host must be 127.0.0.1 or localhost with it.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._origins = {f"http://{host}" for host in self._hosts}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""

        def with_headers(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            kept = [(name, value) for name, value in headers if name not in HEADERS]
            return start_response(status, [*kept, *HEADERS.items()], *rest)

        refused = self._refused(environ)
        if refused:
            body = (refused + "\n").encode("utf-8")
            with_headers(
                "403 Forbidden", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
            )
            return [body]
        _, token, rest = environ["PATH_INFO"].split("/", 2)
        environ["SCRIPT_NAME"] = f"/{token}"
        environ["PATH_INFO"] = "/" + rest
        return self._app(environ, with_headers)

    def _refused(self, environ: Environ) -> str:
        """Why a request is refused; empty when it is not."""
        if environ.get("HTTP_HOST", "") not in self._hosts:
            return "This server answers to 127.0.0.1 and localhost only."
        if environ.get("HTTP_ORIGIN", "null") not in {"null", *self._origins}:
            return "This server does not answer other sites."
        if environ.get("HTTP_ORIGIN") == "null" and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "This server does not answer other sites."
        if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("same-origin", "none"):
            return "This server does not answer other sites."
        parts = environ.get("PATH_INFO", "").split("/", 2)
        if len(parts) < 3 or not hmac.compare_digest(parts[1].encode("utf-8", "replace"), self._token.encode()):
            return "This address is not valid: open the one that the command printed when it started."
        return ""
