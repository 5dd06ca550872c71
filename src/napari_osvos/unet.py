"""A U-Net to compare with, trained from scratch: the same stages as an `OSVOSNet`, and a decoder instead of a fuse.

It is the network of Ronneberger et al.: two 3 x 3 convolutions at each scale; on the way up a 2 x 2 transposed
convolution, the skip connection beside it, and two convolutions more. As is usual now, convolutions are padded.
BatchNorm behind each is to be had; trained on one frame of simulated movies (`simulate_movie`: fluorescence, phase
contrast, DIC), the network did as well or better without. At a quarter of the published channels it has 1.9 M
parameters (``lite`` has 0.9 M); since it works at full resolution, an update takes more than twice as long.

It goes wherever an `OSVOSNet` goes: steps, losses, crops, heads and prediction are those of ours.

References
----------
Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from napari_osvos.config import NetworkConfig
from napari_osvos.network import ConvBlock, OSVOSNet
from napari_osvos.parent import ParentNetwork


class Rise(nn.Module):
    """One scale of the decoder: up by two, the skip connection beside it, two convolutions."""

    def __init__(self, coarse: int, fine: int, batch_norm: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, fine, 2, stride=2)
        self.mix = nn.Sequential(ConvBlock(2 * fine, fine, batch_norm), ConvBlock(fine, fine, batch_norm))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Return (N, fine, 2 H, 2 W) of (N, coarse, H, W) and the skip connection (N, fine, 2 H, 2 W)."""
        mixed: Tensor = self.mix(torch.cat([skip, self.up(coarse)], 1))
        return mixed


class UNet(OSVOSNet):
    """Stages as in an `OSVOSNet`, a decoder, and a 1 x 1 convolution to the heads.

    Parameters
    ----------
    config : NetworkConfig
        Its stages are the encoder; see `unet_config`.
    batch_norm : bool
        Put a BatchNorm behind each 3 x 3 convolution.

    Raises
    ------
    ValueError
        If the entry is not at full resolution.
    """

    def __init__(self, config: NetworkConfig, batch_norm: bool = False) -> None:
        if config.stem != "plain":
            raise ValueError(f"The entry of a U-Net is {config.stem!r}; it must be 'plain', at full resolution.")
        super().__init__(config, batch_norm)
        widths = config.widths
        # what makes side outputs of an OSVOSNet has no part here
        self.score_dsn = nn.ModuleList()
        self.side_prep = nn.ModuleList(Rise(coarse, fine, batch_norm) for fine, coarse in pairwise(widths))
        self.fuse = nn.ModuleList([nn.Conv2d(widths[0], len(config.heads), 1)])

    @property
    def halo(self) -> int:
        """Pixels of context, a multiple of `stride`, beyond which the input has no influence."""
        reach, step = 1, 1
        for i, count in enumerate(self.config.convolutions):
            reach += (step if i else 0) + count * step  # pooling, then convolutions
            step *= 2
        for i in range(len(self.side_prep)):
            reach += 3 * 2**i  # up, then two convolutions
        return -(-reach // self.stride) * self.stride

    def side_outputs(self, features: list[Tensor]) -> list[Tensor]:
        """Return what the decoder ends with, [(N, widths[0], H, W)]."""
        x = features[-1]
        for rise, skip in zip(reversed(self.side_prep), reversed(features[:-1]), strict=True):
            x = rise(x, skip)
        return [x]


def random_unet(config: NetworkConfig | None = None, seed: int = 0, batch_norm: bool = False) -> ParentNetwork:
    """Return an untrained U-Net to start from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = UNet(config or unet_config(), batch_norm).to(memory_format=torch.channels_last)
    return ParentNetwork(net, {"name": "random U-Net", "seed": seed})


def unet_config() -> NetworkConfig:
    """Return a U-Net of a quarter of the published channels: 1.9 M parameters, strides 1 to 16."""
    return NetworkConfig(
        name="unet",
        stem="plain",
        widths=(16, 32, 64, 128, 256),
        convolutions=(2, 2, 2, 2, 2),
        side_channels=16,
        top_down=False,
    )
