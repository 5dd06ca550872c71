"""OSVOS as published: the forward pass, loss, optimiser and schedules against literal transcriptions of the paper's."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toy_clip import tiny_parent, toy_clip

from napari_osvos.config import FineTuneConfig, NetworkConfig, ParentConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.intensity import IntensityScale
from napari_osvos.network import OSVOSNet
from napari_osvos.parent_training import ParentTraining
from napari_osvos.published import (
    LEARNING_RATE,
    PIXELS,
    published_cross_entropy,
    published_loss,
    published_optimiser,
    published_parent_loss,
    varied_frame,
    whole_frame,
)
from napari_osvos.sampling import Batch, Source
from napari_osvos.training import training_steps

NARROW = NetworkConfig.vgg16().replace(widths=(4, 4, 6, 6, 6), side_channels=3)


def _network(config: NetworkConfig, deep: bool = False) -> OSVOSNet:
    torch.manual_seed(0)
    return OSVOSNet(config, deep_supervision=deep)


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# -- forward pass ------------------------------------------------------------------------------


def _transposed_kernel(stride: int, channels: int) -> Tensor:
    """Weights of a transposed convolution that interpolates bilinearly: 2 strides wide, each channel by itself."""
    line = [1 - abs(t - (stride - 0.5)) / stride for t in range(2 * stride)]
    kernel = torch.zeros(channels, channels, 2 * stride, 2 * stride)
    for c in range(channels):
        for y in range(2 * stride):
            for x in range(2 * stride):
                kernel[c, c, y, x] = line[y] * line[x]
    return kernel


def _as_in_the_paper(net: OSVOSNet, x: Tensor) -> Tensor:
    """VGG16, side outputs, upsampling by transposed convolutions, crop, concatenation, fuse: word by word."""
    height, width = x.shape[-2:]
    sides = []
    for number, convolutions in enumerate(net.stages):
        if number > 0:
            x = F.max_pool2d(x, kernel_size=2, stride=2, ceil_mode=True)
        for block in convolutions:
            x = F.relu(F.conv2d(x, block[0].weight, block[0].bias, padding=1))
        if number > 0:
            prep = net.side_prep[number - 1]
            side = F.conv2d(x, prep.weight, prep.bias, padding=1)
            up = F.conv_transpose2d(side, _transposed_kernel(2**number, side.shape[1]), stride=2**number)
            top, left = (up.shape[-2] - height) // 2, (up.shape[-1] - width) // 2
            sides.append(up[..., top : top + height, left : left + width])
    weight = torch.cat([fuse.weight for fuse in net.fuse], 1)
    return F.conv2d(torch.cat(sides, 1), weight, net.fuse[0].bias)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 48), (30, 54)], ids=["multiples of 16", "odd"])
def test_with_published_edges_the_network_is_that_of_the_paper(size: tuple[int, int]) -> None:
    net = _network(NetworkConfig.vgg16().replace(edges="published"))
    x = _noise(1, 3, *size)
    torch.testing.assert_close(net(x), _as_in_the_paper(net, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_mirrored_edges_change_only_what_lies_near_an_edge() -> None:
    ours = _network(NARROW).double()
    theirs = ours.with_edges("published")
    x = _noise(1, 3, 64, 96).double()
    here, there = ours(x), theirs(x)
    inner = (..., slice(8, -8), slice(8, -8))  # half of the coarsest stride
    torch.testing.assert_close(here[inner], there[inner], atol=1e-12, rtol=1e-9)
    assert not torch.allclose(here, there)
    assert not torch.allclose(here[..., 8:-8, :7], there[..., 8:-8, :7])


@torch.no_grad()
def test_the_published_crop_is_out_of_place_where_the_frame_is_no_multiple_of_the_stride() -> None:
    """Of a ramp the coarsest side output alone is seen to lie 5 px too far: at a width of 854, as in DAVIS."""
    net = OSVOSNet(NARROW.replace(edges="published"))
    ramp = torch.arange(54, dtype=torch.float32).expand(1, 1, 30, 54)  # 854 / 16, rounded up
    up = net.upsampled(ramp, 3, (480, 854))[0, 0, 240]
    where = (torch.arange(854) + 0.5) / 16 - 0.5  # of the pixel, in positions of the side output
    torch.testing.assert_close(up[100:700] - where[100:700], torch.full((600,), 5 / 16), atol=1e-4, rtol=0)
    fitting = net.upsampled(ramp[..., :53], 3, (480, 848))[0, 0, 240]
    torch.testing.assert_close(fitting[100:700], where[100:700], atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_edges_travel_with_copies_of_the_network() -> None:
    net = _network(NARROW.replace(edges="published"), deep=True).eval()
    x = _noise(1, 3, 20, 30)
    torch.testing.assert_close(net.fold()(x), net(x))
    torch.testing.assert_close(net.with_heads(("foreground",))(x), net(x)[:, :1])


def test_published_edges_belong_to_the_published_topology() -> None:
    with pytest.raises(ValueError, match=r"edges is 'published', which only the published topology has, not lite\."):
        _network(NetworkConfig.lite()).with_edges("published")


# -- loss --------------------------------------------------------------------------------------


def _published_sum(logits: Tensor, mask: Tensor) -> float:
    """- N-/N sum over foreground of log p - N+/N sum over background of log (1 - p)."""
    rows, columns = mask.shape
    positive = sum(float(mask[y, x]) for y in range(rows) for x in range(columns))
    count, total = rows * columns, 0.0
    for y in range(rows):
        for x in range(columns):
            p = 1 / (1 + math.exp(-float(logits[y, x])))
            total -= (count - positive) / count * math.log(p) if mask[y, x] else positive / count * math.log(1 - p)
    return total


def _frame(seed: int = 0, shape: tuple[int, int] = (16, 24)) -> Batch:
    rng = np.random.default_rng(seed)
    mask = torch.zeros(1, *shape, dtype=torch.float64)
    mask[:, 3:9, 5:17] = 1
    x = torch.from_numpy(rng.normal(0, 1, (1, 3, *shape)))
    return Batch(x, mask, 0 * mask, torch.ones_like(mask), mask.mean())


def _single(frame: Batch) -> Batch:
    return Batch(**{name: part.float() for name, part in frame.tensors().items()})


def test_the_loss_is_the_published_sum_over_the_number_of_pixels() -> None:
    frame = _frame()
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 2, (1, 16, 24)))
    found = published_cross_entropy(logits, frame.mask, frame.known, frame.positive_share)
    assert float(found) == pytest.approx(_published_sum(logits[0], frame.mask[0]) / (16 * 24), rel=1e-12)


def test_500_updates_see_a_frame_and_its_mirror_image_at_three_scales_in_turn() -> None:
    net, frame = _network(NARROW).double(), _frame()
    loss = published_loss(net, [frame], seed=0)
    expected = []
    with torch.no_grad():
        for size in ((16, 24), (12, 19), (8, 12)):  # whole, 0.8 and 0.5, rounded down
            x = F.interpolate(frame.x, size, mode="bilinear", antialias=True)
            mask = F.interpolate(frame.mask[None], size, mode="nearest-exact")[0]
            for turn in ((), (-1,)):
                flipped = torch.flip(mask, turn)[0]
                expected.append(_published_sum(net(torch.flip(x, turn))[0, 0], flipped) / (16 * 24))
        found = [[round(float(loss(6 * turn + i, 0.5)), 5) for i in range(6)] for turn in range(4)]
    assert all(sorted(turn) == sorted(round(value, 5) for value in expected) for turn in found)
    assert len({tuple(turn) for turn in found}) > 1  # in another order each time


def test_thin_strokes_of_paint_stay_when_a_frame_is_reduced() -> None:
    net, frame = _network(NARROW).double(), _frame()
    mask, known = torch.zeros_like(frame.mask), torch.zeros_like(frame.known)
    mask[:, 4], known[:, 4], known[:, 10] = 1, 1, 1  # one pixel wide: a stroke on the object, one beside it
    loss = published_loss(net, [Batch(frame.x, mask, mask, known, mask.mean())], seed=0)
    with torch.no_grad():
        losses = [float(loss(number, 0.5)) for number in range(6)]
    assert min(losses) > 0.01  # of one kind alone it is next to nothing


def test_each_painted_frame_has_its_turn() -> None:
    net = _network(NARROW)
    frames = [_single(_frame(seed)) for seed in range(3)]
    for varied, turn in ((False, 18), (True, 3)):
        loss = published_loss(net, frames, seed=0, varied=varied)
        with torch.no_grad():
            assert len({float(loss(number, 0.5)) for number in range(turn)}) == turn


def test_a_pass_of_2000_x_5_sees_a_frame_mirrored_turned_and_zoomed() -> None:
    net, frame = _network(NARROW), _single(_frame())
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    loss = published_loss(net, [frame], seed=3, varied=True)
    with torch.no_grad():
        once, again = (float(loss(7, 0.5)) for _ in range(2))
        loss(8, 0.5)
    assert once == again  # a run that is gone on with draws the same
    assert torch.equal(seen[0], seen[1])
    assert seen[0].shape == frame.x.shape
    assert not any(torch.equal(x, y) for x in seen for y in (frame.x, frame.x.flip(-1)))
    assert not torch.equal(seen[1], seen[2])


def test_a_pass_of_a_parent_adds_the_loss_of_each_side_output_at_full_size() -> None:
    net, frame = _network(NARROW.replace(edges="published"), deep=True).double(), _frame(shape=(20, 30))
    with torch.no_grad():
        sides = net.side_outputs(net.features(frame.x))
        parts = [_published_sum(net(frame.x)[0, 0], frame.mask[0]) / 600]
        for i, (side, score) in enumerate(zip(sides, net.score_dsn, strict=True)):
            stride = 2 ** (i + 1)
            up = F.conv_transpose2d(score(side)[:, :1], _transposed_kernel(stride, 1).double(), stride=stride)
            top, left = (up.shape[-2] - 20) // 2, (up.shape[-1] - 30) // 2
            parts.append(_published_sum(up[0, 0, top : top + 20, left : left + 30], frame.mask[0]) / 600)
        for weight in (1.0, 0.25, 0.0):
            wanted = parts[0] + weight * sum(parts[1:])
            assert float(published_parent_loss(net, frame, weight)) == pytest.approx(wanted, rel=1e-5)
            summed = float(published_parent_loss(net, frame, weight, reduction="sum"))
            assert summed * PIXELS == pytest.approx(wanted * 600, rel=1e-5)


# -- optimiser ---------------------------------------------------------------------------------


def test_the_groups_of_the_optimiser_are_the_published_ones() -> None:
    net = _network(NARROW, deep=True)
    optimiser = published_optimiser(net)
    names = {id(p): name for name, p in net.named_parameters()}
    found = {
        names[id(p)]: (group["lr"] / LEARNING_RATE, group["weight_decay"], group["momentum"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    assert found.keys() == set(names.values())
    rates = {"stages": 1.0, "side_prep": 1.0, "score_dsn": 0.1, "fuse": 0.01}
    for name, (rate, decay, momentum) in found.items():
        weight = rates[name.split(".")[0]]
        assert rate == pytest.approx(weight if name.endswith("weight") else 2 * weight)
        assert decay * PIXELS == pytest.approx(2e-4 if name.endswith("weight") else 0)
        assert momentum == 0.9
    assert pytest.approx(1e-8) == LEARNING_RATE / PIXELS


def test_the_published_sum_learns_what_it_does_in_the_paper() -> None:
    frame = _frame()
    ours, theirs = (_network(NARROW).double() for _ in range(2))
    optimiser = published_optimiser(ours)
    loss_of_pass = published_loss(ours, [frame], seed=0, reduction="sum")
    seen: list[Tensor] = []
    ours.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    velocity = {name: torch.zeros_like(p) for name, p in theirs.named_parameters()}
    rates = {"fuse": 0.01}
    for number in range(12):  # each view twice: three scales, as it is and mirrored
        optimiser.zero_grad()
        loss_of_pass(number, 0.5).backward()
        optimiser.step()
        mask = F.interpolate(frame.mask[None], seen[-1].shape[-2:], mode="nearest-exact")[0]
        x = F.interpolate(frame.x, seen[-1].shape[-2:], mode="bilinear", antialias=True)
        mask = mask if torch.allclose(x, seen[-1]) else torch.flip(mask, (-1,))
        logits, share = theirs(seen[-1])[0, 0], mask.mean()
        loss = -(1 - share) * F.logsigmoid(logits)[mask[0] > 0].sum()
        loss = loss - share * F.logsigmoid(-logits)[mask[0] == 0].sum()
        gradients = torch.autograd.grad(loss, list(theirs.parameters()))
        with torch.no_grad():
            for (name, p), gradient in zip(theirs.named_parameters(), gradients, strict=True):
                bias = name.endswith("bias")
                rate = 1e-8 * rates.get(name.split(".")[0], 1.0) * (2 if bias else 1)
                velocity[name] = 0.9 * velocity[name] + gradient + (0 if bias else 2e-4) * p
                p -= rate * velocity[name]
    start = _network(NARROW).double().state_dict()
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(p - start[name], q - start[name], atol=1e-14, rtol=1e-4, msg=name)


def test_passes_are_added_up_to_one_update_of_their_mean() -> None:
    frames = [_frame(seed) for seed in range(3)]
    one, other = (_network(NARROW).double() for _ in range(2))

    def loss_of(net: OSVOSNet, number: int) -> Tensor:
        frame = frames[number % 3]
        return published_cross_entropy(net(frame.x)[:, 0], frame.mask, frame.known, frame.positive_share)

    numbers: list[int] = []

    def counted(number: int, progress: float) -> Tensor:
        numbers.append(number)
        return loss_of(one, number)

    steps = list(training_steps(one, counted, torch.optim.SGD(one.parameters(), lr=0.1), 2, passes=3,
                                schedule=lambda p: 1.0))  # fmt: skip
    assert numbers == [0, 1, 2, 3, 4, 5]
    assert [step.step for step in steps] == [1, 2]
    optimiser = torch.optim.SGD(other.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        optimiser.zero_grad()
        mean = sum((loss_of(other, i) for i in range(3)), torch.zeros(())) / 3
        mean.backward()
        losses.append(float(mean.detach()))
        optimiser.step()
    assert [step.loss for step in steps] == pytest.approx(losses, rel=1e-9)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-12, rtol=1e-9)


# -- beside a GPU that cannot resample ----------------------------------------------------------


@pytest.fixture
def resampled_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices on which frames are resampled or pooled: of what Apple's GPU cannot."""
    seen: list[str] = []

    def watched(plain: Callable[..., Tensor], x: Tensor, *given: object, **how: object) -> Tensor:
        seen.append(x.device.type)
        return plain(x, *given, **how)

    for name in ("grid_sample", "adaptive_avg_pool2d"):
        monkeypatch.setattr(F, name, functools.partial(watched, getattr(F, name)))
    # A device without pixels, which stands for such a GPU, has no autocast.
    monkeypatch.setattr("napari_osvos.network.fast_dtype", lambda x: x.dtype)
    return seen


@pytest.mark.parametrize("varied", [False, True])
def test_frames_are_varied_where_they_are_and_learned_where_the_network_is(
    resampled_on: list[str], varied: bool
) -> None:
    frame, net = _single(_frame()), _network(NARROW).to("meta")
    frame.known[:, :9] = 0  # painted in part, which is pooled
    loss_of_pass = published_loss(net, [frame], seed=0, varied=varied)
    assert {loss_of_pass(number, 0.5).device.type for number in range(6)} == {"meta"}
    assert set(resampled_on) == {"cpu"}


def test_the_images_of_a_parent_are_varied_on_the_cpu_unless_on_cuda(resampled_on: list[str]) -> None:
    recipe = ParentConfig.published().replace(network="tiny", base="random", edges="mirrored", passes=1)
    image = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    labels = (image > 128).astype(np.int32)
    training = ParentTraining(recipe, [Source(image[..., None], labels, None, IntensityScale.from_image(image), 1.0)])
    training.net.to("meta")
    training.device = torch.device("meta")
    assert training._loss(0, 0.5).device.type == "meta"
    assert set(resampled_on) == {"cpu"}


def test_painted_frames_are_held_where_they_are_varied(monkeypatch: pytest.MonkeyPatch) -> None:
    class _Held(Exception):
        """Where it is not to go on from."""

    def watched(net: OSVOSNet, frames: list[Batch], *given: object, **how: object) -> None:
        assert {frame.x.device.type for frame in frames} == {"meta"}
        raise _Held

    monkeypatch.setattr("napari_osvos.finetune.crops_on", lambda device: torch.device("meta"))
    monkeypatch.setattr("napari_osvos.finetune.published_loss", watched)
    clip, annotations, _ = toy_clip()
    with pytest.raises(_Held):
        FineTuner(tiny_parent(), FineTuneConfig(quality="published", steps=2), "cpu").fit(clip, annotations)


# -- the parent's images -----------------------------------------------------------------------


class _Chosen:
    """Random numbers that are chosen: angle, zoom, and what decides on mirroring."""

    def __init__(self, angle: float, zoom: float, mirror: bool) -> None:
        self._uniform, self._mirror = iter((angle, zoom)), mirror
        self.asked: list[tuple[float, float]] = []

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return next(self._uniform)

    def random(self) -> float:
        return 0.0 if self._mirror else 0.9


def _varied(angle: float = 0.0, zoom: float = 1.0, mirror: bool = False) -> tuple[Batch, Batch]:
    frame = _single(_frame())
    return frame, varied_frame(frame, _Chosen(angle, zoom, mirror))  # type: ignore[arg-type]


def test_a_frame_that_is_not_varied_stays_as_it_is() -> None:
    frame, same = _varied()
    torch.testing.assert_close(same.x, frame.x, atol=1e-4, rtol=1e-4)
    assert torch.equal(same.mask, frame.mask)
    assert bool(same.known.all())
    chosen = _Chosen(0, 1, False)
    varied_frame(frame, chosen)  # type: ignore[arg-type]
    assert chosen.asked == [(-30.0, 30.0), (0.75, 1.25)]


def test_image_and_mask_are_mirrored_together() -> None:
    frame, other = _varied(mirror=True)
    torch.testing.assert_close(other.x, frame.x.flip(-1), atol=1e-4, rtol=1e-4)
    assert torch.equal(other.mask, frame.mask.flip(-1))


def test_a_frame_is_turned_and_zoomed_about_its_middle() -> None:
    frame, larger = _varied(zoom=1.25)
    assert float(larger.mask.sum()) == pytest.approx(1.25**2 * float(frame.mask.sum()), rel=0.2)
    assert bool(larger.known.all())
    _, smaller = _varied(zoom=0.75)
    unknown = smaller.known[0] == 0
    assert float(unknown.float().mean()) == pytest.approx(1 - 0.75**2, abs=0.05)
    assert not bool(unknown[4:12, 6:18].any())
    _, turned = _varied(angle=30.0)
    corners = turned.known[0][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert float(corners.sum()) < 4
    assert turned.x.shape == frame.x.shape


def test_whole_frames_keep_their_scale() -> None:
    image = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30, 1)
    labels = np.zeros((20, 30), np.int32)
    labels[2:5, 3:9] = 4
    source = Source(image, labels, None, IntensityScale.from_image(image), 1.0)
    frame = whole_frame(source, torch.device("cpu"))
    assert frame.x.shape == (1, 3, 20, 30)
    assert float(frame.mask.sum()) == 18


def test_the_published_recipe_has_the_numbers_of_the_paper() -> None:
    recipe = ParentConfig.published()
    assert (recipe.network, recipe.base, recipe.schedule) == ("vgg16", "imagenet-features", "published")
    assert (recipe.steps, recipe.passes, recipe.deep_supervision) == (50_000, 10, 1.0)
    config = recipe.topology()
    assert (config.intensities, config.edges) == ("imagenet-features", "published")
    assert config.heads == ("foreground",)
    assert config.replace(edges="mirrored", intensities="robust") == NetworkConfig.vgg16().replace(heads=config.heads)
