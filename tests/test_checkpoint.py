"""Weight files: bit-equal, atomic, and refused in one sentence when they are not what they should be."""

from __future__ import annotations

import json
import pickle
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from napari_osvos.checkpoint import (
    FORMAT,
    MOST_HEADER,
    VERSION,
    load_network,
    load_tensors,
    load_weights,
    pack_optimiser,
    read_header,
    save_tensors,
    unpack_optimiser,
    weights_digest,
)
from napari_osvos.config import NetworkConfig
from napari_osvos.labelling import LabelMeaning
from napari_osvos.network import OSVOSNet
from napari_osvos.optimiser import Muon
from napari_osvos.parent import ParentNetwork
from napari_osvos.segmenter import Segmenter

HEADER = {"network": NetworkConfig.tiny().to_dict(), "card": {"name": "é", "list": [1, 2.5, None, True]}}


def _net(seed: int = 0) -> OSVOSNet:
    torch.manual_seed(seed)
    return OSVOSNet(NetworkConfig.tiny())


def _weights(seed: int = 0) -> dict[str, Tensor]:
    return _net(seed).state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_tensors(path, _weights(), HEADER, "parent")
    return path


# -- there and back --------------------------------------------------------------------------------


def test_tensors_and_header_come_back_bit_equal(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "float32": torch.randn(3, 4, 5, 6, generator=generator),
        "odd": torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1e-45, torch.finfo(torch.float32).max]),
        "half": torch.randn(7, generator=generator).half(),
        "bfloat16": torch.randn(7, generator=generator).bfloat16(),
        "whole": torch.arange(5),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "channels_last": torch.randn(2, 3, 4, 5, generator=generator).contiguous(memory_format=torch.channels_last),
        "view": torch.randn(6, 6, generator=generator)[::2, 1:].T,
    }
    tensors["shared"] = tensors["float32"]
    path = tmp_path / "all.safetensors"
    save_tensors(path, tensors, HEADER, "checkpoint")
    found, header = load_tensors(path, "checkpoint")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert torch.equal(found[name], value)
    assert torch.equal(found["odd"].view(torch.int32), tensors["odd"].view(torch.int32))
    assert header == HEADER
    assert read_header(path) == ("checkpoint", HEADER)
    assert weights_digest(found) == weights_digest(tensors)


def test_a_network_comes_back_bit_equal(file: Path) -> None:
    net, header, _ = load_network(file, "parent")
    assert net.config == NetworkConfig.tiny()
    assert header == HEADER
    assert all(torch.equal(value, _weights()[name]) for name, value in net.state_dict().items())


def test_what_was_read_does_not_hang_on_the_file(file: Path) -> None:
    tensors, _ = load_tensors(file, "parent")
    save_tensors(file, _weights(seed=1), HEADER, "parent")
    assert all(torch.equal(value, _weights()[name]) for name, value in tensors.items())


def test_the_digest_tells_values_names_shapes_and_dtypes_apart() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.ones(2)}
    digest = weights_digest(tensors)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert weights_digest(dict(reversed(tensors.items()))) == digest
    others: list[dict[str, Tensor]] = [
        tensors | {"a": torch.arange(6.0) + 1e-6},
        tensors | {"a": torch.arange(6.0).view(2, 3)},
        tensors | {"a": torch.arange(6.0).double()},
        {"c": tensors["a"], "b": tensors["b"]},
    ]
    assert digest not in {weights_digest(other) for other in others}


def test_the_state_of_an_optimiser_comes_back(tmp_path: Path) -> None:
    def run(first: int, last: int, optimiser: Muon, net: OSVOSNet) -> None:
        for step in range(first, last):
            x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(step))
            optimiser.zero_grad()
            net(x).square().mean().backward()
            optimiser.step()

    def make(net: OSVOSNet) -> Muon:
        return Muon(net.parameters(), lr=1e-2, weight_decay=1e-2)

    whole, parted = _net(), _net()
    run(0, 6, make(whole), whole)
    before = make(parted)
    run(0, 3, before, parted)
    before.param_groups[0]["lr"] = 1e-2
    tensors, groups = pack_optimiser(before)
    save_tensors(tmp_path / "optimiser", tensors, {"groups": groups}, "checkpoint")
    tensors, header = load_tensors(tmp_path / "optimiser", "checkpoint")
    after = make(parted)
    unpack_optimiser(after, tensors, header["groups"])
    run(3, 6, after, parted)
    assert weights_digest(parted.state_dict()) == weights_digest(whole.state_dict())


# -- writing ---------------------------------------------------------------------------------------


def test_a_file_of_the_same_name_is_replaced_and_nothing_else_is_left(file: Path) -> None:
    save_tensors(file, _weights(seed=1), HEADER, "parent")
    assert torch.equal(load_tensors(file, "parent")[0]["fuse.1.weight"], _weights(seed=1)["fuse.1.weight"])
    assert [p.name for p in file.parent.iterdir()] == [file.name]


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no limit on the size of a file")
def test_a_write_that_fails_half_way_leaves_the_old_file(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(OSError, match=re.escape(f"Cannot write {file}: ")), _full_disk(len(before) // 2):
        save_tensors(file, _weights(seed=1), HEADER, "parent")
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_header_that_is_no_plain_data_leaves_the_old_file(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(TypeError):
        save_tensors(file, _weights(), {"set": {1, 2}}, "parent")
    assert file.read_bytes() == before


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x.safetensors", tmp_path / "folder"):
        with pytest.raises(OSError, match=re.escape(f"Cannot write {path}: ")):
            save_tensors(path, _weights(), HEADER, "parent")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_missing_folder_is_made_and_others_may_read_the_file(tmp_path: Path) -> None:
    path, other = tmp_path / "new" / "folder" / "x.safetensors", tmp_path / "other"
    save_tensors(path, _weights(), HEADER, "parent")
    other.touch()
    assert read_header(path)[0] == "parent"
    assert path.stat().st_mode == other.stat().st_mode


# -- files that are not what they should be --------------------------------------------------------


def _about(**changes: str | None) -> dict[str, str]:
    about = {"format": FORMAT, "version": str(VERSION), "kind": "parent", "header": json.dumps(HEADER)}
    return {key: value for key, value in (about | changes).items() if value is not None}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _cut_in_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def _scramble_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8] + b"\xff" * 100 + path.read_bytes()[108:])


def _huge(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is no network")


class _Trap:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Trap()))


def _torch_file(path: Path) -> None:
    torch.save({"trap": _Trap(), "weights": _weights()}, path)


@pytest.mark.parametrize(
    "damage",
    [_cut, _cut_in_header, _scramble_header, _huge, _empty, _text, _pickle, _torch_file],
    ids=lambda d: d.__name__,
)
def test_a_damaged_or_pickled_file_is_refused(file: Path, damage: Callable[[Path], None]) -> None:
    damage(file)
    for read in (lambda: load_tensors(file, "parent"), lambda: read_header(file), lambda: ParentNetwork.load(file)):
        with pytest.raises(ValueError, match=f"^{re.escape(str(file))} is damaged or not a file of napari-osvos: "):
            read()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": None}, "is a safetensors file, but not one of napari-osvos."),
        ({"format": "another"}, "is a safetensors file, but not one of napari-osvos."),
        ({"version": "2"}, "has format version 2; this program reads up to 1. Please update it."),
        ({"version": "next"}, "has format version next; this program reads up to 1. Please update it."),
        ({"version": None}, "is damaged or not a file of napari-osvos: 'version'"),
        ({"kind": None}, "is damaged or not a file of napari-osvos: 'kind'"),
        ({"header": None}, "is damaged or not a file of napari-osvos: 'header'"),
        ({"header": "null"}, "is damaged or not a file of napari-osvos: 'header'"),
        ({"header": "{"}, "is damaged or not a file of napari-osvos: "),
        ({"kind": "segmenter"}, "holds a segmenter; a parent is wanted here."),
    ],
    ids=lambda value: value if isinstance(value, str) else str(next(iter(value.items()))),
)
def test_a_foreign_newer_or_other_file_is_refused(
    tmp_path: Path, changes: dict[str, str | None], sentence: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(_weights(), path, metadata=_about(**changes))
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {sentence}')}"):
        load_tensors(path, "parent")


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    save_file(_weights(), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not one of napari-osvos"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize("load", [ParentNetwork.load, Segmenter.load, read_header])
def test_a_missing_file_or_a_folder_is_named(tmp_path: Path, load: Callable[[Path], Any]) -> None:
    path = tmp_path / "nowhere.osvos"
    with pytest.raises(FileNotFoundError, match=f"^There is no file {re.escape(str(path))}.$"):
        load(path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))} is a folder; name a file in it.$"):
        load(tmp_path)


@pytest.mark.parametrize(
    "network", [None, [1], {"name": "tiny", "colour": 3}, {"widths": [8, 8], "convolutions": [1]}, {"widths": "wide"}]
)
def test_a_header_without_a_network_is_refused(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "x.safetensors"
    for header in ({"network": network}, {}):
        save_tensors(path, _weights(), header, "parent")
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is damaged: its header describes no network"):
            ParentNetwork.load(path)


def test_a_header_without_what_a_segmenter_needs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.osvos"
    whole = {"network": NetworkConfig.tiny().to_dict(), "zoom": 1.0, "threshold": 0.5, "predict": {}, "provenance": {}}
    save_tensors(path, _weights(), whole, "segmenter")
    Segmenter.load(path, "cpu")
    for key in ("zoom", "threshold", "predict", "provenance"):
        for header in ({k: v for k, v in whole.items() if k != key}, whole | {key: 3} if key == "predict" else None):
            if header is None:
                continue
            save_tensors(path, _weights(), header, "segmenter")
            with pytest.raises(ValueError, match="its header lacks what a segmenter needs"):
                Segmenter.load(path, "cpu")


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ({"widths": [10**6] * 3}, "NetworkConfig.widths is"),
        ({"convolutions": [10**9] * 3}, "NetworkConfig.convolutions is"),
        ({"widths": [4096] * 12, "convolutions": [8] * 12}, "names a network of 14,"),
        ({"widths": [64] * 50, "convolutions": [1] * 50}, "NetworkConfig.widths has 50 entries"),
        ({"heads": ["foreground"] * 10**4}, "NetworkConfig.heads names 10000"),
        ([], "NetworkConfig is []; it must be a table of settings"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_network_beyond_all_memory_is_refused_before_it_is_made(tmp_path: Path, network: Any, sentence: str) -> None:
    path = tmp_path / "x.safetensors"
    asked = HEADER["network"] | network if network else network
    save_tensors(path, _weights(), {"network": asked}, "parent")
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        ParentNetwork.load(path)
    assert str(path) in str(refused.value)


def test_a_header_longer_than_any_of_ours_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(_weights(), path, metadata=_about(header=json.dumps("x" * MOST_HEADER)))
    with pytest.raises(ValueError, match=r"its header would have 16,7.* bytes, at most 16,777,216 are read"):
        read_header(path)


def test_a_header_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for text in ("[" * 10**5, "9" * 10**4):
        save_file(_weights(), path, metadata=_about(header=text))
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is damaged or not a file of napari-osvos: "):
            read_header(path)


@pytest.mark.parametrize(
    "change",
    [
        {"zoom": 1e9},
        {"zoom": float("nan")},
        {"threshold": -1},
        {"threshold": "0.5"},
        {"provenance": 3},
        {"meaning": []},
        {"meaning": LabelMeaning(values=(2**40,)).to_dict()},
        {"meaning": LabelMeaning(radius=1e300).to_dict()},
        {"predict": []},
    ],
    ids=str,
)
def test_strange_numbers_of_a_segmenter_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "x.osvos"
    whole = {"network": NetworkConfig.tiny().to_dict(), "zoom": 1.0, "threshold": 0.5, "predict": {}, "provenance": {}}
    save_tensors(path, _weights(), whole | change, "segmenter")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is damaged"):
        Segmenter.load(path, "cpu")


def test_a_card_that_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, _weights(), HEADER | {"card": 3}, "parent")
    with pytest.raises(ValueError, match="its card is 3, which is no table"):
        ParentNetwork.load(path)


# -- weights that do not fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.pop("fuse.1.weight"), "lacks the weights 'fuse.1.weight' of the network it names."),
        (lambda w: w.update(extra=torch.ones(1)), "has weights 'extra' that the network it names does not have."),
        (
            lambda w: w.update({"fuse.1.weight": torch.ones(2, 9, 1, 1)}),
            "has 'fuse.1.weight' of shape (2, 9, 1, 1); the network wants (2, 8, 1, 1).",
        ),
        (
            lambda w: w.update({"fuse.1.weight": torch.full((2, 8, 1, 1), torch.nan)}),
            "has weights 'fuse.1.weight' that are not finite.",
        ),
    ],
    ids=["missing", "unknown", "shape", "nan"],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(
    change: Callable[[dict[str, Tensor]], Any], sentence: str
) -> None:
    net, weights = _net(), {name: value + 1 for name, value in _weights().items()}
    change(weights)
    with pytest.raises(ValueError, match=f"^{re.escape('x.osvos ' + sentence)}$"):
        load_weights(net, weights, "x.osvos")
    assert weights_digest(net.state_dict()) == weights_digest(_weights())


def test_half_precision_is_read_into_single() -> None:
    net = _net(seed=1)
    half = {name: value.half() for name, value in _weights().items()}
    load_weights(net, half, "x.osvos")
    assert all(value.dtype == torch.float32 for value in net.state_dict().values())
    assert all(torch.equal(value.half(), half[name]) for name, value in net.state_dict().items())
