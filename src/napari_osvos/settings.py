"""What a setting is: a checked field of a frozen dataclass that carries its help, unit and allowed range."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import field
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """Declare a config field with its help text, unit and allowed values."""
    metadata = {"help": help, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata)


class Config:
    """Base of all configs: checks every field on construction, converts to and from plain data."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _checked(
                f"{type(self).__name__}.{spec.name}", spec.metadata, hints[spec.name], getattr(self, spec.name)
            )
            object.__setattr__(self, spec.name, value)  # frozen, but not before it is checked

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data (tuples become lists)."""
        plain = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Build the config from plain data.

        Raises
        ------
        ValueError
            If a key is unknown or a value is outside its range; the message names both.
        """
        known = {spec.name for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if not isinstance(plain, Mapping):
            raise ValueError(f"{cls.__name__} is {plain!r}; it must be a table of settings.")
        unknown = sorted(set(plain) - known)
        if unknown:
            raise ValueError(f"{cls.__name__} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read the config from a TOML file of top-level keys."""
        with open(path, "rb") as stream:
            return cls.from_dict(tomllib.load(stream))

    def to_toml(self) -> str:
        """Return the settings as TOML text; settings that are None are left out."""
        lines = []
        for key, value in self.to_dict().items():
            if value is not None:
                lines.append(f"{key} = {_toml(value)}")
        return "\n".join(lines) + "\n"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value)


_KINDS = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
}


def _checked(name: str, metadata: Mapping[str, Any], hint: Any, value: Any) -> Any:
    """Return a value in the plain types of its field (int, float, bool, str, tuple); NumPy's numbers will do."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = kinds[0]
    allowed = metadata["choices"] or (get_args(kind) if get_origin(kind) is Literal else None)
    if allowed:
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed are {', '.join(map(str, allowed))}.")
        return value
    if get_origin(kind) is not tuple:
        return _checked_item(name, metadata, kind, value, value)
    if not isinstance(value, tuple):
        raise ValueError(f"{name} is {value!r}; it must be a list.")
    return tuple(_checked_item(name, metadata, get_args(kind)[0], item, value) for item in value)


def _checked_item(name: str, metadata: Mapping[str, Any], kind: type, item: Any, value: Any) -> Any:
    wanted, words = _KINDS[kind]
    fits = isinstance(item, wanted) and (kind is bool or not isinstance(item, bool))
    if not fits or (kind is float and not _is_finite(item)):
        raise ValueError(f"{name} is {value!r}; it must be {words}.")
    low, high = metadata["minimum"], metadata["maximum"]
    if (low is not None and item < low) or (high is not None and item > high):
        unit = f" {metadata['unit']}" if metadata["unit"] else ""
        bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}; it must be {bounds}{unit}.")
    return kind(item)


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False
