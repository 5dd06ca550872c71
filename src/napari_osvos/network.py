"""The network of One-Shot Video Object Segmentation, in two sizes.

`OSVOSNet` is the fully convolutional network of Caelles et al., "One-Shot Video Object
Segmentation", CVPR 2017: stages of 3 x 3 convolutions between 2 x 2 max-poolings, a *side output*
from each stage, and a linear *fuse* of all side outputs at full resolution. One class, driven by
`NetworkConfig`, is both the published VGG16 (``vgg16``) and the compact default (``lite``).

Fuse and bilinear upsampling are both linear and commute: the fuse is applied to each side output
at its own stride, and only its few logits are upsampled. The wide full-resolution tensor of the
paper is never made.

Three things differ in ``lite``: the entry turns 2 x 2 pixels into channels, so that no convolution
runs at full resolution; each side output receives the next coarser one through a nonlinearity
(top-down, as in feature pyramids), because a purely linear fuse leaves borders blurred; and the
finest side output yields 2 x 2 logits per position, which restores full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_osvos.config import NetworkConfig

# RGB mean of ImageNet in 0..255 as the published network subtracts it (torchvision has 123, 117, 104 for
# IMAGENET1K_FEATURES), and mean and deviation in 0..1 of IMAGENET1K_V1.
_FEATURES_MEAN = (122.679, 116.669, 104.007)
_V1_MEAN, _V1_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EntryConvolution(nn.Conv2d):
    """Convolution of three channels of intensities; it takes one for three alike, with a third of the work."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what the convolution gives; the input has its channels or a third of them."""
        if input.shape[1] == self.in_channels:
            return super().forward(input)
        weight = self.weight.unflatten(1, (3, -1)).sum(1).contiguous(memory_format=torch.channels_last)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class ConvBlock(nn.Sequential):
    """3 x 3 convolution and ReLU, with BatchNorm between them while a parent is trained."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool, entry: bool = False) -> None:
        convolution = EntryConvolution if entry else nn.Conv2d
        layers: list[nn.Module] = [convolution(inputs, outputs, 3, padding=1, bias=not batch_norm)]
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)
        if not layers[0].weight.is_meta:  # there torch would import sympy for it, which takes seconds
            nn.init.kaiming_normal_(layers[0].weight, nonlinearity="relu")  # type: ignore[arg-type]
        if not batch_norm:
            nn.init.zeros_(layers[0].bias)  # type: ignore[arg-type]

    def folded(self) -> ConvBlock:
        """Return the block without BatchNorm that computes what this one computes in evaluation."""
        convolution = self[0]
        assert isinstance(convolution, nn.Conv2d)
        entry = isinstance(convolution, EntryConvolution)
        block = ConvBlock(convolution.in_channels, convolution.out_channels, batch_norm=False, entry=entry)
        if isinstance(self[1], nn.BatchNorm2d):
            fused = nn.utils.fuse_conv_bn_eval(convolution.eval(), self[1].eval())
            block[0].load_state_dict(fused.state_dict())
        else:
            block[0].load_state_dict(convolution.state_dict())
        return block


class OSVOSNet(nn.Module):
    """Stages, side outputs and a commuted fuse.

    Parameters
    ----------
    config : NetworkConfig
        Topology.
    batch_norm : bool
        Put a BatchNorm behind each convolution. Only a parent in training has them; `fold` turns
        it into the network that is saved, fine-tuned and run.
    deep_supervision : bool, optional
        Whether each side output can be scored by itself (`deep_scores`), as in the training of a parent; by default
        where there is BatchNorm.
    """

    input_mean: Tensor
    input_std: Tensor

    def __init__(self, config: NetworkConfig, batch_norm: bool = False, deep_supervision: bool | None = None) -> None:
        super().__init__()
        self.config = config
        self.batch_norm = batch_norm
        channels = 12 if config.stem == "unshuffle" else 3
        self.stages = nn.ModuleList()
        for stage, (width, count) in enumerate(zip(config.widths, config.convolutions, strict=True)):
            blocks = []
            for k in range(count):
                blocks.append(ConvBlock(channels, width, batch_norm, entry=stage == k == 0))
                channels = width
            self.stages.append(nn.Sequential(*blocks))
        sides = config.widths[config.first_side :]
        d, heads = config.side_channels, len(config.heads)
        if config.top_down:
            self.lateral = nn.ModuleList(nn.Conv2d(width, d, 1) for width in sides)
            self.side_prep = nn.ModuleList(ConvBlock(d, d, batch_norm) for _ in sides)
        else:
            self.lateral = nn.ModuleList()
            self.side_prep = nn.ModuleList(nn.Conv2d(width, d, 3, padding=1) for width in sides)
        self._published_edges = config.edges == "published"
        # The finest side output of an unshuffled entry yields 2 x 2 logits per position.
        self._subpixel = config.stem == "unshuffle" and config.first_side == 0
        self.fuse = nn.ModuleList()
        for i in range(len(sides)):
            if i == 0 and self._subpixel:
                self.fuse.append(nn.Conv2d(d, 4 * heads, 3, padding=1))
            else:
                self.fuse.append(nn.Conv2d(d, heads, 1, bias=i == 0))
        deep = batch_norm if deep_supervision is None else deep_supervision
        self.score_dsn = nn.ModuleList(nn.Conv2d(d, heads, 1) for _ in sides if deep)
        mean, std = torch.zeros(3), torch.ones(3)
        if config.intensities == "imagenet-features":
            # Input z in [-1, 1] stands for 127.5 (z + 1) in 0..255.
            mean, std = (torch.tensor(_FEATURES_MEAN) - 127.5) / 127.5, torch.full((3,), 1 / 127.5)
        elif config.intensities == "imagenet-v1":
            mean, std = 2 * torch.tensor(_V1_MEAN) - 1, 2 * torch.tensor(_V1_STD)
        self.register_buffer("input_mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("input_std", std.view(1, 3, 1, 1), persistent=False)

    @property
    def stride(self) -> int:
        """Pixels by which an input may be shifted without any other change of its output."""
        return int(2 ** (len(self.config.widths) - 1)) * (2 if self.config.stem == "unshuffle" else 1)

    @property
    def halo(self) -> int:
        """Pixels of context, a multiple of `stride`, beyond which the input has no influence."""
        step = 2 if self.config.stem == "unshuffle" else 1
        reach = step
        for i, count in enumerate(self.config.convolutions):
            reach += (step if i else 0) + count * step  # pooling, then convolutions
            step *= 2
        while step > 1:
            step //= 2
            reach += 2 * step  # side output, then upsampling
            if not self.config.top_down:
                break  # the coarsest side output reaches farthest, and sees no other
        return -(-reach // self.stride) * self.stride

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the features of every stage that has a side output, finest first.

        Parameters
        ----------
        x : Tensor
            (N, 3, H, W), as `pad` returns it; normalised intensities (see `napari_osvos.intensity`). (N, 1, H, W)
            stands for three channels alike.

        Returns
        -------
        list of Tensor
            (N, width, H / s, W / s) for each stride s, rounded up.
        """
        x = (x - self.input_mean) / self.input_std if self.config.intensities != "robust" else x
        # Sorting pixels is quicker within channels_last, and the quicker the fewer bytes they have.
        x = x.to(fast_dtype(x)).contiguous(memory_format=torch.channels_last)
        if self.config.stem == "unshuffle":
            x = F.pixel_unshuffle(x, 2)  # (N, 12 or, of one channel, 4, H/2, W/2)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for i, stage in enumerate(self.stages):
            if i:
                x = F.max_pool2d(x, 2, ceil_mode=self._published_edges)
            x = stage(x)  # (N, widths[i], H/s, W/s)
            features.append(x)
        return features[self.config.first_side :]

    def side_outputs(self, features: list[Tensor]) -> list[Tensor]:
        """Return the side outputs of `features`, finest first: (N, side_channels, H / s, W / s) for each stride s."""
        if not self.config.top_down:
            return [prep(f) for prep, f in zip(self.side_prep, features, strict=True)]
        sides: list[Tensor] = []
        for i in reversed(range(len(features))):
            y = self.lateral[i](features[i])
            if sides:
                y = y + F.interpolate(sides[0], scale_factor=2, mode="bilinear")
            sides.insert(0, self.side_prep[i](y))
        return sides

    def fused(self, sides: list[Tensor], size: tuple[int, int], whole: tuple[int, int] | None = None) -> Tensor:
        """Return the logits (N, heads, H, W) of side outputs, upsampled to `size` and summed; `whole` as there."""
        # With sub-pixel logits, the coarser sides are summed at the finest side's stride, where they
        # apply to all 2 x 2 logits of a position: nothing but the result exists at full resolution.
        grid = (sides[0].shape[-2], sides[0].shape[-1]) if self._subpixel else size
        fine: Tensor | None = None
        total: Tensor | None = None
        for i, (fuse, side) in enumerate(zip(self.fuse, sides, strict=True)):
            assert isinstance(fuse, nn.Conv2d)
            if i == 0 and self._subpixel:
                fine = fuse(side)  # (N, 4 heads, H/2, W/2)
                continue
            if self._published_edges:  # what is faded out is the side output, not the bias of the fuse
                logits = self.upsampled(_summable(F.conv2d(side, fuse.weight)), i, grid, whole)
                if fuse.bias is not None:
                    logits = logits + fuse.bias.view(1, -1, 1, 1)
            else:
                # A few logits are quicker upsampled, and summed, in float32: no vector of bfloat16 is filled by them.
                logits = self.upsampled(_summable(fuse(side)), i, grid)
            total = logits if total is None else total + logits
        if fine is None:
            assert total is not None
            return total
        if total is None:
            return F.pixel_shuffle(_summable(fine), 2)
        pixels: Tensor = _Pixels.apply(fine, total)
        return pixels

    def upsampled(
        self, logits: Tensor, side: int, size: tuple[int, int], whole: tuple[int, int] | None = None
    ) -> Tensor:
        """Return logits of a side output (0 is the finest) at `size`, by bilinear interpolation.

        With published edges it is what the fixed transposed convolutions of the paper compute, cut out of their middle:
        that of the `whole` frame, where these are the logits of a tile of it.
        """
        if not self._published_edges:
            return logits if logits.shape[-2:] == size else F.interpolate(logits, size=size, mode="bilinear")
        stride = 2 ** (side + self.config.first_side)
        # Beyond the edge there are zeros, and half a stride of them is reached by the kernels.
        logits = F.interpolate(F.pad(logits, (1, 1, 1, 1)), scale_factor=stride, mode="bilinear")
        # as many positions as poolings leave, which round up
        top, left = (stride // 2 + ((-(-to // stride) + 1) * stride - to) // 2 for to in whole or size)
        return logits[..., top : top + size[0], left : left + size[1]]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits.

        Parameters
        ----------
        x : Tensor
            (N, 3, H, W) float, any H and W; normalised intensities. (N, 1, H, W) stands for three channels alike.

        Returns
        -------
        Tensor
            (N, heads, H, W), one logit per head in the order of ``config.heads``.
        """
        height, width = x.shape[-2:]
        x = self.pad(x)
        logits = self.fused(self.side_outputs(self.features(x)), (x.shape[-2], x.shape[-1]))
        return logits[..., :height, :width]

    def pad(self, x: Tensor) -> Tensor:
        """Pad below and to the right, by reflection, to multiples of `stride`; not at all with published edges."""
        if self._published_edges:
            return x
        height, width = x.shape[-2:]
        bottom, right = -height % self.stride, -width % self.stride
        if not (bottom or right):
            return x
        # Reflection needs more pixels than it adds; frames smaller than that repeat their edge.
        mode = "reflect" if bottom < height and right < width else "replicate"
        return F.pad(x, (0, right, 0, bottom), mode=mode)

    def deep_scores(self, sides: list[Tensor]) -> list[Tensor]:
        """Return the logits (N, heads, H / s, W / s) of each side output by itself."""
        return [score(side) for score, side in zip(self.score_dsn, sides, strict=True)]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return what `preview` trains: side outputs and fuse; the trunk stays."""
        modules = [*self.lateral, *self.side_prep, *self.fuse]
        return [p for module in modules for p in module.parameters()]

    def with_edges(self, edges: str) -> Self:
        """Return a copy with the same weights and other `NetworkConfig.edges`.

        Raises
        ------
        ValueError
            If the topology does not have them.
        """
        net = type(self)(self.config.replace(edges=edges), self.batch_norm, len(self.score_dsn) > 0)
        net = net.to(next(self.parameters())).to(memory_format=torch.channels_last)  # its device and dtype
        net.load_state_dict(self.state_dict())
        return net

    def with_heads(self, heads: Sequence[str]) -> Self:
        """Return a copy with other heads on the same trunk and side outputs.

        A head that is there keeps its weights; a new one begins with those of the foreground.

        Parameters
        ----------
        heads : sequence of str
            As `NetworkConfig.heads`.
        """
        net = type(self)(self.config.replace(heads=tuple(heads)), self.batch_norm)
        net.load_state_dict({k: v for k, v in self.state_dict().items() if not k.startswith("fuse.")}, strict=False)
        mine = self.config.heads
        origin = [mine.index(head) if head in mine else self.config.foreground[0] for head in heads]
        for i, (old, new) in enumerate(zip(self.fuse, net.fuse, strict=True)):
            assert isinstance(old, nn.Conv2d)
            per_head = 4 if i == 0 and self._subpixel else 1
            rows = [per_head * o + k for o in origin for k in range(per_head)]
            new.load_state_dict({k: v[rows] for k, v in old.state_dict().items()})
        device = next(self.parameters()).device
        return net.to(device).to(memory_format=torch.channels_last)

    def fold(self) -> OSVOSNet:
        """Return the same network with each BatchNorm folded into its convolution.

        Deep supervision is left behind. In evaluation both compute the same up to rounding.
        """
        net = OSVOSNet(self.config, batch_norm=False)
        for mine, its in zip(self.stages, net.stages, strict=True):
            assert isinstance(mine, nn.Sequential)
            assert isinstance(its, nn.Sequential)
            for i, block in enumerate(mine):
                assert isinstance(block, ConvBlock)
                its[i] = block.folded()
        for i, prep in enumerate(self.side_prep):
            if isinstance(prep, ConvBlock):
                net.side_prep[i] = prep.folded()
            else:
                net.side_prep[i].load_state_dict(prep.state_dict())
        net.lateral.load_state_dict(self.lateral.state_dict())
        net.fuse.load_state_dict(self.fuse.state_dict())
        device = next(self.parameters()).device
        return net.to(device).to(memory_format=torch.channels_last).eval()


def fast_dtype(x: Tensor) -> torch.dtype:
    """Return the precision that convolutions will compute in on the device of `x`: that of autocast where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _summable(logits: Tensor) -> Tensor:
    """Return logits in float32, or float64 if they have it."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class _Pixels(torch.autograd.Function):
    """2 x 2 logits of each position, and what applies to all four, become pixels: one pass each way.

    The sum over a position's four pixels, which backward consists of, is slow by what autograd would make of it.
    """

    @staticmethod
    def forward(ctx: Any, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return logits (N, heads, 2 h, 2 w), of the precision of `coarse`.

        Parameters
        ----------
        ctx
            Of autograd.
        fine : Tensor
            (N, 4 heads, h, w), as `torch.nn.functional.pixel_shuffle` wants them.
        coarse : Tensor
            (N, heads, h, w) float32 or float64.
        """
        ctx.dtype = fine.dtype
        n, channels, height, width = fine.shape
        heads = channels // 4
        four = fine.permute(0, 2, 3, 1).reshape(n, height, width, heads, 2, 2)
        four = four + coarse.permute(0, 2, 3, 1)[..., None, None]
        return four.permute(0, 3, 1, 4, 2, 5).reshape(n, heads, 2 * height, 2 * width)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of both."""
        fine = F.pixel_unshuffle(gradient.to(ctx.dtype), 2).contiguous(memory_format=torch.channels_last)
        return fine, 4 * F.avg_pool2d(gradient, 2)
