"""Fine-tuning of a list of movies without a cluster, and what is said of a list or a cluster that is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from toy_files import QUICK, ToyFiles, write_toy_files

from napari_osvos import Segmenter, cluster_tasks
from napari_osvos.cli import main
from napari_osvos.cluster_link import ClusterChoice, address_of


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


def _words(toy: ToyFiles, text: str, *more: str) -> list[str]:
    (toy.folder / "list.csv").write_text(text)
    words = ["fine-tune", "--batch", toy.folder / "list.csv", "-o", toy.folder / "out", "--parent", toy.parent, *QUICK]
    return [*map(str, words), *more]


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-osvos: error: ")]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_movie_that_fails_is_told_and_the_others_are_learned(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "movie,annotations,output,seed\nnone.tif,painted.tif,,\nmovie.tif,painted.tif,,7\n"
    report = toy.folder / "report.json"
    assert main(_words(toy, text, "--json", str(report))) == 1
    assert "none.tif: There is no file or folder" in _error(capsys)
    assert Segmenter.load(toy.folder / "out" / "movie.osvos", "cpu").provenance["annotated_frames"] == [0]
    facts = json.loads(report.read_text())
    assert [(one.get("steps"), one.get("seed")) for one in facts["movies"]] == [(None, None), (30, 7)]
    assert (facts["n_failed"], facts["n_kept"]) == (1, 0)
    again = text.replace("none.tif,painted.tif,,\n", "movie.tif,painted.tif,new.osvos,\n")
    assert main(_words(toy, again, "--json", str(report))) == 0  # goes on, and so does its report
    assert "1 of 2 segmenters are there already" in capsys.readouterr().err
    assert (toy.folder / "new.osvos").exists()
    assert json.loads(report.read_text())["n_kept"] == 1


def test_the_report_of_another_run_is_not_replaced(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    other = toy.folder / "other.json"
    for text in ('{"verb": "fine-tune", "batch": "other.csv"}', "[1]", "no JSON"):
        other.write_text(text)
        assert main(_words(toy, "movie,annotations\nmovie.tif,painted.tif\n", "--json", str(other))) == 2
        assert "other.json exists already, and is no report of this; choose another --json." in _error(capsys)
        assert other.read_text() == text


def test_the_parent_of_a_line_stands_before_what_the_command_continues(toy: ToyFiles) -> None:
    first = toy.folder / "first.osvos"
    words = ["fine-tune", toy.movie, "-a", toy.painted, "--parent", toy.parent, *QUICK, "-o", first]
    assert main([str(word) for word in words]) == 0
    lines = ("movie,annotations,parent,output", f"movie.tif,painted.tif,{toy.parent},new.osvos")
    text = "\n".join((*lines, "movie.tif,painted.tif,,on.osvos"))
    words = _words(toy, text, "--continue", str(first))
    words[words.index("--parent") : words.index("--parent") + 2] = []
    assert main(words) == 0
    continued = {name: Segmenter.load(toy.folder / f"{name}.osvos").provenance["continued"] for name in ("new", "on")}
    assert continued == {"new": False, "on": True}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("movie\nmovie.tif\n", "has no column 'annotations'"),
        ("movie,annotations,colour\n", "has a column 'colour'; allowed are movie, annotations, output,"),
        ("movie,annotations\n\n", "names no movie."),
        ("movie,annotations\nmovie.tif,\n", "line 2: annotations is empty."),
        ("movie,annotations\nmovie.tif,painted.tif,1\n", "line 2: there are 3 cells under 2 columns."),
        ("movie,annotations,seed\nmovie.tif,painted.tif,x\n", "line 2: argument --seed: invalid int value: 'x'"),
        ("movie,annotations,output\nmovie.tif,painted.tif,a.tif\n", "a.tif must end in .osvos."),
        ("movie,annotations\nmovie.tif,painted.tif\nmovie.tif,painted.tif\n", "would both be kept as"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_before_anything_is_learned(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    assert main(_words(toy, text)) == 2
    assert sentence in _error(capsys)
    assert not (toy.folder / "out").exists()


def test_a_list_and_a_movie_are_not_given_together(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*_words(toy, "movie,annotations\n"), "-a", str(toy.painted)]) == 2
    assert "not both" in _error(capsys)
    assert main(["fine-tune", "-o", str(toy.folder / "out.osvos")]) == 2
    assert "Give MOVIE and -a LABELS, or --batch LIST.csv" in _error(capsys)


def test_one_movie_is_not_learned_by_a_cluster(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fine-tune", toy.movie, "-a", toy.painted, "-o", toy.folder / "out.osvos", "--workers", "2"]
    assert main(list(map(str, words))) == 2
    assert "go with --batch" in _error(capsys)


def test_without_dask_distributed_one_sentence_says_how_to_install_it(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(_words(toy, "movie,annotations\nmovie.tif,painted.tif\n", "--workers", "2")) == 2
    assert "pip install 'napari-osvos[cluster]'" in _error(capsys)


@pytest.mark.parametrize("address", ["node seven", "node7", "http://node7:80", "tcp://node7"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=f"The scheduler is '{address}'; give its address"):
        address_of(address)


@pytest.mark.parametrize(
    ("address", "full"),
    [
        ("node7:8786", "tcp://node7:8786"),
        ("tls://10.0.0.7:1", "tls://10.0.0.7:1"),
        ("tcp://[::1]:8786", "tcp://[::1]:8786"),
    ],
)
def test_addresses_are_taken_as_dask_writes_them(address: str, full: str) -> None:
    assert address_of(address) == full


def test_a_scheduler_file_without_an_address_and_missing_certificates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(ValueError, match="file.json is no file of a dask scheduler"):
        ClusterChoice(str(tmp_path / "file.json"))
    with pytest.raises(ValueError, match=r"tcp://node7:1; certificates and keys go with an address .* tls://"):
        ClusterChoice("tcp://node7:1", tls_ca=tmp_path / "file.json")
    with pytest.raises(FileNotFoundError, match="There is no file .*ca.pem"):
        ClusterChoice("tls://node7:1", tls_ca=tmp_path / "ca.pem")


@pytest.mark.parametrize("cluster", [[], ["--scheduler", "node7:8786"], ["--workers", "2"]])
def test_options_of_a_cluster_want_the_cluster_that_they_are_for(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str], cluster: list[str]
) -> None:
    for option, wanted in ((["--dashboard"], "--workers"), (["--tls-ca", "ca.pem"], "--scheduler")):
        if wanted not in cluster:
            assert main(_words(toy, "movie,annotations\nmovie.tif,painted.tif\n", *cluster, *option)) == 2
            assert f"{option[0]} goes with {wanted}; add it." in _error(capsys)


@pytest.mark.parametrize(
    ("device", "worker", "expected"),
    [
        ("auto", 5, "cuda:1"),
        ("cuda", "2", "cuda:2"),
        ("auto", "tcp://n:1", "cuda"),
        ("cuda:3", 0, "cuda:3"),
        ("cpu", 1, "cpu"),
    ],
)
def test_workers_of_several_gpus_take_turns(
    monkeypatch: pytest.MonkeyPatch, device: str, worker: object, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(cluster_tasks, "resolve_device", lambda name: torch.device("cuda" if name == "auto" else name))
    assert cluster_tasks.device_of(device, worker) == torch.device(expected)
