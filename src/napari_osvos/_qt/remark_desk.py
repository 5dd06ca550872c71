"""What the network found strange in the paint, one sentence after the other, with what can be done about it."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject

from napari_osvos._qt.messages import Message
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.run_control import RunControl

_FRAME = re.compile(r"Frame (\d+)\b")


class RemarkDesk(QObject):
    """Shows the remarks of a run on frames that look painted in part, until each is answered.

    Parameters
    ----------
    message : Message
        Where they are shown.
    watch : PaintWatch
        Whose frames are marked.
    control : RunControl
    frames : FramesSection
        Told which frames are painted in part.
    """

    def __init__(
        self, message: Message, watch: PaintWatch, control: RunControl, frames: Any, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._message, self._watch, self._frames = message, watch, frames
        self._left: list[str] = []
        self._refused: WeakKeyDictionary[Any, set[int]] = WeakKeyDictionary()  # frames said to be complete
        control.taught.connect(self._take)
        message.acted.connect(self._mark)
        message.refused.connect(self._dismiss)
        watch.changed.connect(self._show)

    def _take(self, run: Any, remarks: tuple[str, ...]) -> None:
        self._left = list(remarks)
        self._show()

    def _show(self) -> None:
        """Show the first remark that still holds."""
        while self._left and not self._holds(self._left[0]):
            self._left.pop(0)
        if not self._left:
            self._message.clear()
        elif self._left[0] != self._message.text:
            marks = self._frame is not None
            self._message.say(
                self._left[0],
                "warning",
                action="It is painted in part" if marks else "",
                refusal="It is complete" if marks else "All right",
            )

    def _holds(self, remark: str) -> bool:
        found, painted = _FRAME.match(remark), self._watch.painted
        if found is None:
            return True
        if painted is None:
            return False
        frame = int(found[1])
        known = {one.frame: one.partial for one in painted.frames}
        return not known.get(frame, True) and frame not in self._refused.get(painted, ())

    @property
    def _frame(self) -> int | None:
        found = _FRAME.match(self._left[0]) if self._left else None
        return None if found is None else int(found[1])

    def _mark(self) -> None:
        frame = self._frame
        if frame is not None:
            self._frames.partial_set.emit(frame, True)
        self._next()

    def _dismiss(self) -> None:
        frame, painted = self._frame, self._watch.painted
        if frame is not None and painted is not None:
            self._refused.setdefault(painted, set()).add(frame)
        self._next()

    def _next(self) -> None:
        self._left = self._left[1:]
        self._show()
