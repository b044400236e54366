"""A web server for the tests that download, a cache of their own, and real files for those that read."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Server(ThreadingHTTPServer):
    """Serves `files` by path, and keeps in `requests` the paths that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.promise_more = False  # announce more bytes than are sent
        self.content_encoding = False  # say that .gz is how the content travels, not what it is

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 1000 * self.server.promise_more))
        if self.server.content_encoding:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a download goes to: empty, and no local copy is named."""
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv("LATENTIA_DATA", raising=False)
    for variable in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    folder = Path(pooch.os_cache("latentia"))
    assert folder.is_relative_to(tmp_path)
    return folder


@pytest.fixture
def local() -> Callable[[str], Path]:
    """Gives the folder of the tester's copy of a set, by its name; without a copy the test is skipped."""

    def folder(name: str) -> Path:
        path = Path(os.environ.get("LATENTIA_DATA") or "nowhere", name)
        if not path.is_dir():
            pytest.skip(f"LATENTIA_DATA names no folder with a copy of {name}")
        return path

    return folder


@pytest.fixture
def uninstall(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a package as if it were not installed, by its name."""

    class Nowhere:
        def __init__(self, package: str) -> None:
            self.package = package

        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == self.package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def hide(package: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Nowhere(package), *sys.meta_path])

    return hide
