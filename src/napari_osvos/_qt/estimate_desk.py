"""Where the engine computes and how long a run will take, as the panel shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.engine_bridge import EngineBridge
from napari_osvos._qt.expected_time import ExpectedTime
from napari_osvos._qt.frames_section import FramesSection
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.quality_dial import DIAL
from napari_osvos._qt.run_section import RunSection
from napari_osvos._qt.settings_section import SettingsSection
from napari_osvos._qt.wish import Wish
from napari_osvos.painted_frames import annotations_of
from napari_osvos.worker.events import Calibrated, EngineDied, EngineReady, Event


class EstimateDesk(QObject):
    """Marks the dial with times, by the engine's calibration, the movie and the size of the painted objects.

    Signals
    -------
    said : str, str, str
        A sentence, its kind and details.
    """

    said = Signal(str, str, str)

    def __init__(
        self,
        data: DataSection,
        frames: FramesSection,
        section: RunSection,
        settings: SettingsSection,
        watch: PaintWatch,
        bridge: EngineBridge,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._data, self._frames, self._section, self._settings = data, frames, section, settings
        self._watch, self._bridge = watch, bridge
        self.expected = ExpectedTime()
        self._machine: tuple[str, int | None] = ("auto", None)
        self._ready: EngineReady | None = None
        self._planes_a_frame = 1.0  # that hold paint
        self._measure = Background(self)
        self._measure.done.connect(self._take_measures)
        bridge.told.connect(self._take_news)
        settings.changed.connect(self._take_settings)
        data.movie_changed.connect(self.estimate)
        section.origin.currentIndexChanged.connect(lambda index: self.estimate())
        watch.changed.connect(self._measure_objects)
        frames.partial_set.connect(self._measure_objects)
        frames.background_changed.connect(self._measure_objects)

    def _take_news(self, news: list[Event]) -> None:
        for event in news:
            if isinstance(event, EngineReady):
                self._ready = event
                self._tell_device(event.device_words)
                self._settings.offer_devices(event.devices)
            elif isinstance(event, Calibrated):
                self.expected.calibration = event.calibration
                self._tell_device(event.device_words)
                self.estimate()
            elif isinstance(event, EngineDied):
                self._section.tell_device("The engine has ended; the next run starts it again.", "", "")
                if not self._bridge.had_run:  # else it is told with the run
                    self.said.emit(event.message, "warning", event.details)

    def _tell_device(self, words: str) -> None:
        if self._ready is not None:
            self._section.tell_device(f"Computes on {words}", self._ready.why_not_gpu, self._ready.remedy)

    def _take_settings(self) -> None:
        machine = (self._settings.device_name, self._settings.threads.value() or None)
        if machine != self._machine:
            self._machine = machine
            self._bridge.engine.calibrate(*machine)
        self.estimate()

    def estimate(self) -> None:
        """Mark the dial with the time that each quality will take."""
        movie = self._data.movie
        if movie is None:
            self._section.dial.expect({})
            return
        seconds = {}
        painted = self._watch.painted
        n_annotated = self._n_planes(0 if painted is None else len(painted.frames), self._section.segmenter)
        try:
            clip = movie.clip()
            for quality in DIAL:
                expected = self.expected.of(clip, self._settings.tuning_config(quality), n_annotated)
                if expected is not None:
                    seconds[quality] = sum(expected)
        except ValueError as error:
            self.said.emit(str(error), "warning", "")
        self._section.dial.expect(seconds)

    def expected_of(self, wish: Wish) -> tuple[float, float] | None:
        """Return seconds of learning and of filling that a run will take; None until the engine is calibrated."""
        clip = wish.movie.clip()
        if wish.frames is None:
            return self.expected.of(clip, None)
        return self.expected.of(clip, wish.tuning, self._n_planes(len(wish.frames), wish.segmenter))

    def _n_planes(self, n_frames: int, segmenter: Path | None) -> int:
        """Return how many planes count for the number of updates: 1 where a segmenter is learned on."""
        return 1 if segmenter is not None else max(round(n_frames * self._planes_a_frame), 1)

    def _measure_objects(self, *event: Any) -> None:
        """Look how much is painted and how large the objects are: small ones are enlarged, and take longer."""
        painted, movie = self._watch.painted, self._data.movie
        if painted is None or movie is None or not painted.frames:
            self.estimate()
            return
        few = {one.frame: movie.axes.read_frame(self._watch.array, one.frame) for one in painted.frames[:2]}
        axes, partial, background = movie.axes, painted.partial, self._frames.background_label

        def look() -> tuple[float, float]:
            annotations = annotations_of(few, axes, partial=partial, background_label=background)
            return annotations.object_diameter(), len(annotations.planes) / len(few)

        self._measure.start(look)

    def _take_measures(self, measures: tuple[float, float]) -> None:
        diameter, self._planes_a_frame = measures
        if abs(diameter - self.expected.diameter) > 1:
            self.expected.diameter = diameter
        self.estimate()
