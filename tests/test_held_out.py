"""Paint that is held out: which, how blocks are scored (by hand), and that fine-tuning does not see it at first."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy_clip import VARIED, quick, tiny_parent, toy_clip

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.finetune import RELEASE, FineTuner
from napari_osvos.held_out import SHARE, HeldOut, HeldOutScore, hold_out, score_held_out
from napari_osvos.painted_plane import PaintedPlane
from napari_osvos.sampling import Source
from napari_osvos.segmenter import Segmenter


def _discs(n: int = 6, spacing: int = 40) -> np.ndarray:
    """Labels (Y, X) of n x n discs of 20 px."""
    edge = n * spacing
    y, x = np.mgrid[:edge, :edge]
    inside = (y % spacing - spacing // 2) ** 2 + (x % spacing - spacing // 2) ** 2 <= 100
    return np.where(inside, y // spacing * n + x // spacing + 1, 0).astype(np.int32)


def _plane(labels: np.ndarray, frame: int = 0, partial: bool = False) -> PaintedPlane:
    return PaintedPlane(labels[..., None], labels, np.ones(labels.shape, bool), partial, frame)


# -- choosing --------------------------------------------------------------------------------------


def test_of_one_frame_some_blocks_are_held_out_and_most_paint_is_left() -> None:
    labels = _discs()
    held = hold_out([_plane(labels)], 20.0, 0, names=[12])
    assert held is not None
    share = (labels[held.areas[0]] > 0).sum() / (labels > 0).sum()
    assert 0.3 * SHARE < share <= SHARE
    assert held.source.endswith("blocks of frame 12")
    assert ((held.blocks[0] > 0) == held.areas[0]).all()
    assert not hold_out([_plane(labels)], 20.0, 0).areas[0][labels.shape[0] :].any()  # type: ignore[union-attr]


def test_the_seed_chooses_the_blocks() -> None:
    areas = [hold_out([_plane(_discs())], 20.0, seed).areas[0] for seed in (0, 0, 1)]  # type: ignore[union-attr]
    assert (areas[0] == areas[1]).all()
    assert (areas[0] != areas[2]).any()


def test_from_three_frames_on_a_whole_one_between_others_is_held_out() -> None:
    planes = [_plane(_discs(), frame) for frame in (3, 8, 20)]
    held = hold_out(planes, 20.0, 0)
    assert held is not None
    assert held.source == "frame 8"
    assert [bool(area.all()) for area in held.areas] == [False, True, False]
    assert not held.areas[0].any()


def test_frames_that_are_partial_are_not_held_out_whole() -> None:
    planes = [_plane(_discs(), 0), _plane(_discs(), 1, partial=True), _plane(_discs(), 2)]
    held = hold_out(planes, 20.0, 0)
    assert held is not None
    assert "blocks of frames 0 and 1 and 2" in held.source


def test_too_little_paint_is_not_held_out() -> None:
    labels = np.zeros((200, 200), np.int32)
    labels[5:15, 5:15] = 1
    assert hold_out([_plane(labels)], 10.0, 0) is None


@pytest.mark.parametrize("partial", [False, True])
def test_where_a_block_holds_all_of_a_plane_most_planes_are_left(partial: bool) -> None:
    y, x = np.ogrid[:512, :512]
    for centre in (40, 80, 120, 200):
        labels = ((y - centre) ** 2 + (x - centre) ** 2 <= 400).astype(np.int32)
        frames = range(5) if partial else [0] * 5  # frames in part, or slices of a stack
        planes = [_plane(labels, frame, partial) for frame in frames]
        for seed in range(5):
            held = hold_out(planes, 40.0, seed)
            if held is not None:
                hidden = sum(int(labels[area].sum()) for area in held.areas)
                assert hidden <= 0.25 * 5 * labels.sum()


def test_of_each_class_most_paint_is_left() -> None:
    labels = np.where(_discs() > 0, 1, 0)
    labels[:40, :40] *= 2  # a single disc of the second class
    for seed in range(20):
        held = hold_out([_plane(labels)], 20.0, seed, classes=[1, 2])
        assert held is not None
        assert 4 * ((labels == 2) & held.areas[0]).sum() <= (labels == 2).sum()


def test_what_is_not_known_is_not_held_out() -> None:
    labels = _discs(10)
    known = np.zeros(labels.shape, bool)
    known[:, :200] = True
    held = hold_out([PaintedPlane(labels[..., None], labels, known)], 20.0, 0)
    assert held is not None
    assert not held.areas[0][:, 200:].any()


# -- scoring ---------------------------------------------------------------------------------------


def test_blocks_are_scored_by_pixels_and_objects_counted_by_hand() -> None:
    """Two blocks side by side: in the left an object is found but for one column, in the right one is found in vain."""
    labels = np.zeros((4, 8), np.int32)
    labels[1:3, 0:3] = 5
    found = np.zeros((4, 8), np.int32)
    found[1:3, 0:2] = 1
    found[0:2, 6:8] = 2
    probability = np.where(found > 0, 0.75, 0.25).astype(np.float32)
    blocks = np.repeat([[1] * 4 + [2] * 4], 4, 0).astype(np.int32)
    held = HeldOut((blocks > 0,), (blocks,), "2 blocks of frame 0")
    score = score_held_out(held, [_plane(labels)], [(probability, found)], 0.5, objects=True)
    assert score.overlap == (4, 0)
    assert score.union == (6, 4)
    assert score.expected_overlap == (3, 3)  # 4 pixels at 0.75
    assert score.expected_union == (4 + 12 * 0.25, 4 + 12 * 0.25)
    assert (score.matched, score.found, score.wanted) == ((1, 0), (1, 1), (1, 0))
    assert HeldOutScore.from_dict(json.loads(json.dumps(score.to_dict()))) == score
    assert HeldOutScore.of({"held_out": score.to_dict()}) == score
    assert HeldOutScore.of({}) is None


def test_an_object_belongs_to_the_block_that_holds_most_of_it() -> None:
    labels = np.zeros((2, 8), np.int32)
    labels[:, 2:7] = 1  # 2 columns in the left block, 3 in the right
    blocks = np.repeat([[1] * 4 + [2] * 4], 2, 0).astype(np.int32)
    held = HeldOut((blocks > 0,), (blocks,), "")
    score = score_held_out(held, [_plane(labels)], [((labels > 0).astype(np.float32), labels)], 0.5, objects=True)
    assert (score.matched, score.wanted) == ((0, 1), (0, 1))
    alone = score_held_out(held, [_plane(labels)], [((labels > 0).astype(np.float32), labels)], 0.5, objects=False)
    assert (alone.matched, alone.found, alone.wanted) == ((), (), ())


# -- in fine-tuning --------------------------------------------------------------------------------


def test_held_out_paint_has_no_say_until_it_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = _discs(3, 30)
    clip = Clip((60 + 120 * (labels > 0))[None].astype(np.uint8))
    annotations = Annotations.from_labels(labels[None])
    seen: list[int] = []
    known: list[int] = []
    monkeypatch.setattr(Source, "take_errors_of", lambda self, other: seen.append(1))
    plain = Source.__init__

    def noting(self: Source, *given: object, **more: object) -> None:
        plain(self, *given, **more)  # type: ignore[arg-type]
        known.append(int(self.targets[2].sum()))

    monkeypatch.setattr(Source, "__init__", noting)
    tuner = FineTuner(tiny_parent(), quick(steps=10, task="look-alike", quality="fast"), device="cpu", augment=VARIED)
    for step in tuner.steps(clip, annotations):
        assert bool(seen) == (step.step > round(RELEASE * 10))
        assert ("held_out" in tuner.segmenter.provenance) == bool(seen)
    assert known[1] < known[0]  # the second one is learned from first


def test_no_crop_is_drawn_from_a_frame_that_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = _discs(3, 30)[None].repeat(3, 0)
    clip, annotations = Clip((60 + 120 * (labels > 0)).astype(np.uint8)), Annotations.from_labels(labels)
    known: list[int] = []
    plain = Source.crop

    def noting(self: Source, *given: object) -> object:
        known.append(int(self.targets[2].sum()))
        return plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Source, "crop", noting)
    tuner = FineTuner(tiny_parent(), quick(steps=20, task="look-alike", quality="fast"), device="cpu", augment=VARIED)
    tuner.fit(clip, annotations)
    assert len(known) >= 20
    assert min(known) > 0


def test_what_was_measured_is_kept_with_the_segmenter(tmp_path: object) -> None:
    labels = _discs()
    frames = (60 + 120 * (labels > 0))[None].repeat(2, 0).astype(np.uint8)
    config = quick(steps=30, task="look-alike", quality="fast")
    segmenter = FineTuner(tiny_parent(), config, device="cpu", augment=VARIED).fit(
        Clip(frames), Annotations.from_labels(labels[None].repeat(2, 0), frames=(0,))
    )
    path = f"{tmp_path}/kept.osvos"
    segmenter.save(path)
    score = HeldOutScore.of(Segmenter.load(path, "cpu").provenance)
    assert score is not None
    assert sum(score.overlap) / sum(score.union) > 0.5
    assert sum(score.wanted) >= 1


def test_a_preview_holds_nothing_out() -> None:
    clip, annotations, _ = toy_clip()
    segmenter = FineTuner(tiny_parent(), quick(quality="preview", steps=3), device="cpu", augment=VARIED).fit(
        clip, annotations
    )
    assert HeldOutScore.of(segmenter.provenance) is None


def test_where_a_segmenter_is_continued_paint_of_new_frames_is_held_out() -> None:
    labels = _discs()
    movie = (60 + 120 * (labels > 0))[None].repeat(3, 0)
    movie[1:] = movie[1:, ::-1]
    clip = Clip(movie.astype(np.uint8), name="discs")
    truth = np.stack([labels, labels[::-1], labels[::-1]])
    few = np.where(labels == 1, 1, 0)[None].repeat(3, 0)

    def learn(start: object, frames: tuple[int, ...], paint: np.ndarray = truth, quality: str = "fast") -> Segmenter:
        config = quick(steps=10, task="look-alike", quality=quality)
        tuner = FineTuner(start, config, device="cpu", augment=VARIED)  # type: ignore[arg-type]
        return tuner.fit(clip, Annotations.from_labels(paint, frames=frames))

    first = learn(tiny_parent(), (0,))
    scores = [
        HeldOutScore.of(one.provenance)
        for one in (
            first,
            learn(first, (0,)),
            learn(first, (0, 2)),
            learn(first, (2,), few),
            learn(first, (0, 2), quality="preview"),
        )
    ]
    assert all(scores)
    before, same, more, little, hasty = (score for score in scores if score is not None)
    assert same == before  # nothing new was painted
    assert more.source.endswith("blocks of frame 2")
    assert little.source == hasty.source == "frame 2"  # measured as a whole before it is learned
    assert len(hasty.union) > len(more.union)
    again = learn(learn(first, (0, 2)), (2,))
    assert again.provenance["learned_frames"] == [0, 2]
