"""Movies fetched on demand: checked, kept, and without network a sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_osvos import _sample, real_movies
from napari_osvos.real_movies import REAL_MOVIES, RealMovie, fetch, read_archive

FRAMES = np.arange(5 * 12 * 10, dtype=np.uint16).reshape(5, 12, 10)


def truth(n: int) -> np.ndarray:
    labels = np.zeros((12, 10), np.uint16)
    for k in range(n):
        labels[2 * k, 2:5] = 10 * (k + 1)
    return labels


def archive(truths: dict[str, int]) -> bytes:
    """A zip as the Cell Tracking Challenge has them; `truths`: {file: number of objects}."""

    def tiff(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels)
        return stream.getvalue()

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for t in reversed(range(5)):
            file.writestr(f"Toy/01/t{t + 20:03d}.tif", tiff(FRAMES[t]))
            file.writestr(f"Toy/02/t{t:03d}.tif", tiff(FRAMES[t] * 0))
        for name, n in truths.items():
            file.writestr(f"Toy/{name}", tiff(truth(n)))
        file.writestr("Toy/01_GT/TRA/man_track021.tif", tiff(truth(5)))
    return packed.getvalue()


CONTENT = archive({"01_GT/SEG/man_seg021.tif": 2, "01_GT/SEG/man_seg023.tif": 3, "01_ST/SEG/man_seg020.tif": 4})


class Publisher(http.server.BaseHTTPRequestHandler):
    """Sends `content`, or an error, or only half of it."""

    content, status, cut, asked = CONTENT, 200, False, 0

    def do_GET(self) -> None:
        Publisher.asked += 1
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) // 2] if self.cut else self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Publisher]]:
    """A publisher on this machine."""
    monkeypatch.setenv("NO_PROXY", "*")
    for name, value in (("content", CONTENT), ("status", 200), ("cut", False), ("asked", 0)):
        monkeypatch.setattr(Publisher, name, value)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(real_movies, "PUBLISHER", f"http://127.0.0.1:{server.server_port}")
        yield Publisher
        server.shutdown()
        thread.join()


@pytest.fixture
def toy() -> RealMovie:
    return RealMovie("Toy", "toy cells", "nobody", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "01", 0.5, 5)


def test_a_movie_is_fetched_once_and_its_progress_is_told(
    publisher: type[Publisher], toy: RealMovie, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    path = fetch(toy, tmp_path / "new", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert fetch(toy, tmp_path / "new") == path
    assert publisher.asked == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"content": archive({})}, "has another checksum than the movie Toy had, so it was not kept"),
        ({"cut": True}, "not kept|could not be fetched"),
        ({"status": 404}, "answers with 404"),
    ],
)
def test_what_is_not_the_movie_is_not_kept(
    publisher: type[Publisher],
    toy: RealMovie,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    sentence: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(publisher, name, value)
    with pytest.raises(OSError, match=sentence) as failure:
        fetch(toy, tmp_path)
    assert str(failure.value).endswith((".", "?"))
    assert list(tmp_path.iterdir()) == []


def test_without_network_it_says_so(toy: RealMovie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(real_movies, "PUBLISHER", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(OSError, match="could not be fetched from http://127.0.0.1:9/Toy.zip; is this computer"):
        fetch(toy, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(publisher: type[Publisher], toy: RealMovie, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="could not be kept in"):
        fetch(toy, tmp_path / "file")


def test_the_gold_truth_with_the_most_objects_is_painted(tmp_path: Path) -> None:
    path = tmp_path / "toy.zip"
    path.write_bytes(CONTENT)
    frames, painted, frame = read_archive(path, "01")
    np.testing.assert_array_equal(frames, FRAMES)
    assert frame == 3
    np.testing.assert_array_equal(painted[3], truth(3))
    assert not np.delete(painted, 3, axis=0).any()
    path.write_bytes(archive({"01_ST/SEG/man_seg020.tif": 4}))
    assert read_archive(path, "01")[2] == 0  # silver, where there is no gold


# An archive holds the time of day, which no two processes have in common: not for a name.
@pytest.mark.parametrize("content", [b"no zip", CONTENT[:900], archive({})], ids=["no zip", "cut", "no truth"])
def test_archives_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "toy.zip"
    path.write_bytes(content)
    with pytest.raises(OSError, match="toy.zip cannot be read"):
        read_archive(path, "01")


def test_the_sample_has_one_painted_frame_and_names_its_terms(
    publisher: type[Publisher], toy: RealMovie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_movies, "default_folder", lambda: tmp_path)
    monkeypatch.setitem(REAL_MOVIES, "Toy", toy)
    said: list[str] = []

    class Bar:
        def __init__(self, total: int, desc: str) -> None:
            self.n, self.total = 0, total

        def __enter__(self) -> Bar:
            bars.append(self)
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, n: int) -> None:
            self.n += n

    bars: list[Bar] = []
    # what of napari the sample looks for, where napari runs
    monkeypatch.setitem(sys.modules, "napari.utils", SimpleNamespace(progress=Bar))
    monkeypatch.setitem(sys.modules, "napari.utils.notifications", SimpleNamespace(show_info=said.append))
    (frames, image, kind), (painted, labels, other) = _sample.real("Toy")
    assert (kind, other) == ("image", "labels")
    assert frames.shape == painted.shape
    assert [t for t in range(5) if painted[t].any()] == [3]
    assert image["scale"] == labels["scale"] == (1.0, 0.5, 0.5)
    assert "celltrackingchallenge.net" in image["metadata"]["terms"]
    assert "celltrackingchallenge.net" in said[0]
    assert (bars[0].n, bars[0].total) == (len(CONTENT), len(CONTENT))


def test_the_movies_on_offer_are_whole() -> None:
    for name, movie in REAL_MOVIES.items():
        assert movie.address == f"https://data.celltrackingchallenge.net/training-datasets/{name}.zip"
        assert len(bytes.fromhex(movie.sha256)) == 32
        assert movie.n_bytes > 1e6
        assert dataclasses.replace(movie, name="x").address.endswith("/x.zip")


def test_the_simulated_sample_has_one_painted_frame() -> None:
    (frames, _, _), (painted, _, _) = _sample.simulated()
    assert frames.shape == painted.shape
    assert [t for t in range(len(painted)) if painted[t].any()] == [0]
