"""Keys of the panel: bound on the viewer while it is open, given back when it closes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any


class Shortcuts:
    """Bind keys on a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
    actions : mapping
        {key, as napari writes it: bound method to call}.
    """

    def __init__(self, viewer: Any, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._viewer = viewer
        self._former = {key: viewer.bind_key(key, _weakly(act), overwrite=True) for key, act in actions.items()}

    def release(self) -> None:
        """Give the keys back to whom they belonged."""
        former, self._former = self._former, {}
        for key, function in former.items():
            self._viewer.bind_key(key, function, overwrite=True)


def _weakly(act: Callable[[], Any]) -> Callable[[Any], None]:
    """Wrap a bound method so that the key map of the viewer does not keep its owner alive."""
    method = weakref.WeakMethod(act)

    def press(viewer: Any) -> None:
        live = method()
        if live is not None:
            live()

    return press
