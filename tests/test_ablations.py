"""What takes ours apart: no parent, no fine-tuning, snapping, more frames, other parents; and equal seconds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_rows import finished_row
from PIL import Image
from toy_files import ToyFiles, write_toy_files

from napari_osvos.annotations import Annotations
from napari_osvos.benchmark import run
from napari_osvos.benchmark_cell import measure
from napari_osvos.benchmark_methods import make_method
from napari_osvos.benchmark_movies import BenchmarkMovie
from napari_osvos.benchmark_plan import fingerprint, identify, plan, plan_ablations
from napari_osvos.benchmark_table import read_table, write_table
from napari_osvos.cli import main
from napari_osvos.config import QUALITIES
from napari_osvos.io import read_clip, read_labels
from napari_osvos.parent import ParentNetwork

pytestmark = pytest.mark.slow


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


def test_the_ablations_are_planned_once_each(toy: ToyFiles) -> None:
    movies = [
        BenchmarkMovie("swan", toy.movie, toy.truth),
        BenchmarkMovie("cells", toy.movie, toy.truth, instances=True),
    ]
    cells = plan_ablations(movies, parents=["lite", "vgg16"])
    assert len({identify(cell) for cell in cells}) == len(cells)
    of_swan = Counter((c.method, c.parent) for c in cells if c.movie == "swan" and c.n_annotated == 1)
    assert set(of_swan) == {
        *((quality, "lite") for quality in QUALITIES),
        ("balanced", "vgg16"),
        ("parent-alone", "lite"),
        ("parent-alone", "vgg16"),
        ("neither", "lite"),
        ("balanced-no-parent", "lite"),
        ("balanced-snapped", "lite"),
    }
    assert set(of_swan.values()) == {1}
    more = {(c.method, c.parent, c.n_annotated) for c in cells if c.n_annotated > 1}
    assert more == {("balanced", "lite", n) for n in (2, 3, 4, 5)}
    assert not any(c.instances and c.method.endswith("-snapped") for c in cells)  # nothing to snap there
    with pytest.raises(ValueError, match="'otsu' is no quality"):
        plan_ablations(movies, qualities=["otsu"])


def test_ablations_are_one_command(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    table = toy.folder / "table.csv"
    movie, facts = BenchmarkMovie("movie", toy.movie, toy.truth), {"device": "cpu", "threads": 1, "steps": 1}
    planned = plan_ablations([movie], qualities=["fast"], parents=[str(toy.parent)], counts=[1, 2], **facts)
    # an earlier run ended before the last two kinds; each measurement takes seconds for a process of its own
    before = [cell for cell in planned if cell.method not in ("parent-alone", "fast-snapped")]
    write_table(table, [finished_row(cell) for cell in before])
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--threads", "1", "--device", "cpu"]
    words += ["--parents", str(toy.parent), "--steps", "1", "--ablations", "--methods", "fast", "--frames", "1,2"]
    assert main(words) == 0, capsys.readouterr().err
    rows = read_table(table)
    assert [row["method"] for row in rows if row["version"] != "0"] == ["parent-alone", "fast-snapped"]
    found = {(row["method"], row["n_annotated"]) for row in rows}
    assert found == {
        *((quality, "1") for quality in QUALITIES),
        ("fast-no-parent", "1"),
        ("fast-snapped", "1"),
        ("parent-alone", "1"),
        ("neither", "1"),
        ("fast", "2"),
    }


def _write_stills(folder: Path, n: int) -> Path:
    for part, scale in (("images", 9), ("labels", 1)):
        (folder / part).mkdir(parents=True)
        for i in range(n):
            y, x = np.mgrid[:64, :64]
            disc = (y - 20 - 6 * i) ** 2 + (x - 32) ** 2 <= 100
            Image.fromarray((disc * scale * 20).astype(np.uint8)).save(folder / part / f"{i}.png")
    return folder


def test_parents_from_fewer_images_are_trained_by_the_same_command(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    table, stills = toy.folder / "table.csv", _write_stills(toy.folder / "stills", 3)
    movie, facts = BenchmarkMovie("movie", toy.movie, toy.truth), {"device": "cpu", "threads": 1, "steps": 1}
    # what has to do with another parent was measured before; each measurement takes seconds for a process of its own
    before = plan_ablations([movie], qualities=["fast"], parents=[str(toy.parent)], counts=[1], **facts)
    write_table(table, [finished_row(cell) for cell in before])
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--threads", "1", "--device", "cpu"]
    words += ["--parents", str(toy.parent), "--steps", "1", "--ablations", "--methods", "fast", "--frames", "1"]
    words += ["--train-on", str(stills), "--parent-network", "tiny", "--parent-steps", "2"]
    assert main([*words, "--parent-images", "2,5,all"]) == 2
    assert "--images is 5, and there are 3 images with labels" in capsys.readouterr().err
    assert not list((toy.folder / "table_parents").rglob("*.safetensors"))

    words += ["--parent-images", "2,all"]
    assert main(words) == 0, capsys.readouterr().err
    files = {n: toy.folder / "table_parents" / f"parent-{n}" / "parent.safetensors" for n in ("2", "all")}
    cards = {n: ParentNetwork.load(file).card for n, file in files.items()}
    assert {n: card["images"] for n, card in cards.items()} == {"2": {"stills": 2}, "all": {"stills": 3}}
    recipes = [card["recipe"] | {"images": None} for card in cards.values()]
    assert recipes[0] == recipes[1]
    assert (recipes[0]["network"], recipes[0]["steps"], recipes[0]["simulated_share"]) == ("tiny", 2, 0.0)
    new = {(row["method"], row["parent"]) for row in read_table(table) if row["version"] != "0"}
    assert new == {(method, str(file)) for method in ("parent-alone", "fast") for file in files.values()}

    capsys.readouterr()
    trained = {n: file.read_bytes() for n, file in files.items()}
    assert main([*words, "--quiet"]) == 0  # nothing is trained or measured again
    assert {n: file.read_bytes() for n, file in files.items()} == trained


def test_options_of_parents_that_have_no_say_are_refused(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(toy.folder / "table.csv")]
    for more, sentence in (
        (["--ablations", "--parent-steps", "9"], "--parent-steps has a say only with --train-on; name that, too."),
        (["--train-on", "stills"], "--train-on has a say only with --ablations; name that, too."),
        (["--parent-images", "10,few"], "'10,few' is no list of numbers of images; write for example 100,200,all"),
    ):
        assert main([*words, *more]) == 2
        assert sentence in capsys.readouterr().err


def test_neither_takes_nothing_of_the_parent(toy: ToyFiles) -> None:
    movie, parents = BenchmarkMovie("movie", toy.movie, toy.truth), [str(toy.parent)]
    cells = plan([movie], methods=["neither"], parents=parents, counts=[1], seeds=[0, 1])
    one, other = (make_method(cell)[0] for cell in cells)
    clip = read_clip(toy.movie)
    annotations = Annotations.from_labels(read_labels(toy.truth), frames=[0]).aligned_to(clip)
    for method in (one, other):
        method.fit(clip, annotations)
    parent = ParentNetwork.load(toy.parent).net.state_dict()
    weights = [method.segmenter.net.state_dict() for method in (one, other)]
    assert not any(torch.equal(weights[0][k], parent[k]) for k in parent if parent[k].ndim == 4)
    assert not any(torch.equal(weights[0][k], weights[1][k]) for k in parent if parent[k].ndim == 4)


def test_the_longest_schedule_of_the_paper_is_a_method(toy: ToyFiles) -> None:
    movie = BenchmarkMovie("movie", toy.movie, toy.truth)
    (cell,) = plan([movie], methods=["published-2000x5"], parents=[str(toy.parent)], counts=[1])
    config = make_method(cell)[0]._tuner.config
    assert (config.quality, config.planned_steps(), config.passes) == ("published", 2000, 5)


@pytest.mark.parametrize("instances", [False, True])
def test_the_parent_is_applied_as_it_is(toy: ToyFiles, instances: bool) -> None:
    movie = BenchmarkMovie("toy", toy.movie, toy.truth, instances=instances)
    cells = plan([movie], methods=["parent-alone"], parents=[str(toy.parent)], counts=[1], seeds=[0, 1], steps=3)
    (cell,) = cells  # no step and no seed has a say in it
    measured = measure(cell)
    assert measured["updates"] is None
    assert 0 <= measured["J"] <= 1


def test_a_parent_trained_at_the_scale_of_its_images_is_applied_at_that(toy: ToyFiles) -> None:
    parent = ParentNetwork.load(toy.parent)
    for schedule, same in (("published", True), ("crops", False)):
        parent.card["recipe"] = {"schedule": schedule}
        path = toy.folder / f"{schedule}.safetensors"
        parent.save(path)
        movie = BenchmarkMovie("toy", toy.movie, toy.truth)
        (cell,) = plan([movie], methods=["parent-alone"], parents=[str(path)], counts=[1], device="cpu")
        method, _ = make_method(cell)
        clip = read_clip(toy.movie)
        method.fit(clip, Annotations.from_labels(read_labels(toy.truth), frames=[0]).aligned_to(clip))
        assert (method.segmenter.zoom == 1) == same


def test_a_unet_gets_the_seconds_that_ours_took(toy: ToyFiles) -> None:
    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    settings = {"parents": [str(toy.parent)], "counts": [1], "device": "cpu", "steps": 4}
    alone = plan([movie], methods=["unet-same-seconds"], **settings)
    ((_, refused),) = run(alone, toy.folder / "table.csv")
    assert isinstance(refused, RuntimeError)
    assert "needs the seconds of 'balanced'" in str(refused)

    cells = plan([movie], methods=["unet-same-seconds", "balanced"], **settings)
    assert [cell.method for cell in cells] == ["balanced", "unet-same-seconds"]
    rows = [row for _, row in run(cells, toy.folder / "table.csv") if isinstance(row, dict)]
    ours, unet = rows
    assert (ours["updates"], unet["parent"]) == ("4", "")
    assert int(unet["updates"]) >= 1
    # an update that has begun is ended
    assert float(unet["train_s"]) > 0.9 * float(ours["train_s"])

    before = fingerprint(cells[1])
    toy.parent.write_bytes(b"other weights")
    assert fingerprint(cells[1]) != before  # other weights of ours take other seconds
