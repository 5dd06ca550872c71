"""The network: the published topology, what commutes, what folds, and how far a pixel reaches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_osvos.config import NetworkConfig
from napari_osvos.network import OSVOSNet, _Pixels, fast_dtype

# The two topologies with few channels: they reach as far as the real ones.
NARROW_VGG16 = NetworkConfig.vgg16().replace(widths=(4, 4, 6, 6, 6), side_channels=3)
NARROW_LITE = NetworkConfig.lite().replace(widths=(4, 6, 6, 6), side_channels=4)
NETWORKS = {"vgg16": NARROW_VGG16, "lite": NARROW_LITE, "tiny": NetworkConfig.tiny()}
each_network = pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS.keys())


def _network(config: NetworkConfig, batch_norm: bool = False) -> OSVOSNet:
    torch.manual_seed(0)
    return OSVOSNet(config, batch_norm).eval()


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# -- topology ----------------------------------------------------------------------------------


def test_vgg16_has_the_layers_of_the_published_network() -> None:
    net = OSVOSNet(NetworkConfig.vgg16())
    convolutions = [m for stage in net.stages for m in stage.modules() if isinstance(m, nn.Conv2d)]
    widths = [(c.in_channels, c.out_channels) for c in convolutions]
    assert widths == [
        *((3, 64), (64, 64)),
        *((64, 128), (128, 128)),
        *((128, 256), (256, 256), (256, 256)),
        *((256, 512), (512, 512), (512, 512)),
        *((512, 512), (512, 512), (512, 512)),
    ]
    assert all(c.kernel_size == (3, 3) and c.padding == (1, 1) and c.bias is not None for c in convolutions)
    assert [(p.in_channels, p.out_channels, p.kernel_size) for p in net.side_prep] == [
        (width, 16, (3, 3)) for width in (128, 256, 512, 512)
    ]
    # One 1 x 1 convolution of 64 channels, cut into the parts that see one side output each; one bias.
    assert [(f.in_channels, f.out_channels, f.kernel_size) for f in net.fuse] == [(16, 2, (1, 1))] * 4
    assert [f.bias is not None for f in net.fuse] == [True, False, False, False]
    assert sum(p.numel() for p in net.stages.parameters()) == 14_714_688  # VGG16 without its classifier
    assert 14.7e6 < sum(p.numel() for p in net.parameters()) < 14.95e6
    assert net.stride == 16


def test_lite_is_compact() -> None:
    net = OSVOSNet(NetworkConfig.lite())
    assert sum(p.numel() for p in net.parameters()) < 1.6e6
    assert net.stride == 16


def test_only_a_parent_in_training_has_batch_norm_and_deep_supervision() -> None:
    trained, bare = _network(NARROW_VGG16, batch_norm=True), _network(NARROW_VGG16)
    for net, there in ((trained, True), (bare, False), (trained.fold(), False)):
        assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) is there
        assert bool(len(net.score_dsn)) is there
    assert trained.fold().state_dict().keys() == bare.state_dict().keys()


@each_network
def test_a_preview_trains_heads_only(config: NetworkConfig) -> None:
    net = _network(config)
    names = {id(p): name for name, p in net.named_parameters()}
    heads = {names[id(p)] for p in net.head_parameters()}
    assert heads == {name for name in names.values() if not name.startswith("stages.")}


# -- fuse and upsampling -----------------------------------------------------------------------


def test_fuse_and_upsampling_commute() -> None:
    net = _network(NARROW_VGG16)
    sides = net.side_outputs(net.features(_noise(2, 3, 64, 48)))
    assert [s.shape[-2:] for s in sides] == [(32, 24), (16, 12), (8, 6), (4, 3)]
    upsampled = [F.interpolate(side, size=(64, 48), mode="bilinear") for side in sides]
    weight = torch.cat([fuse.weight for fuse in net.fuse], 1)
    published = F.conv2d(torch.cat(upsampled, 1), weight, net.fuse[0].bias)  # 1 x 1, at full resolution
    torch.testing.assert_close(net.fused(sides, (64, 48)), published, atol=1e-5, rtol=1e-5)
    by_side = sum(fuse(side) for fuse, side in zip(net.fuse, upsampled, strict=True))
    torch.testing.assert_close(by_side, published, atol=1e-5, rtol=1e-5)


def test_upsampling_is_that_of_the_fixed_transposed_convolutions() -> None:
    side = _noise(1, 1, 6, 5)
    for stride in (2, 4, 8, 16):
        centre = stride - 0.5
        line = 1 - (torch.arange(2 * stride) - centre).abs() / stride
        kernel = (line[:, None] * line)[None, None]
        padded = F.pad(side, (1, 1, 1, 1), mode="replicate")
        published = F.conv_transpose2d(padded, kernel, stride=stride)
        cut = stride // 2 + stride
        published = published[..., cut : cut + 6 * stride, cut : cut + 5 * stride]
        torch.testing.assert_close(F.interpolate(side, scale_factor=stride, mode="bilinear"), published)


# -- one channel for three ------------------------------------------------------------------------


@each_network
@pytest.mark.parametrize("intensities", ["robust", "imagenet-v1"])
def test_one_channel_stands_for_three_alike(config: NetworkConfig, intensities: str) -> None:
    net = _network(config.replace(intensities=intensities)).double()
    grey = _noise(2, 1, 37, 50).double()
    gradients = []
    for x in (grey, grey.expand(-1, 3, -1, -1)):
        net.zero_grad()
        logits = net(x)
        logits.square().sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
        if len(gradients) == 1:
            alone = logits.detach()
    torch.testing.assert_close(alone, logits.detach())
    assert len(gradients[0]) == len(gradients[1])
    for one, three in zip(*gradients, strict=True):
        torch.testing.assert_close(one, three)


# -- sizes ---------------------------------------------------------------------------------------


@each_network
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 7), (33, 50), (64, 48)])
def test_logits_have_the_size_of_the_frame(config: NetworkConfig, size: tuple[int, int]) -> None:
    logits = _network(config)(_noise(1, 3, *size))
    assert logits.shape == (1, 2, *size)
    assert logits.isfinite().all()


def test_padding_mirrors_and_leaves_a_fitting_frame_alone() -> None:
    net = _network(NetworkConfig.tiny())
    x = _noise(1, 3, 14, 16)
    padded = net.pad(x)
    assert padded.shape == (1, 3, 16, 16)
    assert torch.equal(padded[..., 14:, :], x[..., [12, 11], :])
    assert net.pad(padded) is padded


@each_network
def test_what_is_padded_hardly_matters(config: NetworkConfig) -> None:
    """A frame cut to an odd size gives the same logits far from the cut."""
    net = _network(config)
    width = net.stride * (net.halo // net.stride + 4)
    x = _noise(1, 3, net.stride, width)
    near = width - net.halo - net.stride
    torch.testing.assert_close(net(x[..., :-3])[..., :near], net(x)[..., :near], atol=1e-5, rtol=1e-5)


# -- intensities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mean", "std"),
    [
        ("imagenet-features", (122.679, 116.669, 104.007), (1, 1, 1)),
        ("imagenet-v1", (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    ],
)
def test_the_first_layer_gets_what_its_weights_were_trained_on(
    kind: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    net = _network(NARROW_VGG16.replace(intensities=kind))
    seen: list[Tensor] = []
    net.stages[0][0][0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    raw = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    net(raw / 127.5 - 1)  # an 8-bit frame, as `IntensityScale` of kind "display" makes it
    expected = (raw - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(seen[0], expected, atol=1e-3, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["imagenet-features", "imagenet-v1"])
def test_intensities_are_those_that_torchvision_gives_its_weights(kind: str) -> None:
    from torchvision.models import VGG16_Weights

    theirs = VGG16_Weights[kind.replace("imagenet-", "imagenet1k_").upper()].transforms()
    net = _network(NARROW_VGG16.replace(intensities=kind))
    seen: list[Tensor] = []
    net.stages[0][0][0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    raw = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    net(raw / 127.5 - 1)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (theirs.mean, theirs.std))
    grey_level = 1 / 255 / std  # torchvision rounds the mean that the paper subtracts
    assert bool(((seen[0] - (raw / 255 - mean) / std).abs() < 0.5 * grey_level).all())


# -- folding ---------------------------------------------------------------------------------------


@each_network
def test_folded_equals_unfolded_after_training(config: NetworkConfig) -> None:
    torch.manual_seed(0)
    net = OSVOSNet(config, batch_norm=True).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(6):
        x = 1.5 * _noise(4, 3, 32, 32, seed=step) + 0.5
        target = (x.mean(1, keepdim=True) > 0.5).float().expand(-1, 2, -1, -1)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(net(x), target).backward()
        optimiser.step()
    net.eval()
    folded = net.fold()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        x = _noise(1, 3, 48, 40, seed=9)
        torch.testing.assert_close(folded(x), net(x), atol=2e-5, rtol=1e-4)
    statistics = [m.running_mean for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(mean.abs().sum() > 0 for mean in statistics)  # there was something to fold


def test_folding_leaves_the_network_in_training_as_it_is() -> None:
    net = _network(NetworkConfig.tiny(), batch_norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = net.fold()
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# -- reach -----------------------------------------------------------------------------------------


def _all_positive(net: OSVOSNet) -> OSVOSNet:
    """Give every path through the network a positive weight: what can have an influence has one."""
    net = net.double()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
                if module.bias is not None:
                    module.bias.zero_()
    return net


@torch.no_grad()
@pytest.mark.parametrize("axis", [2, 3])
@each_network
def test_a_pixel_has_no_influence_beyond_the_halo(config: NetworkConfig, axis: int) -> None:
    net = _all_positive(_network(config))
    assert net.halo % net.stride == 0
    first = net.halo + net.stride
    length = 2 * first + net.stride
    strips = torch.ones(net.stride, 3, net.stride, length, dtype=torch.float64)
    changed = strips.clone()
    for i in range(net.stride):  # a pixel at each place within a stride
        changed[i, :, :, first + i] = 100.0
    if axis == 2:
        strips, changed = strips.mT, changed.mT
    influence = (net(changed) != net(strips)).any(1).any(4 - axis)  # (N, length)
    reach = [int((row.nonzero().flatten() - first - i).abs().max()) for i, row in enumerate(influence)]
    assert max(reach) <= net.halo
    assert max(reach) > net.halo - 3 * net.stride  # nor is it wastefully wide


@torch.no_grad()
@each_network
def test_a_shift_by_the_stride_shifts_the_logits(config: NetworkConfig) -> None:
    net = _network(config).double()
    length = 2 * net.halo + 4 * net.stride
    x = _noise(1, 3, 2 * net.stride, length).double()
    whole, shifted = net(x), net(x[..., net.stride :])
    inner = slice(net.halo + net.stride, length - net.halo)
    torch.testing.assert_close(
        shifted[..., inner.start - net.stride : inner.stop - net.stride], whole[..., inner], atol=1e-12, rtol=1e-9
    )
    assert whole[..., inner].std() > 0


# -- other heads -------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["lite", "tiny", "vgg16"])
def test_other_heads_keep_the_weights_of_those_that_stay_and_begin_as_foreground(preset: str) -> None:
    net = OSVOSNet(NetworkConfig.preset(preset)).eval()
    other = net.with_heads(("foreground-3", "foreground-7", "contour", "distance")).eval()
    x = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        was, now = net(x), other(x)
    assert now.shape[1] == 4
    for i in (0, 1, 3):
        torch.testing.assert_close(now[:, i], was[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(now[:, 2], was[:, 1], atol=1e-5, rtol=1e-4)
    assert other.config.foreground == (0, 1)
    back = other.with_heads(("foreground", "contour")).eval()
    with torch.no_grad():
        torch.testing.assert_close(back(x), was, atol=1e-5, rtol=1e-4)


def test_pixels_of_two_by_two_logits_have_the_gradients_of_what_they_stand_for() -> None:
    """Fine logits are shuffled, coarse ones repeated: by hand-written passes, against torch's own."""
    rng = torch.Generator().manual_seed(0)
    fine = torch.randn(2, 12, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(2, 3, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    slow = F.pixel_shuffle(fine + coarse.repeat_interleave(4, 1), 2)
    torch.testing.assert_close(_Pixels.apply(fine, coarse), slow)
    assert torch.autograd.gradcheck(_Pixels.apply, (fine, coarse))


def test_under_autocast_logits_are_summed_in_float32() -> None:
    net = OSVOSNet(NetworkConfig.tiny())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert fast_dtype(torch.zeros(1)) == torch.bfloat16
        assert net(torch.zeros(1, 3, 32, 32)).dtype == torch.float32
    assert fast_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64
