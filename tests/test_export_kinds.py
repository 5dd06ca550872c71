"""The one door: kinds told by name or ending, everything checked before any work, each read back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from linked_toys import LINEAGE, toy_clip, toy_frames, toy_labels, toy_stack

from napari_osvos.ctc_folder import read_ctc_folder
from napari_osvos.exporting import EXPORTS, check_export, export, export_kind
from napari_osvos.geff_file import read_geff
from napari_osvos.io import read_clip, read_labels
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the extra 'video' is not installed")


@pytest.mark.parametrize(
    ("given", "kind", "path"),
    [
        ("out/02_RES", "ctc", "out/02_RES"),
        ("ctc:run.v2", "ctc", "run.v2"),
        ("davis:results/bear", "davis", "results/bear"),
        ("cells.geff", "geff", "cells.geff"),
        ("cells.csv", "measurements", "cells.csv"),
        ("cells.tracks.csv", "tracks", "cells.tracks.csv"),
        ("Cells.Tracks.CSV", "tracks", "Cells.Tracks.CSV"),
        ("tracks:cells.csv", "tracks", "cells.csv"),
        ("cells.mp4", "mp4", "cells.mp4"),
        ("cells.GIF", "gif", "cells.GIF"),
        ("cells.tiff", "tif", "cells.tiff"),
        ("cells.ome.zarr", "zarr", "cells.ome.zarr"),
        ("C:/cells.tif", "tif", "C:/cells.tif"),
    ],
)
def test_a_path_tells_its_kind(given: str, kind: str, path: str) -> None:
    assert export_kind(given) == (kind, Path(path))


def test_a_name_tells_the_kind_whatever_the_ending() -> None:
    assert export_kind("cells.csv", "tracks") == ("tracks", Path("cells.csv"))


@pytest.mark.parametrize(
    ("given", "kind", "what"),
    [
        (
            "cells.avi",
            None,
            "cells.avi cannot be exported; the name must end in .geff, .tracks.csv, .csv, .mp4, .gif, ",
        ),
        ("cells.csv", "excel", "There is no export named 'excel'; there are ctc, geff, tracks, measurements, mp4, gif"),
        ("ctc:", None, "The export ctc has no file name; write ctc:PATH"),
    ],
)
def test_what_is_not_known_is_named(given: str, kind: str | None, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        export_kind(given, kind)


@pytest.mark.parametrize(
    "name",
    ["out", "a.geff", "a.csv", "a.tracks.csv", "a.gif", "a.tif", "a.zarr", pytest.param("a.mp4", marks=needs_av)],
)
def test_every_kind_is_written_checked_and_replaced(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    done: list[tuple[int, int]] = []
    told = {"progress": lambda *at: done.append(at)}
    assert export(path, toy_labels(), LINEAGE, toy_clip(), scale=(1, 1, 1), seconds_per_frame=9, **told) == path
    assert done == [(t, 5) for t in range(1, 6)]
    assert [p.name for p in path.parent.iterdir()] == [name]
    with pytest.raises(FileExistsError, match=f"{name} exists; choose another name or allow overwriting it"):
        check_export(path)
    check_export(path, overwrite=True)
    export(path, toy_labels(), LINEAGE, toy_clip(), overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_an_option_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="export.. of measurements has no option 'second_per_frame'"):
        export(tmp_path / "a.csv", toy_labels(), LINEAGE, second_per_frame=9)
    assert not list(tmp_path.iterdir())


def test_labels_may_be_an_array(tmp_path: Path) -> None:
    export(tmp_path / "a.csv", toy_labels(), LINEAGE)
    export(tmp_path / "b.csv", toy_frames(), LINEAGE)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_what_is_exported_comes_back(tmp_path: Path) -> None:
    for name in ("a.tif", "a.ome.zarr", "out", "a.geff", "a.gif"):
        export(tmp_path / name, toy_labels(), LINEAGE, toy_clip())
    for name in ("a.tif", "a.ome.zarr"):
        np.testing.assert_array_equal(read_labels(tmp_path / name), toy_frames())
        assert read_clip(tmp_path / name).dtype == np.uint16
    assert dict(read_ctc_folder(tmp_path / "out")[1]) == dict(LINEAGE)
    assert dict(read_geff(tmp_path / "a.geff")[1]) == dict(LINEAGE)


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_labels_keep_large_ids_depth_and_frame_numbers(tmp_path: Path, name: str) -> None:
    stack, _, clip = toy_stack()
    frames = np.asarray(stack) * 20000
    export(tmp_path / name, Labels(frames, frame_numbers=(3, 7)), Lineage([Track(100000, 3, 7)]), clip)
    found = read_labels(tmp_path / name)
    np.testing.assert_array_equal(found, frames)
    assert found.frame_numbers == (3, 7)


def test_a_movie_is_needed_only_for_pictures(tmp_path: Path) -> None:
    export(tmp_path / "a.csv", toy_labels(), LINEAGE)
    with pytest.raises(ValueError, match="a.gif shows the movie, so it cannot be exported without one"):
        export(tmp_path / "a.gif", toy_labels(), LINEAGE)
    with pytest.raises(ValueError, match="a.gif shows the movie"):
        check_export(tmp_path / "a.gif", has_clip=False)


def test_options_of_the_overlay_go_through(tmp_path: Path) -> None:
    export(tmp_path / "a.gif", toy_labels(), LINEAGE, toy_clip(), longest_edge=100)
    assert read_gif_size(tmp_path / "a.gif") == (100, 40)


def read_gif_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


@pytest.mark.parametrize("name", ["a.csv", "a.tracks.csv", "a.gif", "a.tif"])
def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} is a folder"):
        check_export(tmp_path / name, overwrite=True)


def test_a_video_without_its_extra_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match="a.mp4 needs one more package: pip install"):
        check_export(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_an_interrupted_write_leaves_the_old_labels(tmp_path: Path, name: str) -> None:
    export(tmp_path / name, toy_labels(), LINEAGE)

    def stop(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / name, toy_labels(), LINEAGE, overwrite=True, progress=stop)
    np.testing.assert_array_equal(read_labels(tmp_path / name), toy_frames())
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_every_kind_says_what_it_is() -> None:
    assert list(EXPORTS) == ["ctc", "geff", "tracks", "measurements", "mp4", "gif", "tif", "zarr", "davis"]
    assert all(kind.says for kind in EXPORTS.values())


def test_the_door_loads_neither_torch_nor_heavy_libraries() -> None:
    import subprocess

    heavy = {"torch", "napari", "geff", "skimage", "pandas", "networkx", "av", "PIL", "scipy"}
    asking = f"import sys, napari_osvos.exporting; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_kind_that_does_not_exist_is_no_folder_of_that_name() -> None:
    with pytest.raises(ValueError, match="There is no export named 'csv'; there are ctc, geff, tracks"):
        export_kind("csv:cells.csv")
    assert export_kind("C:/cells.csv")[0] == "measurements"
    assert export_kind("runs/a:b.csv")[0] == "measurements"
