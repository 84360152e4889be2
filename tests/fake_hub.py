"""A hub on loopback that speaks as Hugging Face does, with a second server for its large files, and with faults."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
_SMALL = 4096  # bytes up to which a file is no LFS object


@dataclass
class Fault:
    """What happens to one answer: sent by `status`, cut or silent `after` so many bytes, or with wrong bytes."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: int | None = None
    flip: bool = False
    whole: bool = False
    pretend: int | None = None


@dataclass
class Asked:
    """One request that a server saw."""

    server: str
    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0
    range: tuple[int, int] | None = None


class FakeHub:
    """Repositories of files; `asked` keeps every request, `faults` happen to the next answers with file bytes."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.gated: dict[str, str] = {}
        self.private: dict[str, str] = {}
        self.lies: dict[str, Callable[[dict], dict]] = {}
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()
        self.api_faults: deque[Fault] = deque()
        self.pause = 0.0  # seconds before every 64 KiB
        self.released = threading.Event()
        self.files: dict[str, bytes] = {}  # at /files/ of the second server
        self.ranges = True
        self.redirect_api: str | None = None

    def add(self, repo: str, **files: bytes) -> None:
        self.repos.setdefault(repo, {}).update(files)

    def sent(self) -> int:
        """Return the bytes of files that were sent in all."""
        return sum(asked.sent for asked in self.asked)

    def reset(self) -> None:
        self.asked.clear()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve a hub; its addresses are `hub.url` and `hub.cdn`."""
    servers = []
    for name in ("hub", "cdn"):
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub, "server_name": name}))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)  # type: ignore[attr-defined]
    try:
        yield hub
    finally:
        hub.released.set()
        for server in servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients of these tests go away as they please


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    server_name: str
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        # What lies in buffers when a client dies was sent and never received: keep it small.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.asked = Asked(self.server_name, self.command, self.path, dict(self.headers))
        self.hub.asked.append(self.asked)
        url = urlsplit(self.path)
        path = unquote(url.path)
        if self.server_name == "cdn":
            self._cdn(path, body)
        elif path == "/api/models":
            self._search(parse_qs(url.query))
        elif path.startswith("/api/v1/models/"):
            self._modelscope(path)
        elif path.startswith("/api/models/"):
            self._info(path.removeprefix("/api/models/"))
        elif found := re.fullmatch(r"(?:/models)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[3], body)
        else:
            self._send(404, b"")

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _allowed(self, repo: str, *, metadata: bool = False) -> bool:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        for kept, code, status in (
            (self.hub.private, "RepoNotFound", 401),
            (self.hub.gated, "GatedRepo", 403),
        ):
            # The list of a gated repository's files is public.
            if repo in kept and token != kept[repo] and not (metadata and code == "GatedRepo"):
                self._send(status if token or code == "RepoNotFound" else 401, b"{}", {"X-Error-Code": code})
                return False
        if repo not in self.hub.repos:
            self._send(401, b'{"error":"Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
            return False
        return True

    def _info(self, path: str) -> None:
        repo = "/".join(path.split("/")[:2])
        if self.hub.redirect_api is not None:
            self._send(307, b"", {"Location": self.hub.redirect_api + self.path})
            return
        if self.hub.api_faults:
            fault = self.hub.api_faults.popleft()
            if fault.stall is not None:
                self.hub.released.wait(20)
                return
            self._send(fault.status, b"{}", fault.headers)
            return
        if not self._allowed(repo, metadata=True):
            return
        if "/tree/" in path:
            self._tree(self.hub.repos[repo])
            return
        siblings = []
        for name, data in self.hub.repos[repo].items():
            entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": _git_id(data)}
            if len(data) > _SMALL:
                entry["lfs"] = {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 134,
                }
            siblings.append(self.hub.lies.get(name, lambda entry: entry)(entry))
        self._json({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "tags": ["gguf"]})

    def _tree(self, files: dict[str, bytes]) -> None:
        """List files as huggingface_hub's own downloads ask for them."""
        listed = []
        for name, data in files.items():
            entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": _git_id(data)}
            if len(data) > _SMALL:
                entry["lfs"] = {
                    "oid": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 134,
                }
            listed.append(entry)
        self._json(listed)

    def _modelscope(self, path: str) -> None:
        repo = "/".join(path.removeprefix("/api/v1/models/").split("/")[:2])
        if self._allowed(repo):
            listed = [
                {
                    "Path": n,
                    "Name": n,
                    "Type": "blob",
                    "Size": len(d),
                    "Sha256": hashlib.sha256(d).hexdigest(),
                }
                for n, d in self.hub.repos[repo].items()
            ]
            self._json({"Code": 200, "Success": True, "Data": {"Files": listed}})

    def _search(self, query: dict[str, list[str]]) -> None:
        term = query.get("search", [""])[0].lower()
        found = [repo for repo in self.hub.repos if term in repo.lower()]
        kept = {"downloads": 7, "likes": 3, "tags": ["gguf"], "createdAt": "2026-01-02T03:04:05.000Z"}
        self._json([{"id": repo, "modelId": repo, "gated": repo in self.hub.gated, **kept} for repo in found])

    def _resolve(self, repo: str, name: str, body: bool) -> None:
        if not self._allowed(repo):
            return
        data = self.hub.repos[repo].get(name)
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        if len(data) <= _SMALL:
            self._file(data, _git_id(data), body, {"X-Repo-Commit": COMMIT})
            return
        digest = hashlib.sha256(data).hexdigest()
        headers = {
            "Location": f"{self.hub.cdn}/lfs/{quote(repo)}/{quote(name)}?signature=x",
            "X-Linked-ETag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{digest}"',
        }
        self._send(302, b"", headers)

    def _cdn(self, path: str, body: bool) -> None:
        if path.startswith("/files/"):
            data = self.hub.files.get(path.removeprefix("/files/"))
        else:
            parts = path.split("/")
            data = self.hub.repos.get("/".join(parts[2:4]), {}).get("/".join(parts[4:]))
        if data is None:
            self._send(404, b"")
            return
        self._file(data, hashlib.sha256(data).hexdigest(), body, {})

    def _file(self, data: bytes, etag: str, body: bool, headers: dict[str, str]) -> None:
        fault = self.hub.faults.popleft() if body and self.hub.faults else Fault()
        if fault.status:
            self._send(fault.status, b"", fault.headers)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start, end, status = 0, len(data), 200
        if wanted and self.hub.ranges and not fault.whole:
            start, end = int(wanted[1]), min(len(data), int(wanted[2] or len(data) - 1) + 1)
            if start >= len(data):
                self._send(416, b"")
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{fault.pretend or len(data)}"
        self.asked.range = (start, end)
        self.send_response(status)
        length = fault.pretend if fault.pretend and status == 200 else end - start
        for key, value in {"ETag": f'"{etag}"', "Content-Length": str(length), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self._bytes(data, start, end, fault)

    def _bytes(self, data: bytes, start: int, end: int, fault: Fault) -> None:
        piece = bytearray(data[start:end])
        if fault.flip:
            piece[len(piece) // 2] ^= 1
        done = 0
        while done < len(piece):
            step = min(64 << 10, len(piece) - done)
            for limit in (fault.cut, fault.stall):
                if limit is not None:
                    step = min(step, limit - done)
            if step > 0:
                self.wfile.write(piece[done : done + step])
                self.asked.sent += step
                done += step
            if fault.cut is not None and done >= fault.cut:
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if fault.stall is not None and done >= fault.stall:
                self.hub.released.wait(20)
                self.close_connection = True
                return
            if self.hub.pause:
                time.sleep(self.hub.pause)


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
