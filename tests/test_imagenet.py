"""The base network: VGG16 as torchvision has it, out of made files; nothing is fetched, nothing in a file is run."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import vgg16
from toy_clip import quick, toy_clip, toy_frames

from napari_osvos import imagenet
from napari_osvos.config import NetworkConfig, ParentConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.imagenet import load_base, split_base
from napari_osvos.network import OSVOSNet
from napari_osvos.parent import ParentNetwork
from napari_osvos.parent_training import ParentTraining, train_parent
from napari_osvos.stills import still_source

# Which weight of torchvision's sequence is which of ours, written out.
PLACES = {
    **{0: (0, 0), 2: (0, 1), 5: (1, 0), 7: (1, 1), 10: (2, 0), 12: (2, 1), 14: (2, 2)},
    **{17: (3, 0), 19: (3, 1), 21: (3, 2), 24: (4, 0), 26: (4, 1), 28: (4, 2)},
}


@pytest.fixture(scope="module")
def trunk() -> torch.nn.Module:
    """The convolutions of torchvision's VGG16, with random weights and without the large classifier."""
    torch.manual_seed(3)
    with torch.device("meta"):
        net = vgg16(weights=None)
    return net.features.to_empty(device="cpu").apply(_random)


def _random(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Conv2d):
        module.reset_parameters()


@pytest.fixture(scope="module")
def weights(trunk: torch.nn.Module) -> dict[str, Tensor]:
    return {f"features.{name}": value for name, value in trunk.state_dict().items()}


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "vgg16.pth"
    torch.save({**weights, "classifier.0.weight": torch.full((2, 2), torch.nan)}, path)
    return path


@pytest.fixture
def net() -> OSVOSNet:
    torch.manual_seed(0)
    return OSVOSNet(NetworkConfig.vgg16())


@torch.no_grad()
def test_the_stages_compute_what_torchvisions_do(net: OSVOSNet, trunk: torch.nn.Module, file: Path) -> None:
    load_base(net, "imagenet-v1", file)
    x = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    wanted, y = [], x
    for layer in trunk[:-1]:
        if isinstance(layer, torch.nn.MaxPool2d):
            wanted.append(y)
        y = layer(y)
    for found, expected in zip(net.features(x), [*wanted[1:], y], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for place, (stage, block) in PLACES.items():
        assert torch.equal(net.stages[stage][block][0].weight, trunk[place].weight)


def test_safetensors_and_torchvisions_own_files_give_the_same(
    net: OSVOSNet, weights: dict[str, Tensor], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(weights, tmp_path / "vgg16.safetensors")
    load_base(net, "imagenet-v1", tmp_path / "vgg16.safetensors")
    first = {name: value.clone() for name, value in net.state_dict().items()}
    # what torchvision has fetched before, it takes from here
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for kind, name in (
        ("imagenet-v1", "vgg16-397923af.pth"),
        ("imagenet-features", "vgg16_features-amdegroot-88682ab5.pth"),
    ):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / "checkpoints" / name).hardlink_to(file)
        fresh = OSVOSNet(NetworkConfig.vgg16())
        load_base(fresh, kind)
        for stage in ("stages.0.0.0.weight", "stages.4.2.0.bias"):
            assert torch.equal(fresh.state_dict()[stage], first[stage])


def test_each_set_of_weights_brings_its_normalisation() -> None:
    for kind in ("imagenet-v1", "imagenet-features"):
        assert ParentConfig(network="vgg16", base=kind).topology().intensities == kind
    assert ParentConfig(network="vgg16").topology().intensities == "robust"
    with pytest.raises(ValueError, match="base is 'imagenet-v1', which fits the network vgg16, not lite"):
        ParentConfig(base="imagenet-v1")


def test_what_cannot_be_fetched_is_said_with_a_way_out(
    net: OSVOSNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(OSError, match=r"could not be fetched from https://.*no route to host.*name it: imagenet-v1:F"):
        load_base(net, "imagenet-v1")


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def test_code_in_a_file_is_never_run(net: OSVOSNet, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"features.0.weight": _Trap(str(sprung))}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(_Trap(str(sprung))))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ValueError, match=f"{name} holds no weights that can be read without running code"):
            load_base(net, "imagenet-v1", tmp_path / name)
    assert not sprung.exists()


def test_files_that_do_not_fit_are_named(net: OSVOSNet, weights: dict[str, Tensor], tmp_path: Path) -> None:
    small = {name: value for name, value in weights.items() if value.ndim == 1}
    torch.save(small, tmp_path / "few.pth")
    with pytest.raises(ValueError, match=r"few.pth lacks the weights '0.weight'.*VGG16 as torchvision has it\."):
        load_base(net, "imagenet-v1", tmp_path / "few.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list.pth holds something else than weights by name\."):
        load_base(net, "imagenet-v1", tmp_path / "list.pth")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_base(net, "imagenet-v1", tmp_path / "none.pth")


def test_a_base_is_a_kind_a_kind_with_a_file_or_a_file_of_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vgg.pth"
    file.write_bytes(b"weights")
    assert split_base("random") == ("random", None)
    assert split_base("imagenet-features") == ("imagenet-features", None)
    assert split_base(f"imagenet-v1:{file}") == ("imagenet-v1", file)
    with pytest.raises(ValueError, match=r"vgg.pth is none of torchvision's files.*write imagenet-features:.*vgg.pth"):
        split_base(str(file))
    begin = hashlib.sha256(b"weights").hexdigest()[:8]
    monkeypatch.setitem(imagenet.BASES, "imagenet-v1", ("IMAGENET1K_V1", begin))
    assert split_base(str(file)) == ("imagenet-v1", file)
    for text in ("imagenet", f"imagenet-v1:{tmp_path / 'none.pth'}"):
        with pytest.raises(FileNotFoundError, match="There is no base network"):
            split_base(text)


@pytest.mark.slow
def test_a_parent_begins_with_the_base_and_is_fine_tuned_as_published(
    file: Path, tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    frames, truth = toy_frames(2)
    recipe = ParentConfig.published().replace(base="imagenet-v1", steps=1, passes=1)
    stills = [
        still_source(frame, labels.astype(np.int32), None, 1.0) for frame, labels in zip(frames, truth, strict=True)
    ]
    begun = ParentTraining(recipe, stills, base=file)
    assert torch.equal(begun.net.stages[2][1][0].weight.contiguous(), weights["features.12.weight"])
    assert 0 < float(begun.net.side_prep[1].weight.detach().std()) < 2e-3
    (step,) = train_parent(recipe, stills, tmp_path, base=file)
    assert step.loss > 0
    assert not list(train_parent(recipe, stills, tmp_path))  # goes on without the file
    parent = ParentNetwork.load(tmp_path / "parent.safetensors")
    assert (parent.net.config.intensities, parent.net.config.edges) == ("imagenet-v1", "published")
    clip, painted, _ = toy_clip(2)
    segmenter = FineTuner(parent, quick(quality="published", steps=1), "cpu").fit(clip, painted)
    assert segmenter.net.config == parent.net.config
    assert [labels.shape for _, labels in segmenter.iter_labels(clip)] == [(40, 56)] * 2
