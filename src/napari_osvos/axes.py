"""Which axis of an array is which: guessed from its shape, or checked where it is said."""

from __future__ import annotations

# A last axis up to this long, behind a longer one, is taken as channels when no axes are given.
MOST_GUESSED_CHANNELS = 4


def guess_axes(shape: tuple[int, ...], name: str = "the movie") -> str:
    """Guess the axes of an array from its shape alone; see `Clip`.

    Raises
    ------
    ValueError
        If there is no sensible guess, for arrays of fewer than 2 or more than 5 axes.
    """
    colour = ""
    if len(shape) > 2 and shape[-1] <= MOST_GUESSED_CHANNELS < shape[-2]:
        colour = "S" if shape[-1] in (3, 4) else "C"
    spatial = {2: "YX", 3: "TYX", 4: "TZYX"}.get(len(shape) - len(colour))
    if spatial is None:
        raise ValueError(
            f"{name} has shape {shape}, whose axes cannot be guessed; say what they are, for example axes='TZCYX'."
        )
    return spatial + colour


def resolve_axes(axes: str | None, shape: tuple[int, ...], name: str) -> str:
    """Say for every axis of an array which one it is.

    Returns
    -------
    str
        One of ``TZYXCS`` per axis, each at most once, or ``1`` for an axis of length 1 to be dropped.

    Raises
    ------
    ValueError
        If the letters do not fit the shape.
    """
    if axes is None:
        return guess_axes(shape, name)
    letters = list(axes.upper())
    if len(letters) != len(shape):
        raise ValueError(f"{name} has shape {shape}; axes {axes!r} name {len(letters)} axes, not {len(shape)}.")
    if letters.count("Y") != 1 or letters.count("X") != 1:
        raise ValueError(f"axes are {axes!r}; they must name Y and X once each.")
    if "C" in letters and "S" in letters:  # colour samples of several channels: one of the two has to be single
        for letter in "SC":
            if "S" in letters and "C" in letters and shape[letters.index(letter)] == 1:
                letters[letters.index(letter)] = "1"
    for i, letter in enumerate(letters):
        first = letters.index(letter) == i
        if letter in "TZCSYX" and first and not (letter == "S" and "C" in letters):
            continue
        if shape[i] == 1:
            letters[i] = "1"
        elif letter in "QIR?" and "T" not in letters:  # tifffile's letters for "a sequence of some kind"
            letters[i] = "T"
        elif letter in "QIR?" and "Z" not in letters:
            letters[i] = "Z"
        else:
            raise ValueError(
                f"{name} has axes {axes!r} of shape {shape}; beyond T, Z, C, Y and X, once each, "
                "only axes of length 1 are allowed."
            )
    if "T" not in letters and "Z" in letters:
        letters[letters.index("Z")] = "T"  # a lone stack is a sequence: paint one slice, get the others
    return "".join(letters)
