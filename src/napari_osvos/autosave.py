"""Saving to the session folder in a thread of its own, so that the viewer never waits for the disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from napari_osvos.session import SessionFolder


class Autosaver:
    """Writes to a session folder in the background, in order.

    Parameters
    ----------
    session : SessionFolder
        Where to.
    on_error : callable
        Called from the background thread with one sentence when the folder cannot be written: once, until saving works
        again. What could not be saved is tried again with the next `save`.
    """

    def __init__(self, session: SessionFolder, on_error: Callable[[str], None]) -> None:
        self.session = session
        self._on_error = on_error
        self._waiting = threading.Condition()
        self._frames: dict[int, npt.NDArray[Any] | None] = {}
        self._settings: str | None = None  # as JSON, so that nobody changes them meanwhile
        self._saved_settings = json.dumps(session.settings())
        self._told = self._due = self._busy = self._closing = False
        self._thread = threading.Thread(target=self._run, name="napari-osvos autosave", daemon=True)
        self._thread.start()

    def save(
        self,
        frames: Mapping[int, npt.NDArray[Any] | None] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Have frames and settings saved; returns at once. Settings that are as they were are not written again.

        Parameters
        ----------
        frames
            As `PaintedFrames.take_unsaved` returns them; they must not be changed afterwards.
        settings
            As `SessionFolder.save_settings`.

        Raises
        ------
        RuntimeError
            After `close`.
        """
        with self._waiting:
            if self._closing:
                raise RuntimeError("The autosave was closed.")
            self._frames.update(frames or {})
            if settings is not None:
                self._settings = json.dumps(settings)
            self._due = bool(self._frames) or self._settings not in (None, self._saved_settings)
            self._waiting.notify_all()

    def wait(self, timeout: float = 10.0) -> bool:
        """Wait until all is saved, or was tried; return whether it is saved."""
        with self._waiting:
            self._waiting.wait_for(lambda: not self._due and not self._busy, timeout)
            return not (self._due or self._busy or self._frames)

    def close(self, timeout: float = 10.0) -> None:
        """Save what waits, then end the thread and close the session. Idempotent."""
        with self._waiting:
            if self._closing:
                return
            self._closing = True
            self._due = bool(self._frames) or self._settings not in (None, self._saved_settings)
            self._waiting.notify_all()
        self._thread.join(timeout)
        try:
            self.session.close()
        except OSError as error:
            self._tell(error)

    def _run(self) -> None:
        while True:
            with self._waiting:
                self._waiting.wait_for(lambda: self._due or self._closing)
                if not self._due:
                    return
                frames, self._frames, settings = self._frames, {}, self._settings
                self._due, self._busy = False, True
            try:
                if frames:
                    self.session.save_frames(frames)
                frames = {}
                if settings not in (None, self._saved_settings):
                    self.session.save_settings(json.loads(settings or ""))
                    self._saved_settings = settings or ""
                self._told = False
            except Exception as error:  # whatever it was, the thread has to live on for what comes next
                self._tell(error)
            finally:
                with self._waiting:
                    self._frames = {**frames, **self._frames}  # what could not be saved waits for the next time
                    self._busy = False
                    self._waiting.notify_all()

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            self._on_error(str(error))
