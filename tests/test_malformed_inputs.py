"""Malformed files and options: one sentence and an exit code, never a traceback, outputs whole or absent."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from toy_clip import quick, tiny_parent, toy_clip, toy_frames

from napari_osvos import FineTuner, read_clip, read_labels, write_labels
from napari_osvos.checkpoint import load_tensors, save_tensors
from napari_osvos.cli import main

# 4 x 60 + 40 runs in some seconds; the same ones each time.
many = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=int(os.environ.get("FUZZ", "16")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
QUICK = ("--steps", "1", "--crops", "1", "--crop-size", "16", "--device", "cpu")
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 2**31, 2**63, 10**30, 0.5, float("nan"), float("inf"), -1e308, 1e-320),
    *("", "x", "é/..", "1", [], [0], [-1], ["x"], [[]], {}, {"x": 1}),
)
WORDS = (
    *("", " ", "-1", "0", "1", "2", "nan", "inf", "-inf", "1e309", "1e-320", "9" * 30, "9" * 300, "0x10", "1_0", "1.5"),
    *(
        ",",
        "0,0",
        "0-9",
        "9-0",
        "0-99999999999",
        "0," * 9,
        "1,nan",
        "a",
        "TYX",
        "YYX",
        "é",
        "{}",
        "tru",
        "../..",
        "cuda:99",
    ),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one valid file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    frames, truth = toy_frames(2)
    clip, annotations, _ = toy_clip(2)
    tifffile.imwrite(folder / "plain.tif", frames, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "packed.tif", frames, compression="zlib", photometric="minisblack")
    tifffile.imwrite(folder / "movie.ome.tif", frames, ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    np.save(folder / "movie.npy", frames)
    (folder / "frames").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "frames" / f"t{t:03d}.png")
    write_labels(folder / "labels.tif", truth)
    write_labels(folder / "labels.ome.zarr", truth)
    array = zarr.create_array(str(folder / "movie.zarr"), shape=frames.shape, dtype=frames.dtype, chunks=(1, 40, 56))
    array[...] = frames
    FineTuner(tiny_parent(), quick(steps=2)).fit(clip, annotations).save(folder / "toy.osvos")
    tiny_parent().save(folder / "tiny.safetensors")
    (folder / "list.toml").write_text(
        '[[movie]]\nname = "toy"\nmovie = "missing.tif"\ntruth = "labels.tif"\nborder = 0\ninstances = false\n'
    )
    return folder


@contextlib.contextmanager
def _copy(whole: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=whole.parent) as folder:
        yield Path(shutil.copytree(whole, Path(folder) / "x"))


def _answer(folder: Path, *words: str | Path) -> int:
    """Run a command; look at how it ends and what it leaves."""
    before = set(folder.rglob("*"))
    said, shown = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown), warnings.catch_warnings():
        warnings.simplefilter("default")
        code = main([str(word) for word in words])
    text = said.getvalue()
    assert code in (0, 1, 2), (words, code, text)
    for bad in ("Traceback", "Unexpected ", "object at 0x"):
        assert bad not in text + shown.getvalue(), (words, text)
    errors = [line for line in text.splitlines() if line.startswith("napari-osvos: error: ")]
    assert len(errors) == (code != 0), (words, code, text)
    assert all(line.endswith((".", ")", "?", "!")) and len(line) < 1000 for line in errors), (words, text)
    left = set(folder.rglob("*")) - before
    assert not [path for path in left if path.name.endswith((".partial", ".old"))], (words, left)
    for path in left:
        if path.name.startswith("unfinished-"):
            assert code != 0, (words, text)
            assert "the same command goes on from there." in text, (words, text)
        elif path.suffix == ".tif":
            np.asarray(read_labels(path))
        elif path.suffix == ".osvos":
            load_tensors(path, "segmenter")
    return code


def _predict(folder: Path, movie: str, *more: str) -> int:
    return _answer(
        folder,
        "predict",
        folder / "toy.osvos",
        folder / movie,
        "-o",
        folder / "out.tif",
        *more,
        "--device",
        "cpu",
    )


def _segment(folder: Path, painted: str, *more: str) -> int:
    start = ("segment", folder / "plain.tif", "-a", folder / painted, "-o", folder / "out.tif")
    return _answer(folder, *start, "--parent", folder / "tiny.safetensors", *QUICK, *more)


def _benchmark(folder: Path, *more: str) -> int:
    words = ("benchmark", "--list", folder / "list.toml", "--root", folder, "-o", folder / "table.csv")
    return _answer(folder, *words, "--methods", "otsu", "--frames", "1", "--quiet", *more)


# The file that is damaged, and a command that reads it.
READERS: dict[str, Callable[[Path], int]] = {
    "plain.tif": lambda folder: _predict(folder, "plain.tif"),
    "packed.tif": lambda folder: _predict(folder, "packed.tif"),
    "movie.ome.tif": lambda folder: _predict(folder, "movie.ome.tif"),
    "movie.npy": lambda folder: _predict(folder, "movie.npy"),
    "frames/t001.png": lambda folder: _predict(folder, "frames"),
    "movie.zarr/zarr.json": lambda folder: _predict(folder, "movie.zarr"),
    "movie.zarr/c/1/0/0": lambda folder: _predict(folder, "movie.zarr"),
    "toy.osvos": lambda folder: _predict(folder, "plain.tif"),
    "tiny.safetensors": lambda folder: _segment(folder, "labels.tif"),
    "labels.tif": lambda folder: _segment(folder, "labels.tif"),
    "labels.ome.zarr/zarr.json": lambda folder: _answer(
        folder, "evaluate", folder / "labels.ome.zarr", folder / "labels.tif", "--quiet"
    ),
    "labels.ome.zarr/0/c/1/0/0": lambda folder: _answer(
        folder, "track", folder / "labels.ome.zarr", "-o", folder / "out.tif", "--quiet"
    ),
    "list.toml": _benchmark,
}
DAMAGES: tuple[Callable[[bytes, int, bytes], bytes], ...] = (
    lambda held, place, noise: held[:place],
    lambda held, place, noise: held[:place] + noise + held[place + len(noise) :],
    lambda held, place, noise: held[:place] + noise + held[place:],
    lambda held, place, noise: held[:place] + held[place + len(noise) :],
    lambda held, place, noise: noise,
)


@many
@given(st.sampled_from(list(READERS)), st.sampled_from(DAMAGES), st.floats(0, 1), st.binary(max_size=24), st.booleans())
def test_a_damaged_file_is_one_sentence(
    whole: Path, name: str, damage: Callable[..., bytes], share: float, noise: bytes, at_start: bool
) -> None:
    with _copy(whole) as folder:
        held = (folder / name).read_bytes()
        place = int(share * min(len(held), 400 if at_start else len(held)))
        (folder / name).write_bytes(damage(held, place, noise))
        READERS[name](folder)


def _places(plain: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in plain data."""
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ():
        yield (*path, key)
        yield from _places(value, (*path, key))


def _changed(plain: Any, choice: int, value: Any) -> Any:
    plain, places = copy.deepcopy(plain), list(_places(plain))
    *above, last = places[choice % len(places)]
    inner = plain
    for key in above:
        inner = inner[key]
    inner[last] = value
    return plain


@many
@given(
    st.sampled_from([name for name in READERS if name.endswith("zarr.json")]),
    st.integers(0, 99),
    st.sampled_from(STRANGE),
)
def test_strange_metadata_of_a_zarr_is_one_sentence(whole: Path, name: str, choice: int, value: Any) -> None:
    with _copy(whole) as folder:
        plain = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(_changed(plain, choice, value)))
        READERS[name](folder)


@many
@given(st.sampled_from(["toy.osvos", "tiny.safetensors"]), st.integers(0, 99), st.sampled_from(STRANGE))
def test_a_strange_header_of_a_model_is_one_sentence(whole: Path, name: str, choice: int, value: Any) -> None:
    with _copy(whole) as folder:
        kind = "segmenter" if name == "toy.osvos" else "parent"
        tensors, header = load_tensors(folder / name, kind)
        save_tensors(folder / name, tensors, _changed(header, choice, value), kind)
        READERS[name](folder)


ARRAYS = st.one_of(
    npst.arrays(
        st.sampled_from(["?", "u1", "<i2", ">u2", "<i8", "<u8", "<f2", "<f4", ">f8", "<c8", "<M8[s]", "<U3", "S2"]),
        npst.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=7),
        fill=st.nothing(),
    ),
    npst.arrays(
        st.sampled_from(["u1", "<i4", "<f4", "<f8"]),
        st.sampled_from([(2, 40, 56), (1, 40, 56), (40, 56), (2, 1, 1), (2, 40, 56, 3), (2, 2, 40, 56)]),
        fill=st.sampled_from([0, 1]),
    ),
)


@many
@given(ARRAYS, st.booleans())
@example(np.full((2, 40, 56), np.nan), False)
@example(np.full((2, 40, 56), np.inf, np.float32), False)
@example(np.array([None, {}]), False)
def test_a_strange_array_is_one_sentence(whole: Path, array: np.ndarray, painted: bool) -> None:
    with _copy(whole) as folder:
        np.save(folder / "strange.npy", array, allow_pickle=True)
        _segment(folder, "strange.npy") if painted else _predict(folder, "strange.npy")


# Those that make a run as long as is asked for are left out.
OPTIONS = {
    "predict": (
        *(
            "--axes",
            "--channels",
            "--only",
            "--threshold",
            "--tile",
            "--device",
            "--threads",
            "--pixel-size",
            "--reach",
        ),
        *("--frame-interval", "--export", "--format", "--probabilities", "--uncertainty", "--json", "-o", "--gap"),
    ),
    "segment": (
        *(
            "--frames",
            "--partial",
            "--corrected",
            "--accepted",
            "--background-label",
            "--void-label",
            "--seed",
            "--task",
        ),
        *("--shares", "--object-diameter", "--largest-zoom", "--learning-rate", "--weight-decay", "--average-decay"),
        *("--quality", "--parent", "--continue", "--save", "--only", "--truth", "--balance", "--passes", "--warm-up"),
    ),
}


@many
@given(st.sampled_from([(verb, option) for verb, all in OPTIONS.items() for option in all]), st.sampled_from(WORDS))
@example(("predict", "--only"), "0-99999999999")
@example(("segment", "--frames"), "0-99999999999")
@example(("segment", "--truth"), "")
def test_a_strange_option_is_one_sentence(whole: Path, option: tuple[str, str], word: str) -> None:
    with _copy(whole) as folder, contextlib.chdir(folder):
        more = (option[1], word) if word.startswith("-") is False else (f"{option[1]}={word}",)
        _predict(folder, "plain.tif", *more) if option[0] == "predict" else _segment(folder, "labels.tif", *more)


def test_the_valid_files_are_read(whole: Path) -> None:
    for name, read in READERS.items():
        if name == "list.toml":  # of a movie that is not there, or it would be measured
            continue
        with _copy(whole) as folder:
            assert read(folder) == 0, name
            assert not name.startswith("movie") or read_clip(folder / "out.tif").n_frames == 2
