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
from toy_files import QUICK, ToyFiles, error_line, segment_words, write_toy_files

from napari_osvos import NetworkConfig, ParentNetwork, Segmenter, finetune, read_labels, write_labels
from napari_osvos.cli import build_parser, main
from napari_osvos.cli.console import Console, duration
from napari_osvos.cli.options import frame_numbers, settings_of
from napari_osvos.config import FineTuneConfig
from napari_osvos.frame_store import FrameStore
from napari_osvos.machine import peak_memory, replacing

VERBS = ("segment", "fine-tune", "predict", "suggest", "evaluate", "train-parent", "benchmark", "info", "demo")


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


# -- segment, fine-tune, predict, evaluate ---------------------------------------------------


def test_segment_writes_labels_that_match_the_truth(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    report = toy.folder / "new" / "report.json"
    more = ("--truth", toy.truth, "--json", report, "--save", toy.folder / "toy.osvos")
    assert main(segment_words(toy, *more, "--probabilities", toy.folder / "p.tif")) == 0
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
    assert "--passes 5 can have no effect with --quality fast; leave it out." in error_line(capsys)
    published = ["--quality", "published", "--steps", "1", "--passes", "2"]
    assert main([*words, *published, "--learning-rate", "0.1", "--shares", "1,0,0,0"]) == 2
    told = "--learning-rate 0.1 and --shares 1.0,0.0,0.0,0.0 can have no effect with --quality published; leave them"
    assert told in error_line(capsys)
    assert main([*words, *published]) == 0


def test_snapping_needs_a_network_that_predicts_contours(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    parent = toy.folder / "published.safetensors"
    ParentNetwork.random(NetworkConfig.tiny().replace(heads=("foreground",))).save(parent)
    words = ["segment", toy.movie, "-a", toy.painted, "-o", toy.folder / "labels.tif", "--parent", parent]
    words = [str(word) for word in [*words, "--steps", "2", "--save", toy.folder / "toy.osvos"]]
    assert main([*words, "--quality", "published", "--snap"]) == 2
    assert "Masks cannot be snapped: this network predicts no contours" in error_line(capsys)
    assert not (toy.folder / "toy.osvos").exists()  # said before anything is learned
    assert main([*words, "--quality", "published"]) == 0
    capsys.readouterr()
    words = ["predict", toy.folder / "toy.osvos", toy.movie, "-o", toy.folder / "snapped.tif", "--snap"]
    assert main([str(word) for word in words]) == 2
    assert "Masks cannot be snapped: this network predicts no contours" in error_line(capsys)
    words = ["segment", toy.movie, "-a", toy.painted, "-o", toy.folder / "learned.tif", "--parent", parent, *QUICK]
    assert main([str(word) for word in [*words, "--snap"]]) == 0  # other qualities learn contours


def test_segment_is_fine_tune_then_predict(toy: ToyFiles) -> None:
    assert main(segment_words(toy)) == 0
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
    assert main(segment_words(toy, "--only", "1,3")) == 0
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
    assert main([*words, "--void-label", "2"]) == 0
    assert "| J | 1.000 |" in capsys.readouterr().out


def test_partial_paint_needs_some_background(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(segment_words(toy, "--partial", "0")) == 2
    assert "shows no background" in error_line(capsys)
    painted = np.zeros((4, 40, 56), np.uint16)
    painted[0, 12:24, 8:20] = 1
    painted[0, 30:38, 4:52] = 2
    painted[0, 2:8, 4:52] = 2
    write_labels(toy.painted, painted, overwrite=True)
    scores = toy.folder / "scores.json"
    more = ("--partial", "0", "--background-label", "2", "--truth", toy.truth, "--json", scores)
    assert main(segment_words(toy, *more)) == 0
    assert json.loads(scores.read_text())["scores"]["J"]["mean"] > 0.4


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
    assert "not a file of napari-osvos" in error_line(capsys)


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
    assert main(segment_words(toy, "--parent", folder / "parent.safetensors")) == 0


def test_train_parent_overwrites_nothing_without_force(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    folder = toy.folder / "parent"
    folder.mkdir()
    words = ["train-parent", "--sequence", f"{toy.movie}:{toy.truth}", "-o", str(folder), "--quiet"]
    words += ["--network", "tiny", "--steps", "2", "--crops", "1", "--crop-size", "32", "--simulated-share", "0"]
    for name in ("parent.safetensors", "log.csv", "loss.png"):
        (folder / name).write_text("precious")
        assert main(words) == 2
        assert f"{folder / name} exists already; choose another -o or add --force to overwrite it." in error_line(
            capsys
        )
        assert {path.name: path.read_text() for path in folder.iterdir()} == {name: "precious"}
        (folder / name).unlink()
    (folder / "log.csv").write_text("precious")
    assert main([*words, "--force"]) == 0
    assert main(words) == 0  # its own files are gone on with
    other = [word.replace(str(toy.truth), str(toy.painted)) for word in words]
    assert main(other) == 2
    assert "checkpoint.safetensors was trained on 4 annotated images; this run has 1." in error_line(capsys)


def test_train_parent_wants_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-parent", "-o", str(tmp_path / "parent")]) == 2
    assert "There is nothing to train on" in error_line(capsys)


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
    code, said = _interrupt_at(segment_words(toy, "--save", "kept.osvos", "--seconds", "60"), "fine-tuning", toy.folder)
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
    assert main(segment_words(toy, "--save", saved)) == 130
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
