"""Overlay movies: decoded again, they have the right frames, size and colours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from linked_toys import LINEAGE, toy_clip, toy_labels, toy_stack
from PIL import Image

from napari_osvos.clip import Clip
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.overlay import OBJECTS
from napari_osvos.overlay_movie import check_overlay_movie, overlay_pictures, write_overlay_movie

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the extra 'video' is not installed")


def frames_of(path: Path) -> list[np.ndarray]:
    if path.suffix == ".gif":
        with Image.open(path) as picture:
            frames = []
            for t in range(picture.n_frames):
                picture.seek(t)
                frames.append(np.asarray(picture.convert("RGB")))
        return frames
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def has(picture: np.ndarray, id: int) -> int:
    """Pixels that have exactly the colour of an id."""
    return int((picture == OBJECTS[(id - 1) % len(OBJECTS)]).all(axis=-1).sum())


def ending(name: str) -> object:
    return pytest.param(name, marks=[needs_av] if name == ".mp4" else [])


@pytest.mark.parametrize("suffix", [ending(".mp4"), ending(".gif")])
def test_a_movie_decodes_to_its_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    done: list[tuple[int, int]] = []
    write_overlay_movie(path, toy_labels(), LINEAGE, toy_clip(), progress=lambda *at: done.append(at))
    frames = frames_of(path)
    assert len(frames) == 5
    assert {frame.shape for frame in frames} == {(4 * 51, 10 * 51 + (510 % 2), 3)}  # enlarged by 512 // 10
    assert done == [(t, 5) for t in range(1, 6)]
    assert list(tmp_path.iterdir()) == [path]
    expected = list(overlay_pictures(toy_labels(), LINEAGE, toy_clip()))
    for frame, picture in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(int) - picture).mean() < 3


@needs_av
@pytest.mark.parametrize("size", [(77, 99), (1, 700), (601, 2)])
def test_edges_of_a_video_are_made_even(tmp_path: Path, size: tuple[int, int]) -> None:
    labels = Labels(np.ones((2, *size), int))
    write_overlay_movie(tmp_path / "a.mp4", labels, Lineage([Track(1, 0, 1)]), Clip(np.zeros((2, *size)), "TYX"))
    (plain, *_) = overlay_pictures(labels, Lineage([Track(1, 0, 1)]), Clip(np.zeros((2, *size)), "TYX"))
    height, width = plain.shape[:2]
    frames = frames_of(tmp_path / "a.mp4")
    assert [frame.shape for frame in frames] == [(height + height % 2, width + width % 2, 3)] * 2


def test_an_id_keeps_its_colour_and_hidden_objects_have_none() -> None:
    pictures = list(overlay_pictures(toy_labels(), LINEAGE, toy_clip()))
    assert [has(picture, 1) > 0 for picture in pictures] == [True, True, False, True, True]
    assert [has(picture, 2) > 0 for picture in pictures] == [True, True, False, False, False]
    # a square of 102 pixels at two edges of the picture: an outline two wide on the two others
    assert has(pictures[0], 1) == 2 * 102 * 2 - 4


def test_only_the_outline_is_coloured_and_the_frame_number_is_written() -> None:
    frames = np.zeros((1, 100, 100), int)
    frames[0, 20:60, 20:60] = 1
    (picture,) = overlay_pictures(Labels(frames), Lineage([Track(1, 0, 0)]), Clip(frames))
    assert picture.shape == (500, 500, 3)
    assert has(picture, 1) == 4 * 2 * (200 - 2)
    assert (picture[110:290, 110:290] == 255).all()
    assert (picture[450:, :120] == 255).all(axis=-1).any()
    assert not picture[450:, 300:].any()


def test_large_frames_are_reduced_and_stay_in_step() -> None:
    frames = np.zeros((1, 300, 900), int)
    frames[0, 150:, 450:] = 1
    clip = Clip(frames)
    (picture,) = overlay_pictures(Labels(frames), Lineage([Track(1, 0, 0)]), clip, longest_edge=300)
    assert picture.shape == (100, 300, 3)
    assert has(picture, 1) == 150 + 50 - 1
    assert (picture[60:80, 170:] == 255).all()


def test_of_a_stack_the_brightest_is_shown_and_all_objects() -> None:
    stack, lineage, clip = toy_stack()
    first, second = overlay_pictures(stack, lineage, clip)
    assert first.shape == (4 * 102, 5 * 102, 3)
    assert has(first, 5) > 0
    assert first[204, 102].tolist() == [255] * 3
    assert second[204, 40].tolist() == [0] * 3


def test_ids_are_written_where_asked() -> None:
    frames = np.zeros((1, 100, 100), int)
    frames[0, 20:60, 20:60] = 1
    movie = (Labels(frames), Lineage([Track(1, 0, 0)]), Clip(np.ones((1, 100, 100))))
    (plain,), (told,) = (overlay_pictures(*movie, show_ids=ids) for ids in (False, True))
    different = np.argwhere((plain != told).any(axis=-1))
    assert len(different)
    assert (abs(different.mean(axis=0) - 200) < 5).all()


def test_colour_and_pixels_without_number_do() -> None:
    frames = np.random.default_rng(0).random((2, 80, 80, 3))
    frames[0, :40] = np.nan
    pictures = list(overlay_pictures(Labels(np.zeros((2, 80, 80), int)), Lineage(), Clip(frames, "TYXC")))
    assert not pictures[0][:200].any()
    assert pictures[1].any()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [ending(".mp4"), ending(".gif")])
def test_a_movie_without_objects_is_written(tmp_path: Path, suffix: str, channels: int) -> None:
    clip = Clip(np.zeros((3, 64, 64, channels), np.uint8), "TYXC")
    write_overlay_movie(tmp_path / f"a{suffix}", Labels(np.zeros((3, 64, 64), int)), Lineage(), clip)
    assert len(frames_of(tmp_path / f"a{suffix}")) == 3


def test_a_gif_of_grey_frames_has_the_exact_colours_and_the_asked_speed(tmp_path: Path) -> None:
    write_overlay_movie(tmp_path / "a.gif", toy_labels(), LINEAGE, toy_clip(), frames_per_second=4)
    assert has(frames_of(tmp_path / "a.gif")[0], 1) == 2 * 102 * 2 - 4
    with Image.open(tmp_path / "a.gif") as picture:
        assert (picture.info["duration"], picture.info["loop"]) == (250, 0)


def test_without_the_extra_a_video_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        ValueError, match=r'a.mp4 needs one more package: pip install "napari-osvos\[video\]"; or export'
    ):
        check_overlay_movie(tmp_path / "a.mp4")
    check_overlay_movie(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"frames_per_second": 0}, "The speed is 0 frames per second; it must be above 0 and at most 50"),
        ({"longest_edge": 5}, "The longest edge is 5 pixels; it must be at least 64"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path: Path, options: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        write_overlay_movie(tmp_path / "a.gif", toy_labels(), LINEAGE, toy_clip(), **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [ending(".mp4"), ending(".gif")])
def test_an_interrupted_write_leaves_the_old_movie(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    short = Lineage(track for track in LINEAGE.values() if track.id != 9)  # fails in the last frame
    with pytest.raises(ValueError, match="Frame 4 of toy shows the id 9"):
        write_overlay_movie(path, toy_labels(), short, toy_clip(), overwrite=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
