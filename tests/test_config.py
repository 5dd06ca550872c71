"""Settings: checked when made, the same again out of plain data, and what is wrong said in one sentence."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from napari_osvos.config import (
    QUALITIES,
    AugmentConfig,
    Config,
    FineTuneConfig,
    NetworkConfig,
    ParentConfig,
    PredictConfig,
    Quality,
)
from napari_osvos.parent import ParentNetwork

EXAMPLES = [
    NetworkConfig(),
    NetworkConfig.vgg16("imagenet-v1"),
    NetworkConfig.tiny(),
    AugmentConfig.strong(),
    ParentConfig(network="tiny", learning_rate=1e-4),
    FineTuneConfig(quality="published", steps=3, seconds=1.5),
    FineTuneConfig(),
    PredictConfig(flips=True, threshold=0.25),
]
by_name = pytest.mark.parametrize("config", EXAMPLES, ids=lambda config: type(config).__name__)


@by_name
def test_a_config_comes_back_out_of_plain_data(config: Config, tmp_path: Path) -> None:
    assert type(config).from_dict(config.to_dict()) == config
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    (tmp_path / "settings.toml").write_text(config.to_toml())
    assert type(config).from_toml(tmp_path / "settings.toml") == config
    assert config.replace() == config


@by_name
def test_every_setting_says_what_it_is_and_keeps_its_own_limits(config: Config) -> None:
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        assert field.metadata["help"]
        for bound in ("minimum", "maximum"):
            limit = field.metadata[bound]
            if limit is not None and not isinstance(field.default, tuple):
                config.replace(**{field.name: limit})
                beyond = limit - 1 if bound == "minimum" else limit + 1
                with pytest.raises(
                    ValueError, match=re.escape(f"{type(config).__name__}.{field.name} is {beyond!r}; ")
                ):
                    config.replace(**{field.name: beyond})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FineTuneConfig(quality="superb"), "FineTuneConfig.quality is 'superb'; allowed are preview, fast,"),  # type: ignore[arg-type]
        (lambda: FineTuneConfig(steps=0), "FineTuneConfig.steps is 0; it must be at least 1."),
        (lambda: FineTuneConfig(steps=2.5), "FineTuneConfig.steps is 2.5; it must be a whole number."),  # type: ignore[arg-type]
        (lambda: FineTuneConfig(steps="5"), "FineTuneConfig.steps is '5'; it must be a whole number."),  # type: ignore[arg-type]
        (lambda: FineTuneConfig(seed=True), "FineTuneConfig.seed is True; it must be a whole number."),
        (lambda: FineTuneConfig(seconds=0.0), "FineTuneConfig.seconds is 0.0; it must be at least 0.1 s."),
        (lambda: FineTuneConfig(seconds=float("inf")), "FineTuneConfig.seconds is inf; it must be a number."),
        (lambda: FineTuneConfig(balance=float("nan")), "FineTuneConfig.balance is nan; it must be a number."),
        (lambda: FineTuneConfig(crops=None), "FineTuneConfig.crops is None; it must be a whole number."),  # type: ignore[arg-type]
        (lambda: FineTuneConfig(shares=(1.0,)), "FineTuneConfig.shares is (1.0,); it must be four numbers that add up"),
        (lambda: FineTuneConfig(shares=(1.0,) * 4), "FineTuneConfig.shares is (1.0, 1.0, 1.0, 1.0); it must be four"),
        (lambda: AugmentConfig(rotation=181), "AugmentConfig.rotation is 181; it must be from 0 to 180 degrees."),
        (lambda: PredictConfig(flips="no"), "PredictConfig.flips is 'no'; it must be true or false."),  # type: ignore[arg-type]
        (lambda: NetworkConfig(name=3), "NetworkConfig.name is 3; it must be text."),  # type: ignore[arg-type]
        (lambda: NetworkConfig(heads="foreground"), "NetworkConfig.heads is 'foreground'; it must be a list."),  # type: ignore[arg-type]
        (lambda: NetworkConfig(heads=("contour",)), "NetworkConfig.heads is ('contour',); it must name 'foreground'."),
        (lambda: NetworkConfig(widths=(8,)), "NetworkConfig.convolutions has 4 entries; widths has 1."),
        (lambda: NetworkConfig(first_side=4), "NetworkConfig.first_side is 4; stages are 0 to 3."),
        (lambda: NetworkConfig.preset("resnet"), "There is no network named 'resnet'; there are lite, vgg16, tiny."),
        (
            lambda: PredictConfig.from_dict({"tiles": 3}),
            "PredictConfig has no setting 'tiles'; it has flips, ",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(make: Callable[[], Config], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        make()


def test_numbers_of_numpy_are_taken_and_become_plain() -> None:
    values: dict[str, Any] = {"steps": np.int64(5), "seconds": np.float32(2), "balance": 1, "shares": (1, 0, 0, 0)}
    config = FineTuneConfig(**values)
    assert [type(value) for value in (config.steps, config.seconds, config.balance)] == [int, float, float]
    assert config.shares == (1.0, 0.0, 0.0, 0.0)
    json.dumps(config.to_dict())


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FineTuneConfig().steps = 3  # type: ignore[misc]


def test_the_recipe_of_a_parent_is_that_of_the_bundled_one() -> None:
    assert ParentConfig.from_dict(ParentNetwork.bundled("lite").card["recipe"]) == ParentConfig()


def test_each_quality_has_its_steps() -> None:
    assert tuple(QUALITIES) == get_args(Quality)
    words = {field.name: field.metadata["help"] for field in dataclasses.fields(FineTuneConfig)}["quality"]
    assert all(f"{name} {meaning}" in words for name, (_, meaning) in QUALITIES.items())
    assert all(FineTuneConfig(quality=quality).planned_steps() > 0 for quality in QUALITIES)  # type: ignore[arg-type]
