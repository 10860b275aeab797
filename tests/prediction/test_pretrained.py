"""Downloads from the published address, for which a server on this machine stands in."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mpvit import VARIANTS, build_model, save_weights
from mpvit.architecture.variants import SHIPPED
from mpvit.errors import UsageError, WeightsError
from mpvit.prediction.pretrained import find_weights


@dataclass
class Address:
    """The answer of the server: ``content``, with ``announced`` bytes as its length, after ``wait_s`` seconds."""

    url: str = ""
    status: int = 200
    content: bytes = b""
    announced: int | None = None
    wait_s: float = 0
    asked: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        time.sleep(self.wait_s)
        request.send_response(self.status)
        if self.announced is not None:
            request.send_header("Content-Length", str(self.announced))
        request.end_headers()
        request.wfile.write(self.content)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """The published address of the tiny weights."""
    address = Address()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):  # who asked may have given up
                address.answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address.url = f"http://127.0.0.1:{server.server_port}/s/mpvit_tiny.pth"
        publish(address.url, monkeypatch)
        yield address
        server.shutdown()
        thread.join()


def publish(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the published network be a small one, and its address ``url``."""
    monkeypatch.setitem(VARIANTS, "tiny", replace(VARIANTS["tiny"], weights_url=url, config=SHIPPED["digits-nano"]))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("published") / "mpvit_tiny.pth"
    save_weights(build_model(SHIPPED["digits-nano"]), path, layout="published")
    return path.read_bytes()


@pytest.mark.parametrize("announced", [True, False])
def test_the_published_file_is_downloaded_once(announced: bool, address: Address, published: bytes, tmp_path: Path) -> None:  # noqa: FBT001
    address.content, address.announced = published, len(published) if announced else None
    cache, seen = tmp_path / "new" / "cache", []

    def watch(pieces: Iterator[bytes], what: str, total: int) -> Iterator[bytes]:
        for piece in pieces:
            seen.append((what, total, len(piece)))
            yield piece

    place = find_weights("tiny", cache, watch)  # type: ignore[arg-type]
    assert place == cache / "mpvit_tiny.pth"
    assert place.read_bytes() == published
    assert find_weights("tiny", cache) == place
    assert address.asked == ["/s/mpvit_tiny.pth"]
    assert [path.name for path in cache.iterdir()] == ["mpvit_tiny.pth"]
    assert sum(size for _, _, size in seen) == len(published)
    assert {what for what, _, _ in seen} == {"Downloading mpvit_tiny.pth"}
    assert {total for _, total, _ in seen} == ({len(seen)} if announced else {0})


def assert_refused(cache: Path, url: str, reason: str) -> None:
    """Expect one line with the address, the reason and the place for the file, and no file left over."""
    with pytest.raises(WeightsError) as caught:
        find_weights("tiny", cache)
    assert f"getting {url} failed" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(cache / "mpvit_tiny.pth") in caught.value.hint
    assert "an untrained network" in caught.value.hint
    assert not cache.is_dir() or list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (404, b"gone", "HTTP Error 404: Not Found"),
        (200, b"<html>This link has moved.</html>", "its answer is not a weights file"),
        (200, b"", "its answer is damaged"),
    ],
)
def test_a_file_without_weights_is_not_kept(status: int, content: bytes, reason: str, address: Address, tmp_path: Path) -> None:
    address.status, address.content = status, content
    assert_refused(tmp_path, address.url, reason)


def test_half_a_file_is_not_kept(address: Address, published: bytes, tmp_path: Path) -> None:
    address.content, address.announced = published[: len(published) // 2], len(published)
    assert_refused(tmp_path, address.url, "damaged")


def test_the_weights_of_another_variant_are_not_kept(address: Address, tmp_path: Path) -> None:
    config = replace(SHIPPED["digits-nano"], num_classes=3)
    save_weights(build_model(config), tmp_path / "other.pth", layout="published")
    address.content = (tmp_path / "other.pth").read_bytes()
    assert_refused(tmp_path / "cache", address.url, "does not fit the network")


def test_an_address_without_an_answer_times_out(address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvit.prediction.pretrained.TIMEOUT_S", 0.1)
    address.wait_s = 0.5
    assert_refused(tmp_path, address.url, "timed out")


def test_an_address_that_refuses_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/s/mpvit_tiny.pth"
    publish(url, monkeypatch)
    assert_refused(tmp_path, url, "Connection refused")


def test_a_cache_that_is_not_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").touch()
    publish("http://127.0.0.1:9/s/mpvit_tiny.pth", monkeypatch)
    assert_refused(tmp_path / "cache", "http://127.0.0.1:9/s/mpvit_tiny.pth", "File exists")


def test_a_file_in_the_cache_is_not_downloaded(address: Address, tmp_path: Path) -> None:
    (tmp_path / "mpvit_tiny.pth").write_bytes(b"mine")
    assert find_weights("tiny", tmp_path) == tmp_path / "mpvit_tiny.pth"
    assert address.asked == []


def test_the_cache_belongs_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    (tmp_path / "mpvit").mkdir()
    (tmp_path / "mpvit" / "mpvit_tiny.pth").touch()
    assert find_weights("tiny") == tmp_path / "mpvit" / "mpvit_tiny.pth"


def test_an_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown variant 'tinny'"):
        find_weights("tinny", tmp_path)
