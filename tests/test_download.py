"""Downloads from a server on this machine that breaks, stalls, forgets Range and lies."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from minidl.datasets import MNIST
from minidl.datasets.download import _locked, download
from minidl.datasets.idx import format_idx, write_idx
from minidl.datasets.mnist import IdxFile

CONTENT = np.random.RandomState(0).bytes(300_000)
TIMEOUT = 0.5  # long enough for this machine to answer, short enough to wait for in a test


class Handler(BaseHTTPRequestHandler):
    """The first folder of the path says how the server behaves."""

    def do_GET(self):
        mode = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.server.requests.append((mode, asked))
        content = self.server.content.get(self.path.split("/")[-1], CONTENT)
        start = int(asked[len("bytes=") : -1]) if asked and mode not in ("no_range", "breaking_no_range") else 0
        if mode == "missing":
            return self.send_error(404)
        if mode == "wrong":
            content = b"<html>Please log in</html>"
            start = 0
        if start and start >= len(content):
            return self.send_error(416)
        if mode == "hanging":
            self.server.released.wait()
            return None
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = min(start + 100_000, len(content)) if "breaking" in mode or mode == "stalling" else len(content)
        self.wfile.write(content[start:end])
        if mode == "stalling" and end < len(content):
            self.wfile.flush()
            self.server.released.wait()
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.content, server.released = [], {}, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def verify(path):
    if path.read_bytes() != CONTENT:
        raise ValueError("wrong content")


def fetch(server, target, *modes):
    download([f"{server.url}/{mode}/{target.name}" for mode in modes], target, verify, timeout=TIMEOUT)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "raw" / "file.gz"


def assert_only(target):
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_whole_file(server, target):
    fetch(server, target, "good")
    assert_only(target)
    assert server.requests == [("good", None)]


def test_a_good_file_that_is_there_is_left_alone(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch(server, target, "good")
    assert_only(target)
    assert server.requests == []


def test_a_damaged_file_that_is_there_is_replaced(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT[:-1])
    fetch(server, target, "good")
    assert_only(target)


@pytest.mark.parametrize("mode", ["breaking", "stalling"])
def test_a_broken_connection_goes_on_where_it_broke(server, target, mode):
    fetch(server, target, mode)
    assert_only(target)
    assert server.requests == [(mode, None), (mode, "bytes=100000-"), (mode, "bytes=200000-")]


def test_a_part_of_an_earlier_run_is_continued(server, target):
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT[:1234])
    fetch(server, target, "good")
    assert_only(target)
    assert server.requests == [("good", "bytes=1234-")]


def test_a_part_is_continued_from_another_mirror(server, target):
    with pytest.raises(RuntimeError):
        fetch(server, target, "breaking_no_range")
    assert not target.exists()
    fetch(server, target, "missing", "good")
    assert_only(target)
    assert server.requests[-1] == ("good", "bytes=100000-")


def test_a_part_that_is_already_whole_needs_no_byte(server, target):
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT)
    fetch(server, target, "good")
    assert_only(target)


@pytest.mark.parametrize("part", [b"y" * 1000, b"y" * 400_000])
def test_a_part_of_something_else_is_thrown_away(server, target, part):
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(part)
    fetch(server, target, "good")
    assert_only(target)
    assert server.requests == [("good", f"bytes={len(part)}-"), ("good", None)]


def test_a_server_without_range_starts_again(server, target):
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT[:1234])
    fetch(server, target, "no_range")
    assert_only(target)
    assert server.requests == [("no_range", "bytes=1234-")]


def test_the_next_mirror_serves_when_the_first_ones_fail(server, target):
    fetch(server, target, "missing", "wrong", "hanging", "breaking_no_range", "good")
    assert_only(target)


def test_every_mirror_and_its_reason_is_in_the_error(server, target):
    with pytest.raises(RuntimeError) as error:
        fetch(server, target, "missing", "wrong", "breaking_no_range", "hanging")
    message = str(error.value)
    assert message.startswith("no mirror gave file.gz:")
    for mode, reason in {
        "missing": "HTTP Error 404: Not Found",
        "wrong": "wrong content",
        "breaking_no_range": "the connection broke after 100000 of 300000 bytes",
        "hanging": "timed out",
    }.items():
        assert f"{server.url}/{mode}/file.gz: {reason}" in message
    assert str(target.parent) in message
    assert not target.exists()


def test_a_wrong_content_leaves_nothing_behind(server, target):
    with pytest.raises(RuntimeError, match="wrong content"):
        fetch(server, target, "wrong")
    assert list(target.parent.iterdir()) == []


def test_a_refused_connection_is_a_reason(server, target):
    server.shutdown()
    server.server_close()
    with pytest.raises(RuntimeError, match="Connection refused"):
        fetch(server, target, "good")


def test_an_interrupt_keeps_the_part_and_gives_no_file(server, target, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("minidl.datasets.download._transfer", interrupted)
    target.parent.mkdir()
    part = target.with_name("file.gz.part")
    part.write_bytes(CONTENT[:1234])
    with pytest.raises(KeyboardInterrupt):
        fetch(server, target, "good")
    assert list(target.parent.iterdir()) == [part]
    assert part.read_bytes() == CONTENT[:1234]


def test_who_comes_second_waits_and_downloads_nothing(server, target):
    target.parent.mkdir()
    part = target.with_name("file.gz.part")
    second = threading.Thread(target=fetch, args=(server, target, "good"))
    with _locked(part) as file:  # as another process would hold it
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert server.requests == []
        file.write(CONTENT)
        file.flush()
        part.rename(target)
    second.join()
    assert_only(target)
    assert server.requests == []


def test_who_comes_second_does_it_alone_when_the_first_gave_up(server, target):
    target.parent.mkdir()
    part = target.with_name("file.gz.part")
    second = threading.Thread(target=fetch, args=(server, target, "good"))
    with _locked(part):
        second.start()
        second.join(0.2)
        part.unlink()
    second.join()
    assert_only(target)


@pytest.fixture
def tiny(server, tmp_path):
    """A class like MNIST whose four files are small and served by ``server``; ``tiny(mode)`` makes a data set."""
    random = np.random.RandomState(1)
    files = {}
    for train, split, count in ((True, "train", 6), (False, "t10k", 4)):
        images = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = random.randint(0, 10, count).astype(np.uint8)
        pair = []
        for name, array in ((f"{split}-images-idx3-ubyte", images), (f"{split}-labels-idx1-ubyte", labels)):
            pair.append(IdxFile(name, array.shape, hashlib.md5(format_idx(array)).hexdigest()))
            write_idx(tmp_path / "served.gz", array)
            server.content[f"{name}.gz"] = (tmp_path / "served.gz").read_bytes()
        files[train] = tuple(pair)

    def make(mode, **arguments):
        attributes = {"files": files, "mirrors": (f"{server.url}/missing/", f"{server.url}/{mode}/")}
        return type("Tiny", (MNIST,), attributes)(tmp_path / "root", **arguments)

    return make


def test_a_data_set_downloads_both_splits_once(server, tiny, tmp_path):
    train = tiny("good", download=True)
    assert len(train) == 6
    raw = tmp_path / "root" / "Tiny" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(server.content)
    server.requests.clear()
    assert len(tiny("good", train=False)) == 4
    assert len(tiny("good", download=True)) == 6
    assert server.requests == []


def test_a_data_set_replaces_a_truncated_file(tiny, tmp_path):
    tiny("good", download=True)
    path = tmp_path / "root" / "Tiny" / "raw" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="truncated"):
        tiny("good")
    tiny("good", download=True)
    assert path.read_bytes() == whole


def test_a_login_page_is_named_as_what_it_is_not(tiny):
    with pytest.raises(RuntimeError, match=r"/wrong/train-images-idx3-ubyte\.gz: .*is not an IDX file"):
        tiny("wrong", download=True)


def test_a_progress_bar_shows_on_a_terminal(server, target, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch(server, target, "good")
    assert "file.gz: 100%" in capsys.readouterr().err
