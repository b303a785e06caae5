"""`keras:<name>`: the real way of fetching, against a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import numpy as np
import pytest

from edgedl.core.config import check
from edgedl.core.errors import DataError, OutputError
from edgedl.pipeline.data import KerasSet, SourceConfig
from edgedl.pipeline.data.download import URL_VARIABLE
from edgedl.pipeline.data.keras_sets import SETS

RNG = np.random.default_rng(0)


@dataclass
class Server:
    """Files by name, what was asked for, and how to misbehave."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: bool = False
    url: str = ""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            state.asked.append(name)
            if name not in state.files:
                self.send_error(404)
                return
            content = state.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if state.cut else content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}"
        monkeypatch.setenv(URL_VARIABLE, state.url)
        yield state
        http.shutdown()


def publish(server: Server, monkeypatch: pytest.MonkeyPatch, source: str, contents: list[bytes]) -> None:
    """Serve these files for `source`, and expect their checksums (of the kind that the set has)."""
    remotes = []
    for remote, content in zip(SETS[source].files, contents, strict=True):
        server.files[remote.name] = content
        kind = remote.checksum.partition(":")[0]
        remotes.append(replace(remote, checksum=f"{kind}:{hashlib.new(kind, content).hexdigest()}"))
    monkeypatch.setitem(SETS, source, replace(SETS[source], files=tuple(remotes)))


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def images(n: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, *shape), dtype=np.uint8)


def source(name: str, tmp_path) -> KerasSet:
    return check(SourceConfig, {"source": name, "cache": str(tmp_path / "cache")}, source="test")


MNIST = npz(x_train=images(30, 28, 28), y_train=np.arange(30) % 10, x_test=images(10, 28, 28), y_test=np.arange(10))


def test_fetched_once_and_then_kept(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, "keras:mnist", [MNIST])
    for _ in range(2):
        raw = source("keras:mnist", tmp_path).load()
        assert raw.input.shape == (28, 28, 1)
        assert raw.test is not None
        assert (len(raw.examples), len(raw.test)) == (30, 10)
    assert server.asked == ["mnist.npz"]
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["mnist.npz"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, "keras:mnist", [MNIST])
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mnist.npz").write_bytes(MNIST[:-1])
    assert len(source("keras:mnist", tmp_path).load().examples) == 30


def test_fashion_mnist(server, monkeypatch, tmp_path):
    def idx(array: np.ndarray) -> bytes:
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        return gzip.compress(header + array.tobytes())

    train, test = images(20, 28, 28), images(10, 28, 28)
    labels = (np.arange(20) % 10).astype(np.uint8)
    publish(server, monkeypatch, "keras:fashion-mnist", [idx(train), idx(labels), idx(test), idx(labels[:10])])
    raw = source("keras:fashion-mnist", tmp_path).load()
    assert raw.labels[:2] == ("T-shirt/top", "Trouser")
    np.testing.assert_array_equal(raw.examples.raw(np.arange(20))[..., 0], train)


@pytest.mark.parametrize("name", ["keras:cifar10", "keras:cifar100"])
def test_cifar(server, monkeypatch, tmp_path, name):
    ten = name == "keras:cifar10"
    classes = 10 if ten else 100
    folder = "cifar-10-batches-bin" if ten else "cifar-100-binary"
    files = [f"data_batch_{i}.bin" for i in range(1, 6)] if ten else ["train.bin"]
    pixels = images(classes * 6, 32, 32, 3)
    labels = np.arange(len(pixels)) % classes

    def records(chosen: slice) -> bytes:
        coarse = b"" if ten else b"\x07"
        planes = pixels[chosen].transpose(0, 3, 1, 2)
        return b"".join(
            coarse + bytes([label]) + image.tobytes() for label, image in zip(labels[chosen], planes, strict=True)
        )

    per_file = classes * 5 // len(files)
    contents = {file: records(slice(i * per_file, (i + 1) * per_file)) for i, file in enumerate(files)}
    contents["test_batch.bin" if ten else "test.bin"] = records(slice(classes * 5, None))
    contents["batches.meta.txt" if ten else "fine_label_names.txt"] = "".join(
        f"class{i}\n" for i in range(classes)
    ).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    publish(server, monkeypatch, name, [packed.getvalue()])
    raw = source(name, tmp_path).load()
    assert raw.labels[classes - 1] == f"class{classes - 1}"
    assert raw.input.color_space == "rgb"
    np.testing.assert_array_equal(raw.examples.raw(np.arange(classes * 5)), pixels[: classes * 5])
    np.testing.assert_array_equal(raw.examples.targets, labels[: classes * 5])
    assert raw.test is not None
    np.testing.assert_array_equal(raw.test.raw(np.arange(classes)), pixels[classes * 5 :])


@pytest.mark.parametrize("name", ["keras:boston-housing", "keras:california-housing"])
def test_housing(server, monkeypatch, tmp_path, name):
    prices = RNG.normal(20, 5, 50)
    publish(server, monkeypatch, name, [npz(x=RNG.normal(size=(50, 8)), y=prices)])
    raw = source(name, tmp_path).load()
    assert (raw.task, raw.input.shape, raw.normalize, raw.test) == ("regression", (8,), "standard", None)
    assert raw.examples.targets[:, 0] == pytest.approx(prices, rel=1e-6)


def refused(tmp_path, message: str) -> None:
    """Loading fails with one clear line, and leaves nothing."""
    with pytest.raises(DataError, match=message) as caught:
        source("keras:mnist", tmp_path).load()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_wrong_checksum(server, tmp_path):
    server.files["mnist.npz"] = MNIST
    refused(tmp_path, "is not the published file: required sha256:731c5ac.*received sha256:")


def test_not_there(server, tmp_path):
    refused(tmp_path, r"mnist\.npz: received answer 404.*by hand and save it as .*mnist\.npz")


def test_the_connection_ends_early(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, "keras:mnist", [MNIST])
    server.cut = True
    refused(tmp_path, rf"ended early: required {len(MNIST)} bytes, received {len(MNIST) // 2} bytes")


def test_nobody_answers(monkeypatch, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv(URL_VARIABLE, f"http://127.0.0.1:{taken.getsockname()[1]}")
        refused(tmp_path, "Connection refused.*Check the connection.*by hand")


def test_an_address_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv(URL_VARIABLE, "nonsense")
    refused(tmp_path, "cannot fetch nonsense/mnist.npz: received unknown url type")


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match=r"cannot write .*data\.cache"):
        source("keras:mnist", tmp_path).load()


def test_every_name_in_the_schema_has_its_set():
    names = get_args(KerasSet.model_fields["source"].annotation)
    assert sorted(names) == sorted(SETS)
    for chosen in SETS.values():
        for remote in chosen.files:
            kind, _, digest = remote.checksum.partition(":")
            assert len(digest) == {"sha256": 64, "md5": 32}[kind]
