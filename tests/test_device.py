"""Which device computes, and in which precision."""

from __future__ import annotations

import pytest
import torch

from napari_osvos.device import (
    autocast,
    available_devices,
    cpu_prefers_bfloat16,
    describe_device,
    resolve_device,
    without_cache,
)


def test_there_is_always_a_cpu_and_auto_takes_the_first() -> None:
    there = available_devices()
    assert there[-1] == "cpu"
    assert resolve_device() == resolve_device("auto") == torch.device(there[0])
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"^There is no device 'cuda:99' on this machine; there are auto, .*cpu\.$"):
        resolve_device("cuda:99")


def test_a_device_is_described_with_its_precision() -> None:
    assert describe_device(torch.device("cpu")).startswith(f"CPU, {torch.get_num_threads()} threads, float32 (")


@pytest.mark.parametrize(("value", "expected"), [("float32", False), ("bfloat16", True)])
def test_the_precision_can_be_set(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("NAPARI_OSVOS_PRECISION", value)
    assert cpu_prefers_bfloat16.__wrapped__() is expected


def test_a_precision_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_OSVOS_PRECISION", "float16")
    with pytest.raises(ValueError, match="NAPARI_OSVOS_PRECISION is 'float16'; allowed are float32, bfloat16"):
        cpu_prefers_bfloat16.__wrapped__()


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
