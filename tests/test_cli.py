"""The command line as a user meets it: what it writes, what it says, and how it leaves."""

from __future__ import annotations

import argparse
import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from toy_files import QUICK, ToyFiles, write_toy_files

from napari_osvos import NetworkConfig, ParentNetwork, Segmenter, finetune, read_labels, write_labels
from napari_osvos.cli import build_parser, main
from napari_osvos.cli.console import Console, duration
from napari_osvos.cli.options import frame_numbers, settings_of
from napari_osvos.cli.stages import check_disk
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig
from napari_osvos.frame_store import FrameStore
from napari_osvos.machine import check_space, peak_memory, replacing

VERBS = ("segment", "fine-tune", "predict", "suggest", "evaluate", "train-parent", "benchmark", "info", "demo")


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


def _segment(toy: ToyFiles, *more: str | Path, output: str = "labels.tif") -> list[str]:
    words = ["segment", toy.movie, "-a", toy.painted, "-o", toy.folder / output, "--parent", toy.parent, *QUICK, *more]
    return [str(word) for word in words]


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on the standard error, which must be a sentence of ours."""
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Computing on ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("napari-osvos: error: ")
    assert lines[0].endswith((".", ")"))
    return lines[0]


# -- segment, fine-tune, predict, evaluate ---------------------------------------------------


def test_segment_writes_labels_that_match_the_truth(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    report = toy.folder / "new" / "report.json"
    more = ("--truth", toy.truth, "--json", report, "--save", toy.folder / "toy.osvos")
    assert main(_segment(toy, *more, "--probabilities", toy.folder / "p.tif")) == 0
    labels = tifffile.imread(toy.folder / "labels.tif")
    assert labels.dtype == np.uint16
    assert labels.shape == (4, 40, 56)
    probabilities = tifffile.imread(toy.folder / "p.tif")
    assert probabilities.dtype == np.float32
    assert 0 <= probabilities.min() <= probabilities.max() <= 1
    facts = json.loads(report.read_text())
    assert facts["scores"]["J"]["mean"] > 0.75
    assert facts["scores"]["frames"] == [1, 2, 3]
    assert facts["annotated_frames"] == [0]
    assert facts["steps"] == 30
    assert set(facts["seconds"]) == {"read", "fine_tune", "predict", "write", "evaluate", "total"}
    assert facts["peak_memory_bytes"] > 50e6
    assert facts["versions"]["torch"]
    assert facts["device"]
    assert facts["threads"] >= 1
    said = capsys.readouterr()
    assert "| J |" in said.out
    assert "peak memory" in said.err


def test_settings_that_have_no_say_with_the_quality_are_refused(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fine-tune", toy.movie, "-a", toy.painted, "--parent", toy.parent, "-o", toy.folder / "toy.osvos"]
    words = [str(word) for word in words]
    assert main([*words, "--quality", "fast", "--passes", "5"]) == 2
    assert "--passes 5 can have no effect with --quality fast; leave it out." in _error(capsys)
    published = ["--quality", "published", "--steps", "1", "--passes", "2"]
    assert main([*words, *published, "--learning-rate", "0.1", "--shares", "1,0,0,0"]) == 2
    told = "--learning-rate 0.1 and --shares 1.0,0.0,0.0,0.0 can have no effect with --quality published; leave them"
    assert told in _error(capsys)
    assert main([*words, *published]) == 0


def test_snapping_needs_a_network_that_predicts_contours(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    parent = toy.folder / "published.safetensors"
    ParentNetwork.random(NetworkConfig.tiny().replace(heads=("foreground",))).save(parent)
    words = ["segment", toy.movie, "-a", toy.painted, "-o", toy.folder / "labels.tif", "--parent", parent]
    words = [str(word) for word in [*words, "--steps", "2", "--save", toy.folder / "toy.osvos"]]
    assert main([*words, "--quality", "published", "--snap"]) == 2
    assert "Masks cannot be snapped: this network predicts no contours" in _error(capsys)
    assert not (toy.folder / "toy.osvos").exists()  # said before anything is learned
    assert main([*words, "--quality", "published"]) == 0
    capsys.readouterr()
    words = ["predict", toy.folder / "toy.osvos", toy.movie, "-o", toy.folder / "snapped.tif", "--snap"]
    assert main([str(word) for word in words]) == 2
    assert "Masks cannot be snapped: this network predicts no contours" in _error(capsys)
    words = ["segment", toy.movie, "-a", toy.painted, "-o", toy.folder / "learned.tif", "--parent", parent, *QUICK]
    assert main([str(word) for word in [*words, "--snap"]]) == 0  # other qualities learn contours


def test_segment_is_fine_tune_then_predict(toy: ToyFiles) -> None:
    assert main(_segment(toy)) == 0
    saved, again = toy.folder / "toy.osvos", toy.folder / "again.ome.zarr"
    start = ["-a", str(toy.painted), "--parent", str(toy.parent), *QUICK]
    assert main(["fine-tune", str(toy.movie), *start, "-o", str(saved)]) == 0
    assert main(["predict", str(saved), str(toy.movie), "-o", str(again)]) == 0
    np.testing.assert_array_equal(read_labels(again), read_labels(toy.folder / "labels.tif"))


def test_continue_goes_on_from_a_saved_segmenter(toy: ToyFiles) -> None:
    first, second = toy.folder / "first.osvos", toy.folder / "second.osvos"
    learn = ["fine-tune", str(toy.movie), "-a", str(toy.painted), *QUICK]
    assert main([*learn, "--parent", str(toy.parent), "-o", str(first)]) == 0
    assert main([*learn, "--continue", str(first), "-o", str(second)]) == 0
    assert Segmenter.load(second).provenance["continued"]


def test_only_some_frames_are_segmented_and_keep_their_numbers(toy: ToyFiles) -> None:
    assert main(_segment(toy, "--only", "1,3")) == 0
    assert read_labels(toy.folder / "labels.tif").frame_numbers == (1, 3)
    scores = toy.folder / "scores.json"
    assert main(["evaluate", str(toy.folder / "labels.tif"), str(toy.truth), "--json", str(scores)]) == 0
    assert json.loads(scores.read_text())["scores"]["frames"] == [1, 3]


def test_folders_of_frames_pair_by_file_number(toy: ToyFiles) -> None:
    movie, truth = toy.folder / "02", toy.folder / "02_ST" / "SEG"
    movie.mkdir()
    truth.mkdir(parents=True)
    for t, (frame, labels) in enumerate(zip(tifffile.imread(toy.movie), tifffile.imread(toy.truth), strict=True)):
        tifffile.imwrite(movie / f"t{10 + t:03d}.tif", frame)
        if t != 2:
            tifffile.imwrite(truth / f"man_seg{10 + t:03d}.tif", labels)
    words = ["segment", movie, "-a", truth, "--frames", "10", "-o", toy.folder / "labels.tif", "--parent", toy.parent]
    assert main([*map(str, words), *QUICK]) == 0
    scores = toy.folder / "scores.json"
    words = ["evaluate", toy.folder / "labels.tif", truth, "--skip-frames", "10", "--border", "2", "--json", scores]
    assert main(list(map(str, words))) == 0
    assert json.loads(scores.read_text())["scores"]["frames"] == [11, 13]


def test_evaluate_prints_what_can_be_counted_by_hand(
    tmp_path: Path, toy_labels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    found = toy_labels.copy()
    found[1][found[1] == 2] = 0  # 9 of 13 pixels are left
    write_labels(tmp_path / "found.tif", found)
    write_labels(tmp_path / "truth.tif", toy_labels)
    words = ["evaluate", str(tmp_path / "found.tif"), str(tmp_path / "truth.tif"), "--skip-frames", "0", "--per-frame"]
    assert main(words) == 0
    assert "| J | 0.846 |" in capsys.readouterr().out  # (9 / 13 + 1) / 2


def test_partial_paint_needs_some_background(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_segment(toy, "--partial", "0")) == 2
    assert "shows no background" in _error(capsys)
    painted = np.zeros((4, 40, 56), np.uint16)
    painted[0, 12:24, 8:20] = 1
    painted[0, 30:38, 4:52] = 2
    painted[0, 2:8, 4:52] = 2
    write_labels(toy.painted, painted, overwrite=True)
    scores = toy.folder / "scores.json"
    more = ("--partial", "0", "--background-label", "2", "--truth", toy.truth, "--json", scores)
    assert main(_segment(toy, *more)) == 0
    assert json.loads(scores.read_text())["scores"]["J"]["mean"] > 0.4


# -- what is refused -------------------------------------------------------------------------


def test_outputs_are_not_overwritten_without_force(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-o", "--save", "--probabilities", "--json"):
        endings = {"--save": "x.osvos", "--json": "x.json"}
        taken = toy.folder / endings.get(option, "x.tif")
        taken.write_text("precious")
        assert main(_segment(toy, option, taken)) == 2
        assert f"{taken} exists already" in _error(capsys)
        assert taken.read_text() == "precious"
    assert main(_segment(toy, "-o", toy.folder / "x.tif", "--force")) == 0
    assert tifffile.imread(toy.folder / "x.tif").shape == (4, 40, 56)


def test_an_input_is_never_overwritten_even_by_force(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_segment(toy, "-o", toy.movie, "--force")) == 2
    assert "is also the input" in _error(capsys)
    assert main(_segment(toy, "--probabilities", toy.folder / "labels.tif", "--force")) == 2
    assert "is also the output" in _error(capsys)


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
        words = _segment(toy, *more, "--force")
        words[words.index("-a") + 1] = str(paint)
        assert main(words) == 2
        assert sentence in _error(capsys)
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
        assert main(_segment(toy, *more)) == 2
        assert sentence in _error(capsys)


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
    assert main(_segment(toy, *change)) == 2
    assert sentence in _error(capsys)
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
    assert main(_segment(toy)) == 2
    assert sentence in _error(capsys)
    assert not (toy.folder / "labels.tif").exists()


def test_too_little_disk_is_found_before_training(tmp_path: Path) -> None:
    movie = Clip(np.broadcast_to(np.uint8(0), (100_000, 20_000, 20_000)))  # takes no memory
    given = argparse.Namespace(output=tmp_path / "labels.tif", probabilities=None, uncertainty=None)
    with pytest.raises(OSError, match=r"needs 12000\.0 GB of disk and .* are free"):
        check_disk(given, movie, range(100_000))
    check_space(tmp_path / "not" / "yet" / "there.tif", 10)


def test_an_output_folder_that_is_a_file(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_segment(toy, output="movie.tif/labels.tif")) == 2
    assert "is a file, not a folder" in _error(capsys)


def test_debug_shows_the_traceback(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    toy.movie.unlink()
    assert main(_segment(toy, "--debug")) == 2
    assert "Traceback" in capsys.readouterr().err


# -- help, info, train-parent ----------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"  napari-osvos {verb}" in capsys.readouterr().out


def test_help_of_settings_comes_from_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    main(["segment", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "preview|fast|balanced|best|published" in words
    default = FineTuneConfig().largest_zoom
    assert f"frames are enlarged at most by this factor (1 to 16; default: {default})" in words


def test_the_examples_of_the_help_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    for verb in VERBS:
        main([verb, "--help"])
        examples = re.findall(rf"^  napari-osvos ({verb} .+?)(?:\s+#.*)?$", capsys.readouterr().out, re.MULTILINE)
        assert examples
        for example in examples:
            assert parser.parse_args(example.split()).verb == verb


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from napari_osvos.cli import main; main(['segment', '--help']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_info_names_versions_and_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("torch", "device", "threads", "bfloat16", "parents"):
        assert word in said


def test_info_of_a_file(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(toy.parent)]) == 0
    assert "kind: parent" in capsys.readouterr().out
    assert main(["info", str(toy.movie)]) == 2
    assert "not a file of napari-osvos" in _error(capsys)


def test_train_parent_from_stills_and_a_sequence(toy: ToyFiles, tmp_path: Path) -> None:
    stills = tmp_path / "stills" / "discs"
    for kind in ("images", "labels"):
        (stills / kind).mkdir(parents=True)
    for t, (frame, labels) in enumerate(zip(tifffile.imread(toy.movie), tifffile.imread(toy.truth), strict=True)):
        tifffile.imwrite(stills / "images" / f"{t}.tif", frame)
        tifffile.imwrite(stills / "labels" / f"{t}.tif", labels)
    folder, report = tmp_path / "parent", tmp_path / "report.json"
    words = ["train-parent", tmp_path / "stills", "--sequence", f"{toy.movie}:{toy.truth}", "-o", folder]
    recipe = ["--network", "tiny", "--steps", "4", "--crops", "2", "--crop-size", "32", "--simulated-share", "0"]
    assert main([*map(str, words), *recipe, "--checkpoint-every", "2", "--json", str(report)]) == 0
    facts = json.loads(report.read_text())
    assert facts["steps"] == 4
    assert list(facts["images"].values()) == [4, 4]
    assert main(["info", str(folder / "parent.safetensors")]) == 0
    assert main(_segment(toy, "--parent", folder / "parent.safetensors")) == 0


def test_train_parent_overwrites_nothing_without_force(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    folder = toy.folder / "parent"
    folder.mkdir()
    words = ["train-parent", "--sequence", f"{toy.movie}:{toy.truth}", "-o", str(folder), "--quiet"]
    words += ["--network", "tiny", "--steps", "2", "--crops", "1", "--crop-size", "32", "--simulated-share", "0"]
    for name in ("parent.safetensors", "log.csv", "loss.png"):
        (folder / name).write_text("precious")
        assert main(words) == 2
        assert f"{folder / name} exists already; choose another -o or add --force to overwrite it." in _error(capsys)
        assert {path.name: path.read_text() for path in folder.iterdir()} == {name: "precious"}
        (folder / name).unlink()
    (folder / "log.csv").write_text("precious")
    assert main([*words, "--force"]) == 0
    assert main(words) == 0  # its own files are gone on with
    other = [word.replace(str(toy.truth), str(toy.painted)) for word in words]
    assert main(other) == 2
    assert "checkpoint.safetensors was trained on 4 annotated images; this run has 1." in _error(capsys)


def test_train_parent_wants_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-parent", "-o", str(tmp_path / "parent")]) == 2
    assert "There is nothing to train on" in _error(capsys)


# -- progress, interruption ------------------------------------------------------------------


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    terminal, file, quiet = _Terminal(), io.StringIO(), io.StringIO()
    for console in (Console(errors=terminal), Console(errors=file, interval=0), Console(True, errors=quiet)):
        with console.progress("fine-tuning", 3) as advance:
            for step in (1, 2, 3):
                advance(step, 3, "loss 0.5")
    assert "3/3" in terminal.getvalue()
    assert re.fullmatch(r"fine-tuning 1/3, loss 0\.5\nfine-tuning 2/3, loss 0\.5, \d+\.\d s left\n", file.getvalue())
    assert quiet.getvalue() == ""


def test_the_time_left_is_that_of_what_was_done_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((0.0, 60.0, 62.0, 64.0))
    monkeypatch.setattr("napari_osvos.cli.console.time", SimpleNamespace(monotonic=lambda: next(now)))
    file = io.StringIO()
    with Console(errors=file, interval=0).progress("training", 500) as advance:
        for step in (401, 402, 403):  # goes on from a checkpoint, and its first step took a minute
            advance(step, 500)
    assert file.getvalue().splitlines() == ["training 401/500", "training 402/500, 3 min 16 s left",
                                            "training 403/500, 3 min 14 s left"]  # fmt: skip


def test_durations_in_words() -> None:
    assert [duration(s) for s in (8.34, 59.99, 245, 7800)] == ["8.3 s", "60.0 s", "4 min 05 s", "2 h 10 min"]


def _interrupt_at(words: list[str], said: str, folder: Path) -> tuple[int, str]:
    """Run the command line, press Ctrl+C when it says so, and return the exit code and what it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "napari_osvos", *words], stderr=subprocess.PIPE, text=True, cwd=folder
    ) as running:
        watchdog = threading.Timer(240, running.kill)
        watchdog.start()
        assert running.stderr is not None
        heard = []
        for line in running.stderr:
            heard.append(line)
            if line.startswith(said):
                running.send_signal(signal.SIGINT)
                break
        heard += running.stderr.readlines()
        code = running.wait()
        watchdog.cancel()
    return code, "".join(heard)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_keeps_what_was_learned(toy: ToyFiles) -> None:
    code, said = _interrupt_at(_segment(toy, "--save", "kept.osvos", "--seconds", "60"), "fine-tuning", toy.folder)
    assert code == 130
    assert "Traceback" not in said
    assert re.search(r"napari-osvos: stopped\. What was learned in \d+ steps is in kept\.osvos; --continue", said)
    assert Segmenter.load(toy.folder / "kept.osvos").provenance["steps"] > 0
    assert not (toy.folder / "labels.tif").exists()


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_lets_the_threshold_be_fitted_unless_pressed_twice(
    toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], presses: int
) -> None:
    @contextmanager
    def pressing(*_: object) -> Iterator[Callable[..., None]]:
        def advance(done: int, *_: object) -> None:
            for _press in range(presses if done == 3 else 0):
                signal.raise_signal(signal.SIGINT)

        yield advance

    fitted = []
    fit = finetune.look_back
    monkeypatch.setattr(finetune, "look_back", lambda *given: fitted.append(True) or fit(*given))
    monkeypatch.setattr(Console, "progress", pressing)
    before = signal.getsignal(signal.SIGINT)
    saved = toy.folder / "kept.osvos"
    assert main(_segment(toy, "--save", saved)) == 130
    assert (
        f"stopped. What was learned in 3 steps is in {saved}; --continue {saved} goes on from it."
        in capsys.readouterr().err
    )
    assert fitted == [True] * (presses == 1)
    assert Segmenter.load(saved).provenance["steps"] == 3
    assert signal.getsignal(signal.SIGINT) is before
    assert not (toy.folder / "labels.tif").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_keeps_the_frames_that_are_finished(toy: ToyFiles) -> None:
    saved = toy.folder / "toy.osvos"
    start = ["-a", str(toy.painted), "--parent", str(toy.parent), *QUICK]
    assert main(["fine-tune", str(toy.movie), *start, "-o", str(saved)]) == 0
    frames = np.broadcast_to(tifffile.imread(toy.movie)[:1], (10_000, 40, 56))
    np.save(toy.folder / "long.npy", frames)
    code, said = _interrupt_at(["predict", str(saved), "long.npy", "-o", "labels.tif"], "predicting", toy.folder)
    assert code == 130
    n_finished = len(FrameStore(toy.folder / "unfinished-labels.tif.zarr").finished)
    sentence = (
        f"{n_finished} of 10000 frames were finished, in unfinished-labels.tif.zarr; the same command goes on from"
    )
    assert f"napari-osvos: stopped. {sentence} there.\n" in said
    assert 0 < n_finished < 10_000
    assert not (toy.folder / "labels.tif").exists()


# -- small parts -----------------------------------------------------------------------------


def test_frame_numbers() -> None:
    assert frame_numbers("0,40") == (0, 40)
    assert frame_numbers("3, 10-12,11") == (3, 10, 11, 12)


def test_settings_come_from_options_or_the_config() -> None:
    given = argparse.Namespace(quality="fast", crops=8, movie="x")
    assert settings_of(given, FineTuneConfig) == FineTuneConfig(quality="fast", crops=8)
    assert settings_of(given, FineTuneConfig, FineTuneConfig(seed=3)).seed == 3


def test_replacing_leaves_nothing_behind_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")

    def fail_halfway() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_peak_memory_is_of_this_process_alone() -> None:
    ballast = np.ones(200_000_000, np.uint8)
    code = "from napari_osvos.machine import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    own = peak_memory()
    assert own is not None
    assert own > len(ballast) > child
