"""The server behind the page: a few named files on this computer's loopback, with the headers that threads ask for."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import threading
from collections.abc import Generator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HEADERS = {
    # SharedArrayBuffer, so threads, and a clock of 5 µs instead of 100 µs: only in a cross-origin isolated page
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # every page loads and compiles as the first one does
    "X-Content-Type-Options": "nosniff",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}


@contextlib.contextmanager
def served(files: Mapping[str, Path]) -> Generator[str]:
    """The address below which the files are found by their names, on a free port, until the context is left.

    Nothing else is served, and the address holds a random word: no other program here can guess it.
    """
    root = f"/{secrets.token_urlsafe(16)}/"
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = {root + name: path for name, path in files.items()}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{root}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    files: Mapping[str, Path] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed while it loads is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Answer with a file of the list, or 404."""
        path = self.server.files.get(self.path.partition("?")[0])
        try:
            opened = path.open("rb") if path else None
        except OSError:
            opened = None
        if path is None or opened is None:
            self._begin(404, 0, "text/plain")
            return
        with opened as content:
            self._begin(200, path.stat().st_size, TYPES.get(path.suffix, "application/octet-stream"))
            shutil.copyfileobj(content, self.wfile)

    def _begin(self, status: int, length: int, kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
