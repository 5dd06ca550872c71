"""A folder of pictures as DAVIS has it: written, read back, scored, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from linked_toys import LINEAGE, toy_frames, toy_labels, toy_stack
from PIL import Image

from napari_osvos.davis_folder import davis_palette
from napari_osvos.exporting import check_export, export
from napari_osvos.io import read_labels
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.metrics import region_similarity


def test_each_frame_is_a_picture_whose_indices_are_the_labels(tmp_path: Path) -> None:
    path = export(f"davis:{tmp_path / 'results' / 'bear'}", toy_labels(), LINEAGE)
    assert sorted(p.name for p in path.iterdir()) == [f"0000{t}.png" for t in range(5)]
    for t, truth in enumerate(toy_frames()):
        with Image.open(path / f"0000{t}.png") as picture:  # as the evaluation code reads it
            assert picture.mode == "P"
            np.testing.assert_array_equal(np.array(picture), truth)
            colours = np.array(picture.convert("RGB"))
        np.testing.assert_array_equal(colours, davis_palette()[truth])
    found = read_labels(path)
    np.testing.assert_array_equal(found, toy_frames())
    assert region_similarity(found.frame(0), toy_frames()[0]) == 1


def test_the_palette_is_that_of_davis() -> None:
    palette = davis_palette()
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [tuple(colour) for colour in palette[:7].tolist()] == first
    later = {9: (191, 0, 0), 15: (191, 128, 128), 19: (128, 191, 0), 21: (128, 64, 128), 22: (22, 22, 22)}
    assert {label: tuple(palette[label].tolist()) for label in later} == later
    assert palette.shape == (256, 3)


def test_names_are_frame_numbers(tmp_path: Path) -> None:
    labels = Labels(toy_frames()[:2], frame_numbers=(7, 12))
    export(f"davis:{tmp_path / 'bear'}", labels, Lineage([Track(1, 7, 12), Track(2, 7, 12)]))
    assert sorted(p.name for p in (tmp_path / "bear").iterdir()) == ["00007.png", "00012.png"]
    assert read_labels(tmp_path / "bear").frame_numbers == (7, 12)


def test_only_folders_of_the_kind_are_replaced_and_only_if_asked(tmp_path: Path) -> None:
    name = f"davis:{tmp_path / 'bear'}"
    export(name, toy_labels(), LINEAGE)
    with pytest.raises(FileExistsError, match="bear exists; choose another name or allow overwriting it"):
        check_export(name)
    export(name, Labels(toy_frames()[:1]), Lineage([Track(1, 0, 0), Track(2, 0, 0)]), overwrite=True)
    assert [p.name for p in (tmp_path / "bear").iterdir()] == ["00000.png"]
    (tmp_path / "bear" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"bear holds notes.txt, which no exported folder does"):
        check_export(name, overwrite=True)
    with pytest.raises(ValueError, match="is a file, which a folder never replaces"):
        check_export(f"davis:{tmp_path / 'bear' / 'notes.txt'}", overwrite=True)


def test_what_davis_cannot_hold_is_refused(tmp_path: Path) -> None:
    labels, lineage, _ = toy_stack()
    with pytest.raises(ValueError, match="cannot hold stack: DAVIS has no stacks"):
        export(f"davis:{tmp_path / 'a'}", labels, lineage)
    frames = np.where(toy_frames()[:1] > 0, 255, 0)
    with pytest.raises(ValueError, match="cannot hold the id 255: DAVIS has no labels above 254"):
        export(f"davis:{tmp_path / 'a'}", Labels(frames), Lineage([Track(255, 0, 0)]))
    assert not any(tmp_path.iterdir())
