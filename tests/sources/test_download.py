"""Where named sets are looked for, and the downloader against a server on this machine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.errors import EnvironmentFault, FileError
from trainer.sources import downloading, finding
from trainer.sources.base import Places, Source
from trainer.sources.downloading import Published, download, fetch
from trainer.sources.finding import find, together
from trainer.sources.image_sets import FILES, FashionMnist, Mnist

DATA = bytes(range(256)) * 40_000
SHA = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers by path; the server keeps what was asked."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        getattr(self, self.path.strip("/").replace("-", "_"))(start)

    def _send(self, status: int, data: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def _range(self, start: int, data: bytes) -> None:
        content = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        self._send(206, data, Content_Range=content)

    def good(self, start: int) -> None:
        if start >= len(DATA):
            self._send(416)
        elif start:
            self._range(start, DATA[start:])
        else:
            self._send(200, DATA)

    def no_ranges(self, start: int) -> None:
        self._send(200, DATA)

    def cut(self, start: int) -> None:
        """Ends in the middle of the first answer."""
        if start:
            self._range(start, DATA[start:])
            return
        self._send(200, DATA[: len(DATA) // 2], len(DATA))
        self.close_connection = True

    def cut_chunks(self, start: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"10\r\n" + b"x" * 16 + b"\r\n40\r\nshort")
        self.close_connection = True

    def other_place(self, start: int) -> None:
        if start:
            self._range(start + 1, DATA[start + 1 :])
        else:
            self.cut(0)

    def nothing(self, start: int) -> None:
        self.close_connection = True

    def silent(self, start: int) -> None:
        self.server.stopped.wait(20)
        self.close_connection = True

    def broken(self, start: int) -> None:
        self._send(500)

    def to_good(self, start: int) -> None:
        self._send(302, Location="/good")

    def to_file(self, start: int) -> None:
        self._send(302, Location="file:///etc/hostname")

    def to_ftp(self, start: int) -> None:
        self._send(302, Location="ftp://127.0.0.1/x")

    def to_https(self, start: int) -> None:
        self._send(302, Location="https://127.0.0.1:1/x")

    def to_itself(self, start: int) -> None:
        self._send(302, Location="/to-itself")

    def endless(self, start: int) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b"x" * 65536)
        except OSError:
            return

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("do_", "_")):
            raise AttributeError(name)
        return lambda start: self._send(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.stopped = threading.Event()

    def at(self, name: str, sha256: str = SHA, most: int = 200 << 20) -> Published:
        return Published(f"http://127.0.0.1:{self.server_address[1]}/{name}", sha256, most)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.stopped.set()
        made.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("name", ["good", "to-good", "no-ranges"])
def test_a_good_file_is_the_only_thing_left(server: Server, cache: Path, name: str) -> None:
    path = fetch(server.at(name), cache / "x.bin")
    assert path.read_bytes() == DATA
    assert names(cache) == ["x.bin"]


def test_a_wrong_digest_leaves_nothing(server: Server, cache: Path) -> None:
    with pytest.raises(FileError, match=r"expected sha256 0000.*, found ") as caught:
        fetch(server.at("good", "0" * 64), cache / "x.bin")
    assert names(cache) == []
    assert SHA in str(caught.value)
    assert len(server.asked) == 1


def test_a_cut_connection_is_said_and_the_next_attempt_goes_on(server: Server, cache: Path) -> None:
    with pytest.raises(FileError, match="connection ended 5,120,000 bytes too early") as caught:
        fetch(server.at("cut"), cache / "x.bin")
    assert "by hand" in str(caught.value)
    assert names(cache) == ["x.bin.part"]
    assert fetch(server.at("cut"), cache / "x.bin").read_bytes() == DATA
    assert names(cache) == ["x.bin"]
    assert [asked for _, asked in server.asked] == [None, f"bytes={len(DATA) // 2}-"]


def test_a_stale_beginning_is_thrown_away_and_fetched_anew(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    for stale in (b"other bytes", DATA[:5000] + b"!", b"x" * len(DATA), b"x" * (len(DATA) + 9)):
        (cache / "x.bin.part").write_bytes(stale)
        assert fetch(server.at("good"), cache / "x.bin").read_bytes() == DATA
        assert names(cache) == ["x.bin"]
        (cache / "x.bin").unlink()


def test_a_complete_beginning_needs_no_more_bytes(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "x.bin.part").write_bytes(DATA)
    assert fetch(server.at("good"), cache / "x.bin").read_bytes() == DATA
    assert len(server.asked) == 1


def test_a_server_without_ranges_begins_again(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "x.bin.part").write_bytes(DATA[:100])
    assert fetch(server.at("no-ranges"), cache / "x.bin").read_bytes() == DATA


def test_a_server_that_goes_on_elsewhere_is_refused(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "x.bin.part").write_bytes(DATA[:100])
    with pytest.raises(FileError, match="at another place"):
        fetch(server.at("other-place"), cache / "x.bin")
    assert names(cache) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none-such", "404"),
        ("broken", "500"),
        ("nothing", "without response"),
        ("to-file", "file:///etc/hostname"),
        ("to-ftp", "ftp://127.0.0.1/x, which is refused"),
        ("to-https", "which is refused"),
        ("to-itself", "infinite loop"),
    ],
)
def test_answers_that_are_no_file(server: Server, cache: Path, name: str, said: str) -> None:
    with pytest.raises(FileError, match=said) as caught:
        fetch(server.at(name), cache / "x.bin", "here, there")
    assert caught.value.problems[0].code == "offline"
    assert "by hand and put it into one of: here, there" in caught.value.problems[0].hint
    assert names(cache) == []


def test_a_cut_chunk_and_a_silent_server(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileError, match="can't be downloaded: IncompleteRead"):
        fetch(server.at("cut-chunks"), cache / "x.bin")
    monkeypatch.setattr(downloading, "SECONDS", 0.3)
    with pytest.raises(FileError, match="timed out"):
        fetch(server.at("silent"), cache / "y.bin")
    server.stopped.set()


def test_nobody_there(server: Server, cache: Path) -> None:
    published = server.at("good")
    port = server.server_address[1]
    closed = Published(published.url.replace(f":{port}", ":1"), SHA)
    with pytest.raises(FileError, match="refused"):
        fetch(closed, cache / "x.bin")
    with pytest.raises(FileError, match="can't be downloaded"):
        fetch(Published("http://127.0.0.1:99999999/x", SHA), cache / "x.bin")
    assert names(cache) == []


def test_a_file_above_the_cap_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    with pytest.raises(FileError, match="larger than 1,000 bytes"):
        fetch(server.at("good", most=1000), cache / "x.bin")
    with pytest.raises(FileError, match="larger than 3,000,000 bytes"):
        fetch(server.at("endless", most=3_000_000), cache / "x.bin")
    assert names(cache) == []


def test_only_https_is_downloaded(server: Server, cache: Path) -> None:
    for url in (server.at("good").url, "file:///etc/hostname", "ftp://127.0.0.1/x"):
        with pytest.raises(FileError, match="only https"):
            download(Published(url, SHA), cache / "x.bin")
    assert server.asked == []


def test_one_of_many_fetches_and_all_have_it(server: Server, cache: Path) -> None:
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(fetch(server.at("good"), cache / "x.bin").read_bytes() == DATA)
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert names(cache) == ["x.bin"]
    assert len(server.asked) == 1


def test_many_after_a_failure_of_the_first(server: Server, cache: Path) -> None:
    """The file that the first one removed is not the one that the others go on with."""
    found: list[str] = []

    def work(name: str) -> None:
        try:
            fetch(server.at(name), cache / "x.bin")
            found.append("fetched")
        except FileError:
            found.append("failed")

    threads = [threading.Thread(target=work, args=(n,)) for n in ("none-such", "good", "broken", "good", "none-such")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    assert found.count("fetched") >= 2
    assert (cache / "x.bin").read_bytes() == DATA
    assert names(cache) == ["x.bin"]


def test_the_file_appears_complete(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bytes]] = []
    real = os.replace

    def replace(a: Any, b: Any) -> None:
        seen.append((Path(b).exists(), Path(a).read_bytes()))
        real(a, b)

    monkeypatch.setattr(os, "replace", replace)
    fetch(server.at("good"), cache / "x.bin")
    assert seen == [(False, DATA)]


def test_a_disk_that_refuses_is_a_fault_of_the_environment(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EnvironmentFault, match="file"):
        fetch(server.at("good"), tmp_path / "file" / "x.bin")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An empty folder for every place, in the order in which they are looked at."""
    found = {n: tmp_path / n for n in ("data", "xdg/trainer/datasets", "keras/datasets", "system")}
    for folder in found.values():
        folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(finding, "SYSTEM", found["system"])
    return found


def test_the_places_are_looked_at_in_order(places: dict[str, Path], tmp_path: Path) -> None:
    where = Places(None, tmp_path / "data", False)
    for folder in reversed(places.values()):
        (folder / "a.bin").write_text("x")
        assert find(where, "a.bin") == folder / "a.bin"


def test_what_is_nowhere_names_every_place_and_the_publisher(
    places: dict[str, Path], tmp_path: Path, server: Server
) -> None:
    published = server.at("good")
    with pytest.raises(FileError) as caught:
        find(Places(None, tmp_path / "data", False), "a.bin", published)
    text = str(caught.value)
    assert "a.bin is not here" in text
    assert f"fetch {published.url} and put it into one of" in text
    assert all(str(folder) in text for folder in places.values())
    assert caught.value.problems[0].code == "missing-data"
    assert server.asked == []


def test_a_folder_that_may_not_be_read_or_a_name_that_can_not_be(places: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is not here"):
        find(Places(None, tmp_path / "data", False), "a" * 300)
    for name in ("a" * 300, "a\0b", "~no-such-user/x.csv", "", "..", "/", "none/../x"):
        with pytest.raises(FileError, match="there is no file"):
            Places(tmp_path, None).file(name)
    (tmp_path / "rows.csv").write_text("x")
    with pytest.raises(FileError, match=r"did you mean rows\.csv\?"):
        Places(tmp_path, None).file("row.csv")
    assert Places(tmp_path / "gone", tmp_path).file("rows.csv") == tmp_path / "rows.csv"


NAMED = "imdb reuters boston_housing california_housing pima_indians_diabetes mnist fashion_mnist cifar10 cifar100"


@pytest.mark.parametrize("name", NAMED.split())
def test_every_named_set_says_where_it_was_looked_for_and_how_to_get_it(
    places: dict[str, Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(FileError) as caught:
        Source.parse(name).open(Places(None, tmp_path / "data", False))
    text = str(caught.value)
    assert "https://" in text
    assert all(str(folder) in text for folder in places.values())


def write_set(folder: Path, mark: int, files: tuple[str, ...] = FILES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        shape = (2, 28, 28) if "images" in name else (2,)
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        (folder / name).write_bytes(head + bytes([mark]) * int(np.prod(shape)))


def test_the_four_files_of_a_set_come_from_one_place(places: dict[str, Path], tmp_path: Path) -> None:
    where = Places(None, tmp_path / "data", False)
    write_set(places["data"] / "fashion-mnist", 1, FILES[:2])
    write_set(places["system"] / "fashion-mnist", 2)
    assert together(where, FILES, "fashion-mnist") == [places["system"] / "fashion-mnist" / n for n in FILES]
    table = FashionMnist().open(where)
    assert table.train.columns["label"].tolist() == [2, 2]


def test_digits_beside_the_folder_are_not_taken_for_clothes(places: dict[str, Path], tmp_path: Path) -> None:
    write_set(places["data"], 1)
    with pytest.raises(FileError, match="is not here"):
        FashionMnist().open(Places(None, tmp_path / "data", False))


def test_a_folder_of_ones_own_is_not_downloaded(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "download", lambda *_: pytest.fail("downloaded"))
    for source in (Mnist(folder="mine"), FashionMnist(folder="mine")):
        with pytest.raises(FileError, match="train-images-idx3-ubyte") as caught:
            source.open(Places(None, tmp_path / "data", True))
        assert str(places["data"] / "mine") in str(caught.value)


def test_fashion_mnist_is_downloaded_file_by_file(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Published] = []

    def pretend(published: Published, path: Path, where: str = "") -> Path:
        asked.append(published)
        write_set(path.parent, 3, (path.name,))
        return path

    monkeypatch.setattr(finding, "download", pretend)
    table = FashionMnist().open(Places(None, tmp_path / "data", True))
    assert [p.url.rpartition("/")[2] for p in asked] == list(FILES)
    assert [p.sha256 for p in asked] == list(FashionMnist.digests)
    assert table.test is not None
    assert table.test.columns["label"].tolist() == [3, 3]
    assert names(places["xdg/trainer/datasets"] / "fashion-mnist") == sorted(FILES)
    FashionMnist().open(Places(None, None, True))
    assert len(asked) == 4
