"""A Hugging Face hub on 127.0.0.1: models at commits, large files behind a redirect, tokens, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_good"


@dataclass
class Hub:
    """What the server has, what it was asked for, and what it shall do wrong.

    :param gated: models that want TOKEN.
    :param cut: bytes of large files after which connections break, in turn; empty for none.
    :param wrong: answer these bytes in place of a large file's own.
    """

    url: str = ""
    models: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    damaged: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    large: int = 1 << 16

    def add(self, name: str, folder: Path, *, branch: str = "main") -> str:
        """Put the files of a folder there as a new commit of a branch."""
        files = {
            p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
        }
        commit = hashlib.sha1(
            repr(sorted((n, hashlib.sha1(c).hexdigest()) for n, c in files.items())).encode()
        )
        self.models.setdefault(name, {})[commit.hexdigest()] = files
        self.branches.setdefault(name, {})[branch] = commit.hexdigest()
        return commit.hexdigest()

    def asked(self, ending: str, method: str = "GET") -> list[str]:
        """The Range headers of the requests for paths with this ending."""
        return [header for verb, path, header in self.requests if verb == method and path.endswith(ending)]

    def content(self, digest: str) -> bytes | None:
        """The bytes of a large file, by their SHA-256."""
        every = (c for commits in self.models.values() for files in commits.values() for c in files.values())
        return next((c for c in every if hashlib.sha256(c).hexdigest() == digest), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        self.hub.tokens[path] = self.headers.get("Authorization", "")
        if path.startswith("/store/"):
            return self.store(path.removeprefix("/store/"), body=body)
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models/" if api else "/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            code = 403 if self.headers.get("Authorization") else 401
            return self.fail(code, "GatedRepo", f"Access to model {name} is restricted")
        if name not in self.hub.models:
            return self.fail(404, "RepoNotFound", "Repository not found")
        revision = rest[1] if len(rest) > 1 else "main"
        commit = self.hub.branches[name].get(revision, revision)
        files = self.hub.models[name].get(commit)
        if files is None:
            return self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if api:
            return self.send(
                json.dumps(self.info(name, commit, files)).encode(), "application/json", body=body
            )
        file = "/".join(rest[2:])
        if file not in files:
            return self.fail(404, "EntryNotFound", "Entry not found")
        content = files[file]
        common = {"X-Repo-Commit": commit}
        if len(content) < self.hub.large:
            return self.send(
                content, "text/plain", body=body, ETag=f'"{hashlib.sha1(content).hexdigest()}"', **common
            )
        digest = hashlib.sha256(content).hexdigest()
        self.send_response(302)
        port = self.server.server_address[1]
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content)), **common}
        for key, value in {"Location": f"http://localhost:{port}/store/{digest}", **linked}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def info(self, name: str, commit: str, files: dict[str, bytes]) -> dict[str, Any]:
        siblings = []
        for file, content in files.items():
            entry: dict[str, Any] = {
                "rfilename": file,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
            }
            if len(content) >= self.hub.large:
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"id": name, "sha": commit, "siblings": siblings, "cardData": {"license": "apache-2.0"}}

    def store(self, digest: str, *, body: bool) -> None:
        content = self.hub.content(digest) or b""
        if self.hub.damaged:
            content = bytes(len(content))
        start = 0
        header = self.headers.get("Range", "")
        if header and self.hub.ranges:
            start = int(header.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{digest}"')
        self.end_headers()
        if not body:
            return
        if self.hub.cut:
            self.wfile.write(content[start : start + self.hub.cut.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(content[start:])

    def send(self, content: bytes, kind: str, *, body: bool, **headers: str) -> None:
        self.send_response(200)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def fail(self, code: int, error: str, message: str) -> None:
        self.send_response(code)
        for key, value in {"X-Error-Code": error, "X-Error-Message": message, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
