"""One painted frame in: the tiny network learns a drawn object, repeatably, and refuses what cannot be learned."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from toy_clip import VARIED, first_frame, overlap, quick, tiny_parent, toy_clip, toy_frames

from napari_osvos import finetune
from napari_osvos.annotations import Annotations
from napari_osvos.checkpoint import weights_digest
from napari_osvos.clip import Clip
from napari_osvos.config import AugmentConfig, FineTuneConfig, NetworkConfig
from napari_osvos.expected_accuracy import PaintFit
from napari_osvos.finetune import FineTuner
from napari_osvos.intensity import movie_intensity
from napari_osvos.output_fitting import LookBack, look_back
from napari_osvos.painted_plane import PaintedPlane
from napari_osvos.parent import ParentNetwork
from napari_osvos.segmenter import Segmenter


def _tuner(start: ParentNetwork | Segmenter | None = None, **changes: Any) -> FineTuner:
    return FineTuner(start or tiny_parent(), quick(**changes), device="cpu", augment=VARIED)


def _scores(segmenter: Segmenter, clip: Clip, truth: np.ndarray) -> list[float]:
    return [overlap(labels, truth[t]) for t, labels in segmenter.iter_labels(clip)]


@pytest.fixture(scope="module")
def learned() -> Segmenter:
    """A segmenter that has learned the disc of the toy movie from its first frame."""
    clip, annotations, _ = toy_clip()
    return _tuner(steps=60).fit(clip, annotations)


# -- learning --------------------------------------------------------------------------------------


def test_a_tiny_network_learns_a_drawn_object_from_one_frame(learned: Segmenter) -> None:
    clip, _, truth = toy_clip(5)
    scores = _scores(learned, clip, truth)
    assert min(scores[1:]) > 0.85


def test_the_contrast_of_the_movie_does_not_matter() -> None:
    frames, truth = toy_frames()
    for pixels in (255 - frames, frames.astype(np.uint16) * 200 + 1000, frames / 1e6):
        clip = Clip(pixels)
        scores = _scores(_tuner(steps=60).fit(clip, first_frame(truth)), clip, truth)
        assert min(scores[1:]) > 0.8


def test_colour_can_be_what_tells_the_object() -> None:
    """Red and green discs of one brightness; the red one is painted."""
    frames, truth = toy_frames()
    green = np.roll(truth, 20, 2)
    assert not (truth & green).any()
    rgb = np.stack([60 + 120 * truth, 60 + 120 * green, np.full_like(frames, 60)], -1)
    rgb = (rgb + np.random.default_rng(1).normal(0, 8, rgb.shape)).clip(0, 255).astype(np.uint8)
    clip = Clip(rgb, "TYXS")
    scores = _scores(_tuner(steps=60).fit(clip, first_frame(truth)), clip, truth)
    assert min(scores[1:]) > 0.8


def test_several_annotated_frames_are_all_learned_from() -> None:
    """The object is bright in frame 0 and dark in frame 2: only who sees both frames finds both."""
    frames, truth = toy_frames(4)
    frames[2:] = np.where(truth[2:] > 0, 0, frames[2:])
    clip = Clip(frames)
    one = _tuner(steps=60).fit(clip, Annotations.from_labels(truth, frames=(0,)))
    two = _tuner(steps=60).fit(clip, Annotations.from_labels(truth, frames=(0, 2)))
    assert two.provenance["annotated_frames"] == [0, 2]
    assert _scores(one, clip, truth)[3] < 0.3
    assert min(_scores(two, clip, truth)[1::2]) > 0.6


def test_a_frame_without_objects_teaches_what_is_none() -> None:
    frames, truth = toy_frames(3)
    clip = Clip(np.concatenate([frames, frames[:1]]))
    truth = np.concatenate([truth, np.zeros_like(truth[:1])])
    annotations = Annotations.from_labels(truth, frames=(0, 3))
    assert annotations.frames == (0, 3)
    tuner = _tuner(steps=3)
    assert len(list(tuner.steps(clip, annotations))) == 3


def test_strokes_are_enough() -> None:
    """Strokes in one disc and in the background; a second disc and most of the frame are not painted."""
    _, truth = toy_frames(3, (40, 88))
    both = truth | np.roll(truth, 40, 2)
    clip = Clip((60 + 120 * both + np.random.default_rng(2).normal(0, 8, both.shape)).clip(0, 255).astype(np.uint8))
    strokes = np.zeros_like(truth)
    strokes[0, 14:22, 12:17] = 1
    strokes[0, 2:6, 2:60] = 2  # background
    strokes[0, 30:36, 2:60] = 2
    strokes[0, 6:30, 26:30] = 2
    partial = Annotations.from_labels(strokes, frames=(0,), partial=(0,), background_label=2)
    assert partial.known(0).mean() < 0.3
    # The strokes are thin: their size says little of that of the object.
    segmenter = _tuner(steps=60, object_diameter=8.0).fit(clip, partial)
    assert min(_scores(segmenter, clip, both)) > 0.6


@pytest.mark.parametrize("quality", ["fast", "published"])
def test_what_is_painted_on_void_pixels_does_not_matter(quality: str) -> None:
    frames, truth = toy_frames()

    def losses(paint: int, void: int | None) -> list[float]:
        labels = truth.copy()
        labels[0, 30:38] = paint
        annotations = Annotations.from_labels(labels, frames=(0,), void_label=void)
        # A scale of its own would let the paint in again.
        tuner = _tuner(quality=quality, steps=2, object_diameter=512.0, largest_zoom=1.0)
        return [step.loss for step in tuner.steps(Clip(frames), annotations)]

    assert losses(255, void=255) == losses(9, void=9)
    assert losses(255, void=255) != losses(0, void=None)


# -- repeatability ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_bit_by_bit() -> None:
    clip, annotations, _ = toy_clip()
    runs = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)  # other people's random numbers have no say
        np.random.seed(noise)  # noqa: NPY002
        tuner = _tuner(steps=12, seed=seed)
        losses = [step.loss for step in tuner.steps(clip, annotations)]
        runs.append((losses, weights_digest(tuner.segmenter.net.state_dict())))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert runs[0][1] != runs[2][1]


def test_the_parent_stays_as_it_is() -> None:
    clip, annotations, _ = toy_clip()
    parent = tiny_parent()
    before = parent.digest()
    _tuner(parent, steps=3).fit(clip, annotations)
    assert parent.digest() == before
    assert not parent.net.training


# -- steps and segmenters --------------------------------------------------------------------------


def test_the_segmenter_may_be_taken_at_any_step() -> None:
    clip, annotations, _ = toy_clip()
    tuner = _tuner(steps=4)
    with pytest.raises(RuntimeError, match="There is no segmenter before the first step of fine-tuning"):
        _ = tuner.segmenter
    digests = []
    for step in tuner.steps(clip, annotations):
        assert step.steps == 4
        segmenter = tuner.segmenter
        assert segmenter.provenance["steps"] == step.step
        digests.append(weights_digest(segmenter.net.state_dict()))
    assert len(set(digests)) == 4
    # An earlier one is not changed by later steps.
    again = _tuner(steps=4)
    early = next(iter(again.steps(clip, annotations))) and again.segmenter
    assert weights_digest(early.net.state_dict()) == digests[0]


def test_what_was_done_is_written_down() -> None:
    clip, annotations, _ = toy_clip()
    parent = tiny_parent()
    parent.card["name"] = "toy parent"
    tuner = _tuner(parent, steps=2, seed=7)
    about = tuner.fit(clip, annotations).provenance
    assert about["parent"] == {"name": "toy parent", "sha256": parent.digest()}
    assert about["continued"] is False
    assert FineTuneConfig.from_dict(about["fine_tune"]) == tuner.config
    assert AugmentConfig.from_dict(about["augment"]) == VARIED
    assert about["movie"] == "toy"
    assert about["annotated_frames"] == [0]
    assert about["steps"] == 2
    assert about["seconds"] >= 0
    assert about["device"] == "cpu"


def test_frame_numbers_of_the_movie_are_those_written_down() -> None:
    frames, truth = toy_frames(3)
    clip = Clip(frames, frame_numbers=(10, 12, 15))
    tuner = _tuner(steps=1)
    tuner.fit(clip, Annotations.from_labels(truth, frames=(2,)))
    assert tuner.segmenter.provenance["annotated_frames"] == [15]


def test_a_segmenter_can_be_taken_further(learned: Segmenter) -> None:
    frames, truth = toy_frames(4)
    clip = Clip(255 - frames)  # the object is dark now
    before = weights_digest(learned.net.state_dict())
    further = _tuner(learned, steps=60).fit(clip, first_frame(truth))
    assert weights_digest(learned.net.state_dict()) == before
    assert max(_scores(learned, clip, truth)) < 0.2
    assert min(_scores(further, clip, truth)[1:]) > 0.7
    assert further.zoom == learned.zoom  # the weights know this scale
    assert further.provenance["continued"] is True
    assert further.provenance["parent"] == learned.provenance["parent"]
    # It starts where the other ended, not at the parent.
    easy, annotations, _ = toy_clip()
    first = next(iter(_tuner(learned, steps=1).steps(easy, annotations)))
    anew = next(iter(_tuner(steps=1).steps(easy, annotations)))
    assert first.loss < anew.loss / 2


# -- scale -----------------------------------------------------------------------------------------


def test_the_paint_sets_the_scale() -> None:
    clip, annotations, _ = toy_clip()  # a disc of some 16 pixels
    zooms = {}
    for diameter, largest in ((16.0, 4.0), (32.0, 4.0), (500.0, 3.0), (4.0, 4.0)):
        tuner = _tuner(steps=1, object_diameter=diameter, enlarged_diameter=diameter, largest_zoom=largest)
        zooms[diameter] = tuner.fit(clip, annotations).zoom
    assert zooms == pytest.approx({16.0: 1.0, 32.0: 2.0, 500.0: 3.0, 4.0: 0.25}, rel=0.1)


@pytest.mark.parametrize(
    ("diameter", "zoom"),
    [(0.1, 2.0), (10.0, 2.0), (22.0, 2.0), (31.0, 44 / 31), (50.0, 1.0), (128.0, 0.5), (9e9, 1 / 16)],
)
def test_objects_of_a_fitting_size_are_left_as_they_are(diameter: float, zoom: float) -> None:
    assert FineTuneConfig().zoom(diameter) == pytest.approx(zoom)
    assert FineTuneConfig(quality="published").zoom(diameter) == 1.0


# -- qualities -------------------------------------------------------------------------------------


def test_a_preview_trains_heads_only() -> None:
    clip, annotations, truth = toy_clip()
    parent = tiny_parent()
    tuner = _tuner(parent, quality="preview", steps=60)
    segmenter = tuner.fit(clip, annotations)
    before = parent.net.state_dict()
    changed = {name for name, value in segmenter.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith("stages.")}
    assert min(_scores(segmenter, clip, truth)[1:]) > 0.5


@pytest.mark.parametrize("network", ["tiny", "vgg16"])
def test_published_learns_from_whole_frames(network: str) -> None:
    clip, annotations, _ = toy_clip()
    config = NetworkConfig.tiny()
    if network == "vgg16":
        config = NetworkConfig.vgg16().replace(widths=(4, 6, 8, 8, 8), side_channels=4)
    tuner = _tuner(ParentNetwork.random(config), quality="published", steps=25)
    steps = list(tuner.steps(clip, annotations))
    segmenter = tuner.segmenter
    assert segmenter.zoom == 1
    assert segmenter.threshold == 0.5
    assert [step.learning_rate for step in steps] == pytest.approx([1e-8 * 480 * 854] * 25)
    losses = [step.loss for step in steps]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    # As published there is no average: the segmenter holds the last weights.
    assert tuner.net is not None
    assert weights_digest(segmenter.net.state_dict()) == weights_digest(tuner.net.state_dict())


def test_an_update_as_published_may_take_the_gradients_of_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, annotations, _ = toy_clip()
    passes: list[int] = []
    plain = finetune.published_loss

    def counting(net: Any, frames: Any, seed: int, varied: bool, reduction: str) -> Any:
        assert varied  # as in the authors' code for 2000 x 5
        loss = plain(net, frames, seed, varied, reduction)
        return lambda number, progress: (passes.append(number), loss(number, progress))[1]

    monkeypatch.setattr(finetune, "published_loss", counting)
    assert len(list(_tuner(quality="published", steps=3, passes=5).steps(clip, annotations))) == 3
    assert passes == list(range(15))


def test_as_published_edges_and_reduction_can_be_the_authors_own() -> None:
    clip, annotations, _ = toy_clip()
    narrow = NetworkConfig.vgg16().replace(widths=(4, 4, 6, 6, 6), side_channels=3)
    parent = ParentNetwork.random(narrow)
    plain = _tuner(parent, quality="published", steps=3).fit(clip, annotations)
    assert plain.net.config.edges == "mirrored"
    theirs = _tuner(parent, quality="published", steps=3, edges="published").fit(clip, annotations)
    assert theirs.net.config.edges == "published"
    assert parent.net.config.edges == "mirrored"  # the parent stays as it was
    summed = _tuner(parent, quality="published", steps=3, reduction="sum").fit(clip, annotations)
    assert len({weights_digest(s.net.state_dict()) for s in (plain, theirs, summed)}) == 3
    again = _tuner(theirs, quality="published", steps=1).fit(clip, annotations)
    assert again.net.config.edges == "published"  # by default as in what it begins with
    with pytest.raises(ValueError, match="edges is 'published', which only the published topology has, not tiny"):
        _tuner(quality="published", steps=1, edges="published").fit(clip, annotations)


def test_contours_are_learned_by_a_network_that_was_trained_without() -> None:
    clip, annotations, _ = toy_clip()
    parent = ParentNetwork.random(NetworkConfig.tiny().replace(heads=("foreground",)))
    for changes, learned in (({}, True), ({"contour_weight": 0.0}, False), ({"quality": "published"}, False)):
        heads = _tuner(parent, steps=1, **changes).fit(clip, annotations).net.config.heads
        assert ("contour" in heads) == learned


def test_best_averages_mirror_images() -> None:
    clip, annotations, _ = toy_clip()
    assert _tuner(quality="best", steps=1).fit(clip, annotations).config.flips
    assert not _tuner(quality="balanced", steps=1).fit(clip, annotations).config.flips


def test_the_quality_is_a_number_of_steps() -> None:
    planned = [FineTuneConfig(quality=q).planned_steps() for q in ("preview", "fast", "balanced", "best")]  # type: ignore[arg-type]
    assert planned == sorted(set(planned))
    assert FineTuneConfig(quality="published").planned_steps() == 500
    assert FineTuneConfig(quality="best", steps=3).planned_steps() == 3


def test_more_frames_are_learned_for_longer() -> None:
    fast = FineTuneConfig(quality="fast")
    assert [fast.planned_steps(n) for n in (1, 2, 4, 9, 100)] == [36, 51, 72, 108, 108]
    assert fast.replace(steps=5).planned_steps(4) == 5
    assert [FineTuneConfig(quality="balanced").planned_steps(n) for n in (1, 2, 4, 9)] == [240, 339, 480, 480]
    for quality in ("preview", "best", "published"):
        config = FineTuneConfig(quality=quality)  # type: ignore[arg-type]
        assert config.planned_steps(9) == config.planned_steps()

    clip, _, truth = toy_clip()
    for frames in ([0], [0, 1, 2]):
        annotations = Annotations.from_labels(truth, frames=frames)
        tuner = _tuner(quality="fast", steps=None)
        first = next(tuner.steps(clip, annotations))
        assert first.steps == fast.planned_steps(len(frames)) == tuner.planned_steps(len(frames))
        # what was learned before is not learned anew
        assert next(_tuner(tuner.segmenter, quality="fast", steps=None).steps(clip, annotations)).steps == 36


def test_a_time_may_be_set_instead() -> None:
    clip, annotations, _ = toy_clip()
    tuner = _tuner(seconds=0.2, steps=None)
    steps = list(tuner.steps(clip, annotations))
    assert steps
    assert all(step.seconds < 0.2 for step in steps[:-1])  # after that none is begun


# -- threshold -------------------------------------------------------------------------------------


def test_the_threshold_undoes_the_balance() -> None:
    clip, annotations, truth = toy_clip()
    share = float(truth[0].mean())
    tuner = _tuner(steps=1, balance=1.0)
    next(tuner.steps(clip, annotations))
    assert tuner.threshold == pytest.approx(1 - share, abs=1e-6)
    next(tuner.steps(clip, annotations), None)


def test_the_user_may_end_it_early_and_the_threshold_is_fitted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, annotations, _ = toy_clip()
    tuner = _tuner(steps=50)
    done: list[int] = []
    fitted: list[Any] = []
    look = LookBack(0.55, None, {}, PaintFit(0.9, 0.9))
    monkeypatch.setattr("napari_osvos.finetune.look_back", lambda *given: (fitted.append(given), look)[1])
    for step in tuner.steps(clip, annotations):
        done.append(step.step)
        if step.step == 7:
            tuner.end_early()
    assert done == list(range(1, 8))
    assert len(fitted) == 1
    assert tuner.segmenter.threshold == 0.55
    assert len(list(_tuner(steps=3).steps(clip, annotations))) == 3


@pytest.mark.parametrize("wanted", [0.4013, 0.5, 0.6457])
def test_the_threshold_follows_where_the_painter_draws_the_border(wanted: float) -> None:
    clip, annotations, _ = toy_clip()
    tuner = _tuner(steps=10)
    segmenter = tuner.fit(clip, annotations)
    intensity = movie_intensity(clip, segmenter.net.config.intensities)
    probability = segmenter.plane_probability(clip.plane(0), intensity)
    segmenter.threshold = 0.5
    frame = PaintedPlane(clip.plane(0), probability >= wanted, np.ones(probability.shape, bool))
    assert look_back(segmenter, [frame], intensity).threshold == pytest.approx(wanted, abs=1e-4)


def test_the_threshold_stays_where_only_strokes_are_painted() -> None:
    clip, _, truth = toy_clip()
    strokes = np.zeros(truth.shape, np.uint8)
    strokes[0, 20:24] = np.where(truth[0, 20:24], 2, 1)
    annotations = Annotations.from_labels(strokes, partial=True, background_label=1)
    assert _tuner(steps=10, balance=0.0).fit(clip, annotations).threshold == 0.5


# -- what cannot be learned from -------------------------------------------------------------------


def _bad(kind: str) -> tuple[Clip, Annotations]:
    frames, truth = toy_frames()
    if kind == "empty":
        return Clip(frames), Annotations({}, n_frames=3)
    if kind == "size":
        return Clip(frames, name="movie.tif"), first_frame(truth[:, :, :50])
    if kind == "frame":
        return Clip(frames[:2], name="movie.tif"), Annotations.from_labels(truth, frames=(2,))
    if kind == "depth":
        return Clip(frames[:, None], "TZYX", name="movie.tif"), Annotations.from_labels(truth[:, None].repeat(2, 1))
    if kind == "nan movie":
        return Clip(np.full(frames.shape, np.nan), name="movie.tif"), first_frame(truth)
    if kind == "nan frame":
        pixels = frames.astype(np.float32)
        pixels[0] = np.nan
        return Clip(pixels, name="movie.tif"), first_frame(truth)
    if kind == "constant":
        return Clip(np.full_like(frames, 7), name="movie.tif"), first_frame(truth)
    strokes = np.zeros_like(truth)
    strokes[0, 14:22, 12:17] = 1
    return Clip(frames), Annotations.from_labels(strokes, frames=(0,), partial=True)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "the annotations is empty: no frame holds a painted object."),
        ("size", "the annotations is 40 x 50 pixels but movie.tif is 40 x 56; both must be of one size."),
        (
            "frame",
            "the annotations is painted on frame 2, which movie.tif does not have; its frames are 0, 1.",
        ),
        ("depth", "the annotations has 2 slices a frame but movie.tif has 1; both must have the same."),
        ("nan movie", "movie.tif has no finite pixel: every one is NaN or infinite."),
        ("nan frame", "movie.tif shows nothing where it is painted: every pixel of frame 0 is NaN or infinite."),
        ("constant", "movie.tif shows nothing where it is painted: every pixel of frame 0 has the value 7."),
        ("no background", "the annotations is partial and shows no background;"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_the_first_step(kind: str, sentence: str) -> None:
    clip, annotations = _bad(kind)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        next(_tuner(steps=2).steps(clip, annotations))


def test_labels_that_are_no_whole_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="holds the value 0.5; labels must be whole numbers"):
        Annotations.from_labels(np.full((2, 4, 4), 0.5))


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ValueError, match="There is no device 'tpu' on this machine; there are auto, "):
        FineTuner(tiny_parent(), quick(), device="tpu")


# -- odd movies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", ["fast", "published"])
@pytest.mark.parametrize("shape", [(1, 7), (5, 7), (33, 50)])
def test_frames_of_any_size_can_be_learned_from(shape: tuple[int, int], quality: str) -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((2, *shape), np.uint8)
    truth[:, :, 2:5] = 1
    clip = Clip((50 + 100 * truth + rng.normal(0, 5, truth.shape)).astype(np.float32))
    segmenter = _tuner(steps=2, crop_size=16, quality=quality).fit(clip, first_frame(truth))
    assert segmenter.predict(clip).shape == truth.shape


def test_slices_of_a_volume_are_planes_of_their_own() -> None:
    frames, truth = toy_frames(4)
    volume, labels = frames.reshape(2, 2, 40, 56), np.zeros((2, 2, 40, 56), np.uint8)
    labels[0, 1] = truth[1]  # one slice of the first volume
    clip = Clip(volume)
    segmenter = _tuner(steps=60).fit(clip, Annotations.from_labels(labels))
    assert segmenter.provenance["annotated_frames"] == [0]
    found = segmenter.predict(clip).reshape(4, 40, 56)
    assert min(overlap(found[p], truth[p]) for p in (0, 2, 3)) > 0.8


def test_a_movie_with_nan_pixels_is_learned_from() -> None:
    frames, truth = toy_frames()
    pixels = frames.astype(np.float64)
    pixels[:, :3, -3:] = np.nan
    pixels[:, 0, 0] = np.inf
    clip = Clip(pixels)
    segmenter = _tuner(steps=60, object_diameter=10.0).fit(clip, first_frame(truth))  # also reduced in size
    scores = _scores(segmenter, clip, truth)
    assert min(scores[1:]) > 0.7


def test_arrays_are_told_what_they_must_become() -> None:
    clip, annotations, truth = toy_clip()
    movie, painted = np.asarray(toy_frames()[0]), np.asarray(truth)
    wrong: list[tuple[Any, Any, str]] = [
        (movie, annotations, "The movie is of type ndarray, not a Clip"),
        (clip, painted, "The annotations are of type ndarray; Annotations.from_labels"),
    ]
    for given, paint, sentence in wrong:
        with pytest.raises(TypeError, match=sentence):
            _tuner(steps=1).fit(given, paint)
