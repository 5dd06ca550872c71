"""Which device computes, and in which precision."""

from __future__ import annotations

import pytest
import torch

from napari_osvos.device import (
    autocast,
    available_devices,
    cpu_computes_in,
    cpu_prefers_bfloat16,
    describe_device,
    fast_precision,
    precision_name,
    resolve_device,
    without_cache,
)


def _have_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Toy GPU")


def test_there_is_always_a_cpu_and_auto_takes_the_first() -> None:
    there = available_devices()
    assert there[-1] == "cpu"
    assert resolve_device() == resolve_device("auto") == torch.device(there[0])
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"^There is no device 'cuda:99' on this machine; there are auto, .*cpu\.$"):
        resolve_device("cuda:99")


def test_a_device_is_described_with_its_precision() -> None:
    n = torch.get_num_threads()
    assert describe_device(torch.device("cpu")).startswith(f"CPU, {n} thread{'s' * (n != 1)}, float32 (")


@pytest.mark.parametrize("value", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_precision_can_be_set(monkeypatch: pytest.MonkeyPatch, device: str, value: str) -> None:
    _have_gpu(monkeypatch, capability=(7, 5) if value == "bfloat16" else (9, 0))
    monkeypatch.setattr("napari_osvos.device.cpu_prefers_bfloat16", lambda: value == "float32")
    monkeypatch.setenv("NAPARI_OSVOS_PRECISION", value)
    assert fast_precision(torch.device(device)) == getattr(torch, value)
    assert value in describe_device(torch.device(device))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_precision_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("NAPARI_OSVOS_PRECISION", "float16")
    with pytest.raises(ValueError, match="NAPARI_OSVOS_PRECISION is 'float16'; allowed are float32, bfloat16"):
        fast_precision(torch.device(device))


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 0), "float32"), ((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_a_gpu_has_bfloat16_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    _have_gpu(monkeypatch, capability)
    monkeypatch.delenv("NAPARI_OSVOS_PRECISION")
    assert precision_name(torch.device("cuda:0")) == expected
    assert describe_device(torch.device("cuda:0")) == f"Toy GPU (cuda:0), {expected}"


@pytest.mark.parametrize("supported", [False, True])
def test_a_gpu_of_amd_says_itself_whether_it_has_bfloat16(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    _have_gpu(monkeypatch, capability=(9, 0) if not supported else (7, 0))
    monkeypatch.setattr(torch.version, "hip", "6.2")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    monkeypatch.delenv("NAPARI_OSVOS_PRECISION")
    assert precision_name(torch.device("cuda:0")) == ("bfloat16" if supported else "float32")


def test_the_gpu_of_apple_has_float32_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_OSVOS_PRECISION", "bfloat16")
    assert describe_device(torch.device("mps")) == "Apple GPU (mps), float32"


def test_what_another_process_found_holds_for_the_cpu_alone_and_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    _have_gpu(monkeypatch, capability=(9, 0))
    monkeypatch.delenv("NAPARI_OSVOS_PRECISION")
    monkeypatch.setattr("napari_osvos.device.cpu_prefers_bfloat16", lambda: True)
    with cpu_computes_in("float32"):
        assert precision_name(torch.device("cpu")) == "float32"
        assert precision_name(torch.device("cuda:0")) == "bfloat16"
    assert precision_name(torch.device("cpu")) == "bfloat16"


def test_otherwise_the_faster_one_is_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAPARI_OSVOS_PRECISION")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert cpu_prefers_bfloat16.__wrapped__() in (False, True)
    assert torch.equal(torch.rand(1), expected)  # it draws none of the caller's random numbers


def test_a_look_without_gradients_takes_them_from_no_pass_after_it() -> None:
    layer, x = torch.nn.Conv2d(1, 1, 1), torch.ones(1, 1, 2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad(), without_cache("cpu"):
            assert layer(x).dtype == torch.bfloat16
        layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_in_single_precision_nothing_is_cast() -> None:
    with autocast(torch.device("cpu")):
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == torch.float32
