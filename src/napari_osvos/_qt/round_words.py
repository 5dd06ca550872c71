"""What is said of a round in the panel."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from napari_osvos._qt.quality_dial import time_in_words
from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.labels import spell
from napari_osvos.round_record import Round

_TASKS = {"look-alike": "one of many look-alike objects", "distinct": "an object of its own"}


def expected_of(about: Round) -> ExpectedAccuracy | None:
    """Return the expected accuracy of a round; None where there is none, or it is of another version."""
    if about.expected is None:
        return None
    try:
        return ExpectedAccuracy.from_dict(about.expected)
    except (TypeError, ValueError):
        return None


def columns_of(about: Round) -> tuple[str, str, str, str, str]:
    """Return number, quality, painted frames, expected J with its range, and time."""
    expected = expected_of(about)
    accuracy = "" if expected is None else f"{expected.j:.2f} ({expected.j_low:.2f}-{expected.j_high:.2f})"
    return (
        str(about.number),
        about.quality or "applied",
        spell(about.annotated),
        accuracy,
        time_in_words(about.learned_in + about.filled_in),
    )


def details_of(about: Round) -> str:
    """Return all that is known of a round, a line for each matter."""
    when = time.strftime("%d %B %Y, %H:%M", time.localtime(about.when)).lstrip("0")
    lines = [f"Round {about.number} of {about.movie.name}, {when}"]
    start = about.start.stem if about.start is not None else f"general network ({about.parent})"
    if about.tuning is None:
        lines.append(f"Applied as it was: {start}")
    else:
        lines.append(f"Started from: {start}")
        lines.append(f"Learned from frames {spell(about.annotated)}")
        for word in ("partial", "corrected", "accepted"):
            frames = getattr(about, word)
            if frames:
                lines.append(f"{'Painted in part' if word == 'partial' else word.capitalize()}: {spell(frames)}")
        if about.background_label is not None:
            lines.append(f"Label that paints background: {about.background_label}")
        if about.learned_in:
            short = ", cut short" if about.cut_short else ""
            lines.append(f"Learned for {time_in_words(about.learned_in)}{short}")
    filled = f"Filled {len(about.filled)} frames"
    lines.append(f"{filled} in {time_in_words(about.filled_in)}" if about.filled_in else filled)
    if about.task in _TASKS:
        lines.append(f"Each label is {_TASKS[about.task]}")
    expected = expected_of(about)
    if expected is not None:
        lines.append(f"Expected: {expected.in_words}")
    lines.append(f"Device: {about.device}" + (f", {about.threads} threads" if about.threads else ""))
    for title, settings in (("Learning", about.tuning), ("Prediction", about.prediction)):
        if settings is not None:
            lines.append(f"{title}: {_settings(settings)}")
    return "\n".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    """Settings four to a line, for a tooltip of bearable width."""
    words = [f"{name.replace('_', ' ')} {_value(value)}" for name, value in settings.items() if value is not None]
    return ",\n    ".join(", ".join(words[i : i + 4]) for i in range(0, len(words), 4))


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "/".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
