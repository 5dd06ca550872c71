"""The command that does what the panel did: its words are the command line's own, and its labels are the same."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from napari_osvos import cli
from napari_osvos.cli.options import settings_of, tuning_of
from napari_osvos.clip import Clip
from napari_osvos.command_line import (
    frame_numbers_of,
    predict_command,
    quoted,
    segment_command,
    why_not_the_file,
    write_annotations,
    write_movie,
)
from napari_osvos.config import FineTuneConfig, NetworkConfig, PredictConfig
from napari_osvos.io import read_clip, read_labels
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.painted_frames import annotations_of
from napari_osvos.sample_data import simulate_movie


def parsed(line: str):  # type: ignore[no-untyped-def]
    program, *words = shlex.split(line)
    assert program == "napari-osvos"
    return cli.build_parser().parse_args(words)


def test_defaults_are_left_out() -> None:
    line = segment_command(Path("/m/movie.tif"), Path("/m/a.tif"), Path("/m/out.tif"), tuning=FineTuneConfig())
    assert line == "napari-osvos segment /m/movie.tif -a /m/a.tif -o /m/out.tif"
    line = predict_command(Path("/m/cells.osvos"), Path("/m/movie.tif"), Path("/m/out.tif"))
    assert line == "napari-osvos predict /m/cells.osvos /m/movie.tif -o /m/out.tif"


def test_every_setting_is_understood_by_the_command_line() -> None:
    tuning = FineTuneConfig(
        quality="best",
        steps=77,
        seconds=12.5,
        crops=3,
        shares=(0.25, 0.25, 0.25, 0.25),
        crop_size=128,
        object_diameter=48.5,
        largest_zoom=3.0,
        learning_rate=1e-5,
        weight_decay=1e-7,
        warm_up=0.1,
        average_decay=0.9,
        balance=0.5,
        dice_weight=0.25,
        contour_weight=1.5,
        seed=3,
    )
    prediction = PredictConfig(flips=True, tile=512, threshold=0.4)
    line = segment_command(
        Path("movie one.tif"),
        Path("it's painted.tif"),
        Path("out.tif"),
        tuning=tuning,
        prediction=prediction,
        axes="TCYX",
        channels=(2, 0),
        partial={40, 3},
        background_label=9,
        void_label=255,
        parent="vgg16",
        probabilities=Path("p.tif"),
        save=Path("s.osvos"),
        device="cuda:1",
        threads=2,
    )
    given = parsed(line)
    assert given.verb == "segment"
    assert (given.movie, given.annotations) == (Path.cwd() / "movie one.tif", Path.cwd() / "it's painted.tif")
    assert (given.output, given.probabilities, given.save) == tuple(
        Path.cwd() / name for name in ("out.tif", "p.tif", "s.osvos")
    )
    assert (given.axes, given.channels, given.partial) == ("TCYX", (2, 0), (3, 40))
    assert (given.background_label, given.void_label) == (9, 255)
    assert (given.parent, given.continued, given.device, given.threads) == ("vgg16", None, "cuda:1", 2)
    assert settings_of(given, FineTuneConfig) == tuning
    assert settings_of(given, PredictConfig) == prediction


def test_each_setting_alone_is_understood() -> None:
    changes = {"quality": "preview", "steps": 5, "seconds": 2.0, "learning_rate": 3e-5, "shares": (0.4, 0.3, 0.2, 0.1)}
    for name, value in changes.items():
        tuning = FineTuneConfig().replace(**{name: value})
        line = segment_command(Path("m.tif"), Path("a.tif"), Path("o.tif"), tuning=tuning)
        assert line.count("--") == 1
        assert settings_of(parsed(line), FineTuneConfig) == tuning


def test_settings_that_have_no_say_are_left_out() -> None:
    tuning = FineTuneConfig(quality="published", steps=7, passes=2, crops=5, learning_rate=1e-3)
    line = segment_command(Path("m.tif"), Path("a.tif"), Path("o.tif"), tuning=tuning)
    assert tuning_of(parsed(line)) == FineTuneConfig(quality="published", steps=7, passes=2)
    line = segment_command(Path("m.tif"), Path("a.tif"), Path("o.tif"), tuning=tuning.replace(quality="fast"))
    assert tuning_of(parsed(line)) == tuning.replace(quality="fast", passes=1)


def test_prediction_settings_are_spelled_out_whatever_the_segmenter_holds() -> None:
    line = predict_command(
        Path("s.osvos"), Path("m.tif"), Path("o.tif"), prediction=PredictConfig(), channels=[1], threads=1, device="cpu"
    )
    given = parsed(line)
    assert settings_of(given, PredictConfig, PredictConfig(flips=True, tile=64)) == PredictConfig()
    assert (given.channels, given.threads, given.device) == ((1,), 1, "cpu")


def test_a_parent_in_a_file_and_going_on_from_a_segmenter() -> None:
    paths = (Path("m.tif"), Path("a.tif"), Path("o.tif"))
    assert parsed(segment_command(*paths, tuning=FineTuneConfig(), parent="own.safetensors")).parent == str(
        Path.cwd() / "own.safetensors"
    )
    line = segment_command(*paths, tuning=FineTuneConfig(), parent="vgg16", start=Path("before.osvos"))
    assert parsed(line).continued == Path.cwd() / "before.osvos"
    assert "--parent" not in line


def test_lines_are_quoted_for_the_shell_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["napari-osvos", "predict", "a b.osvos", "it's"]
    assert shlex.split(quoted(words)) == words
    monkeypatch.setattr("os.name", "nt")
    assert quoted(words) == 'napari-osvos predict "a b.osvos" it\'s'


def test_annotations_keep_the_numbers_of_their_frames(tmp_path: Path) -> None:
    paint = np.zeros((9, 7), np.uint16)
    paint[2:5, 2:5] = 255  # not a mask of 0 and 255: a label
    path = write_annotations(tmp_path / "a.tif", {4: paint, 1: paint})
    labels = read_labels(path)
    assert labels.frame_numbers == (1, 4)
    assert labels.frame(4).max() == 255
    numbered = read_labels(write_annotations(path, {4: paint}, numbers=range(100, 110)))
    assert numbered.frame_numbers == (104,)
    large = read_labels(write_annotations(path, {0: paint.astype(np.int64) * 1000}))
    assert large.frame(0).max() == 255_000
    with pytest.raises(ValueError, match="No frame is painted"):
        write_annotations(path, {})


@pytest.mark.parametrize(
    ("shape", "axes", "channels"),
    [
        ((4, 9, 7), "TYX", None),
        ((4, 3, 9, 7), "TCYX", [2, 0]),
        ((4, 3, 9, 7), "TZYX", None),
        ((4, 9, 7, 3), "TYXS", None),
        ((9, 7), "YX", None),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_a_movie_that_was_in_no_file_is_read_as_it_was(
    tmp_path: Path, shape: tuple[int, ...], axes: str, channels: list[int] | None, dtype: type
) -> None:
    pixels = np.random.default_rng(0).integers(0, 2 if dtype is bool else 200, shape).astype(dtype)
    clip = Clip(pixels, axes, channels=channels)
    path = write_movie(tmp_path / "movie.zarr", clip)
    stored = read_clip(path)
    assert (stored.labels_shape, stored.n_channels, stored.dtype) == (clip.labels_shape, clip.n_channels, clip.dtype)
    for p in range(clip.n_planes):
        np.testing.assert_array_equal(stored.plane(p), clip.plane(p))
    assert why_not_the_file(path, clip) == ""
    write_movie(path, clip)  # replaced
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["movie.zarr"]


def test_whether_the_file_is_the_movie_of_the_layer(tmp_path: Path) -> None:
    pixels = np.arange(4 * 9 * 7, dtype=np.float32).reshape(4, 9, 7)
    pixels[0, 0, 0] = np.nan
    path = tmp_path / "m.npy"
    np.save(path, pixels)
    assert why_not_the_file(path, Clip(pixels, "TYX")) == ""
    assert "shape" in why_not_the_file(path, Clip(pixels[1:], "TYX"))
    assert "dtype" in why_not_the_file(path, Clip(pixels.astype(np.float64), "TYX"))
    assert "pixels" in why_not_the_file(path, Clip(pixels[::-1], "TYX"))
    assert "no file" in why_not_the_file(tmp_path / "gone.tif", Clip(pixels, "TYX"))
    assert "number of channels" in why_not_the_file(path, Clip(np.stack([pixels] * 2, 1), "TCYX"))


def test_frame_numbers_of_a_folder_of_frames(tmp_path: Path) -> None:
    import tifffile

    (tmp_path / "frames").mkdir()
    for number in (10, 12):
        tifffile.imwrite(tmp_path / "frames" / f"t{number:03d}.tif", np.zeros((9, 7), np.uint8))
    assert frame_numbers_of(tmp_path / "frames") == (10, 12)
    np.save(tmp_path / "m.npy", np.zeros((4, 9, 7)))
    assert frame_numbers_of(tmp_path / "m.npy") is None


def test_the_copied_command_gives_the_labels_of_the_run(tmp_path: Path) -> None:
    import torch

    from napari_osvos.finetune import FineTuner
    from napari_osvos.network import OSVOSNet
    from napari_osvos.parent import ParentNetwork

    threads = torch.get_num_threads()
    torch.manual_seed(0)
    parent = tmp_path / "tiny.safetensors"
    ParentNetwork(OSVOSNet(NetworkConfig.tiny())).save(parent)
    simulated = simulate_movie(n_frames=4, shape=(64, 80), n_objects=4)
    axes = LayerAxes("TYX", simulated.frames.shape)
    painted = {2: simulated.labels[2].copy(), 0: np.where(simulated.labels[0] == 1, 1, 0).astype(np.uint16)}
    tuning = FineTuneConfig(quality="fast", steps=6, crop_size=48, seed=5)

    clip = Clip(simulated.frames, axes.letters)
    annotations = annotations_of(painted, axes, partial=[0])
    torch.set_num_threads(1)
    segmenter = FineTuner(ParentNetwork.load(parent), tuning, device="cpu").fit(clip, annotations)
    ours = segmenter.predict(clip)
    segmenter.save(tmp_path / "cells.osvos")

    movie = write_movie(tmp_path / "movie.zarr", clip)
    paint = write_annotations(tmp_path / "painted.tif", painted)
    machine = {"device": "cpu", "threads": 1, "track": False}
    line = segment_command(movie, paint, tmp_path / "a.tif", tuning=tuning, partial=[0], parent=str(parent), **machine)  # type: ignore[arg-type]
    again = predict_command(tmp_path / "cells.osvos", movie, tmp_path / "b.tif", **machine)  # type: ignore[arg-type]
    try:
        for command in (line, again):
            assert cli.main([*shlex.split(command)[1:], "--quiet"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert ours.any()
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "a.tif")), ours)
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "b.tif")), ours)
