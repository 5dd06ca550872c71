"""What the command line refuses: bad usage, bad input, and outputs that would take something with them."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import tifffile
from toy_files import ToyFiles, error_line, segment_words, write_toy_files

from napari_osvos import finetune, write_labels
from napari_osvos.cli import main
from napari_osvos.cli.stages import check_disk
from napari_osvos.clip import Clip
from napari_osvos.machine import check_space


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


def test_outputs_are_not_overwritten_without_force(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-o", "--save", "--probabilities", "--json"):
        endings = {"--save": "x.osvos", "--json": "x.json"}
        taken = toy.folder / endings.get(option, "x.tif")
        taken.write_text("precious")
        assert main(segment_words(toy, option, taken)) == 2
        assert f"{taken} exists already" in error_line(capsys)
        assert taken.read_text() == "precious"
    assert main(segment_words(toy, "-o", toy.folder / "x.tif", "--force")) == 0
    assert tifffile.imread(toy.folder / "x.tif").shape == (4, 40, 56)


def test_an_input_is_never_overwritten_even_by_force(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(segment_words(toy, "-o", toy.movie, "--force")) == 2
    assert "is also the input" in error_line(capsys)
    assert main(segment_words(toy, "--probabilities", toy.folder / "labels.tif", "--force")) == 2
    assert "is also the output" in error_line(capsys)


def test_units_that_nothing_is_measured_in_are_refused(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    for more, sentence in (
        (("--frame-interval", "60"), "--frame-interval has a say only with --export"),
        (("--no-track", "--pixel-size", "1,1"), "so it does not go with --no-track"),
    ):
        assert main(segment_words(toy, *more)) == 2
        assert sentence in error_line(capsys)


def test_a_folder_is_no_model_file(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(toy.folder)]) == 2
    assert f"{toy.folder} is a folder; name a file in it." in error_line(capsys)


def test_outputs_take_no_input_with_them_and_become_no_frame_of_one(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    group, frames, folder = toy.folder / "group.zarr", toy.folder / "frames", toy.folder / "cells.osvos"
    write_labels(group / "painted.zarr", tifffile.imread(toy.painted))
    frames.mkdir()
    for t, frame in enumerate(tifffile.imread(toy.painted)):
        tifffile.imwrite(frames / f"t{t}.tif", frame)
    folder.mkdir()
    before = sorted(toy.folder.rglob("*"))
    for paint, more, sentence in (
        (group / "painted.zarr", ("-o", group), f"-o {group} holds the input {group / 'painted.zarr'}"),
        (frames, ("-o", frames / "labels.tif"), f"would be taken for a frame of the input {frames}"),
        (frames, ("--export", f"davis:{toy.folder}"), f"--export {toy.folder} holds the input"),
        (toy.painted, ("--save", folder), f"{folder} is a folder, which a file never replaces; choose another --save."),
        (toy.painted, ("--json", frames), f"{frames} is a folder, which a file never replaces; choose another --json."),
    ):
        words = segment_words(toy, *more, "--force")
        words[words.index("-a") + 1] = str(paint)
        assert main(words) == 2
        assert sentence in error_line(capsys)
        assert sorted(toy.folder.rglob("*")) == before


def test_truth_that_cannot_be_scored_against_is_told_before_anything_is_learned(
    toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finetune.FineTuner, "steps", None)
    truth = tifffile.imread(toy.truth)
    for name, array in (("small", truth[:, :9, :9]), ("long", np.concatenate([truth, truth]))):
        write_labels(toy.folder / f"{name}.tif", array)
    for more, sentence in (
        (("--truth", toy.folder / "small.tif"), "frames of 40 x 56 pixels and the truth of 9 x 9"),
        (("--truth", toy.folder / "long.tif"), "The labels have 4 frames and the truth 8"),
        (
            ("--truth", toy.truth, "--border", "30"),
            "The border is 30 px; in frames of 40 x 56 pixels it may be 0 to 19.",
        ),
    ):
        assert main(segment_words(toy, *more)) == 2
        assert sentence in error_line(capsys)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("-o", "labels.png"), "must end in .tif"),
        (("--save", "cells.pt"), "must end in .osvos"),
        (("--frames", "9"), "has no frame 9"),
        (("--frames", "1"), "is empty"),
        (("--frames", "x"), "write for example 0,40"),
        (("--frames", "5-3"), "write for example 0,40"),
        (("--only", "7"), "has no frame 7"),
        (("--axes", "TYXQ"), "axes"),
        (("--channels", "3"), "has no channel 3"),
        (("--quality", "superb"), "--quality is 'superb'; allowed are preview, fast"),
        (("--steps", "0"), "--steps is 0; it must be at least 1"),
        (("--steps", "many"), "invalid int value: 'many'"),
        (("--crop-size", "7"), "--crop-size is 7; it must be from 16 to 2048 px"),
        (("--threshold", "2"), "--threshold is 2"),
        (("--threads", "0"), "give a whole number from 1 to"),
        (("--threads", "100000"), "give a whole number from 1 to"),
        (("--border", "3"), "--border goes with --truth; add it."),
        (("--stable-ids",), "--stable-ids goes with --truth; add it."),
        (("--device", "tpu"), "There is no device 'tpu'"),
        (("--parent", "vgg19"), "There is no bundled parent 'vgg19'"),
        (("--parent", "nowhere.safetensors"), "There is no file nowhere.safetensors"),
        (("--parent", "x", "--continue", "y.osvos"), "not allowed with argument"),
        (("--qual", "fast"), "unrecognized arguments: --qual"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str], change: tuple[str, ...], sentence: str
) -> None:
    assert main(segment_words(toy, *change)) == 2
    assert sentence in error_line(capsys)
    assert not (toy.folder / "labels.tif").exists()


def _damage(toy: ToyFiles, kind: str) -> None:
    painted = np.zeros((4, 40, 56), np.uint16)
    if kind == "no movie":
        toy.movie.unlink()
    elif kind == "unreadable movie":
        toy.movie.write_bytes(b"this is no TIFF")
    elif kind == "cut short":
        toy.movie.write_bytes(toy.movie.read_bytes()[:3000])
    elif kind == "NaN movie":
        tifffile.imwrite(toy.movie, np.full((4, 40, 56), np.nan, np.float32), imagej=True, metadata={"axes": "TYX"})
    elif kind == "empty paint":
        write_labels(toy.painted, painted, overwrite=True)
    elif kind == "other size":
        painted = np.pad(painted, ((0, 0), (0, 3), (0, 0)))
        painted[0, 3:9, 3:9] = 1
        write_labels(toy.painted, painted, overwrite=True)
    elif kind == "more frames":
        painted = np.concatenate([painted, painted])
        painted[6, 3:9, 3:9] = 1
        write_labels(toy.painted, painted, overwrite=True)
    elif kind == "fractional labels":
        tifffile.imwrite(toy.painted, np.full((4, 40, 56), 0.5, np.float32), imagej=True, metadata={"axes": "TYX"})
    elif kind == "damaged parent":
        toy.parent.write_bytes(toy.parent.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("no movie", "There is no file or folder"),
        ("unreadable movie", "cannot be read"),
        ("cut short", "is damaged or cut short"),
        ("NaN movie", "has no finite pixel"),
        ("empty paint", "is empty: no frame holds a painted object"),
        ("other size", "is 43 x 56 pixels but"),
        ("more frames", "is painted on frame 6"),
        ("fractional labels", "labels must be whole numbers"),
        ("damaged parent", "is damaged"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str], kind: str, sentence: str
) -> None:
    _damage(toy, kind)
    assert main(segment_words(toy)) == 2
    assert sentence in error_line(capsys)
    assert not (toy.folder / "labels.tif").exists()


def test_too_little_disk_is_found_before_training(tmp_path: Path) -> None:
    movie = Clip(np.broadcast_to(np.uint8(0), (100_000, 20_000, 20_000)))  # takes no memory
    given = argparse.Namespace(output=tmp_path / "labels.tif", probabilities=None, uncertainty=None)
    with pytest.raises(OSError, match=r"needs 12000\.0 GB of disk and .* are free"):
        check_disk(given, movie, range(100_000))
    check_space(tmp_path / "not" / "yet" / "there.tif", 10)


def test_an_output_folder_that_is_a_file(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(segment_words(toy, output="movie.tif/labels.tif")) == 2
    assert "is a file, not a folder" in error_line(capsys)


def test_debug_shows_the_traceback(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    toy.movie.unlink()
    assert main(segment_words(toy, "--debug")) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "id"), [("davis", 300), ("ctc", 70000)])
def test_a_painted_id_that_an_export_cannot_hold_is_told_before_anything_is_learned(
    toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, id: int
) -> None:
    monkeypatch.setattr(finetune.FineTuner, "steps", None)
    write_labels(toy.painted, tifffile.imread(toy.painted).astype(np.uint32) * id, dtype="uint32", overwrite=True)
    assert main(segment_words(toy, "--export", f"{kind}:{toy.folder / 'out'}")) == 2
    assert f"out cannot hold the id {id}" in error_line(capsys)
