"""Parent networks: what fine-tuning starts from, bundled or in a file; `napari_osvos.parent_training` makes them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch

from napari_osvos.checkpoint import load_network, save_tensors, weights_digest
from napari_osvos.config import NetworkConfig
from napari_osvos.network import OSVOSNet


class ParentNetwork:
    """A network that tells objects from background, and where it comes from.

    Parameters
    ----------
    net : OSVOSNet
        Without BatchNorm.
    card : dict
        Provenance: name, data, recipe, scores; plain data.
    """

    def __init__(self, net: OSVOSNet, card: dict[str, Any] | None = None) -> None:
        self.net = net.eval()
        self.card = dict(card or {})

    @property
    def name(self) -> str:
        """Name of the parent, such as ``lite``."""
        return str(self.card.get("name", self.net.config.name))

    @classmethod
    def bundled(cls, name: str = "lite") -> ParentNetwork:
        """Return a parent that comes with the package.

        Raises
        ------
        ValueError
            If there is none of this name; the message lists them.
        """
        names = cls.bundled_names()
        if name not in names:
            raise ValueError(f"There is no bundled parent {name!r}; there are {', '.join(names)}.")
        with resources.as_file(resources.files("napari_osvos") / "parents" / f"{name}.safetensors") as path:
            return cls.load(path)

    @staticmethod
    def bundled_names() -> list[str]:
        """Return the names of the bundled parents."""
        folder = resources.files("napari_osvos") / "parents"
        return sorted(f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors"))

    @classmethod
    def load(cls, path: str | Path) -> ParentNetwork:
        """Read a parent from a file.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing, damaged, or does not hold a parent.
        """
        net, header, _ = load_network(path, "parent")
        card = header.get("card") or {}
        if not isinstance(card, dict):
            raise ValueError(f"{path} is damaged: its card is {card!r}, which is no table.")
        return cls(net.to(memory_format=torch.channels_last), card)

    @classmethod
    def random(cls, config: NetworkConfig | None = None, seed: int = 0) -> ParentNetwork:
        """Return an untrained network, for comparison: what fine-tuning reaches without a parent."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = OSVOSNet(config or NetworkConfig.lite()).to(memory_format=torch.channels_last)
        return cls(net, {"name": "random", "seed": seed})

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the parent to a file; by default in half precision."""
        tensors = {name: value.to(dtype) for name, value in self.net.state_dict().items()}
        save_tensors(path, tensors, {"network": self.net.config.to_dict(), "card": self.card}, "parent")

    def digest(self) -> str:
        """Return the SHA-256 of the weights."""
        return weights_digest(self.net.state_dict())
