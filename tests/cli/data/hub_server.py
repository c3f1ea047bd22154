"""The few endpoints of a hub of datasets that pushing and pulling need, on this machine, with its files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """What was stored: repository path -> content, and the tags."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tags: list[str] = []
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def running() -> Iterator[FakeHub]:
    """Yield a hub that listens on 127.0.0.1 until the block ends."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            hub.asked.append(f"POST {path}")
            answer: dict[str, Any] = {"url": f"{hub.url}/datasets/me/data", "id": "me/data", "name": "me/data"}
            if "/preupload/" in path:
                given = {"uploadMode": "regular", "shouldIgnore": False}
                answer = {"files": [{"path": file["path"], **given} for file in json.loads(body)["files"]]}
            elif "/commit/" in path:
                for line in body.decode().splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                    elif entry["key"] == "deletedFile":
                        del hub.files[entry["value"]["path"]]
                answer = {
                    "commitUrl": f"{hub.url}/datasets/me/data/commit/{COMMIT}",
                    "commitOid": COMMIT,
                    "success": True,
                }
            elif "/tag/" in path:
                hub.tags.append(json.loads(body)["tag"])
            self._json(answer)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"GET {path}")
            if path.startswith("/datasets/me/data/resolve/"):
                self._file(path.split("/", 6)[6])
            elif path.startswith("/api/datasets/me/data/tree/"):
                files = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in hub.files.items()]
                self._json(files)
            elif path.startswith("/api/datasets/me/data"):
                siblings = [{"rfilename": name} for name in hub.files]
                self._json({"id": "me/data", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})
            else:
                self._json({"error": "Repository not found"}, 404)

        do_HEAD = do_GET

        def do_DELETE(self) -> None:
            tag = urlsplit(self.path).path.rsplit("/tag/", 1)[-1]
            hub.asked.append(f"DELETE {urlsplit(self.path).path}")
            if tag in hub.tags:
                hub.tags.remove(tag)
                self._json({})
            else:
                self._json({"error": "Tag not found"}, 404, missing="RevisionNotFound")

        def _file(self, name: str) -> None:
            if name not in hub.files:
                self._json({"error": "Entry not found"}, 404)
            else:
                content = hub.files[name]
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{_oid(content)}"')
                self._send(content)

        def _json(self, content: Any, code: int = 200, missing: str = "RepoNotFound") -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            if code == 404:
                self.send_header("X-Error-Code", missing)
            self._send(json.dumps(content).encode())

        def _send(self, content: bytes) -> None:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
