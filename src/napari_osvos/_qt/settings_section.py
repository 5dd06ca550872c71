"""Settings that are seldom needed, as a form made of the configs' own fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_osvos._qt.letter_keys import LetterlessCombo
from napari_osvos.cluster_link import address_of
from napari_osvos.config import FineTuneConfig, PredictConfig
from napari_osvos.settings import Config

_SCALE = ("object_diameter", "enlarged_diameter", "largest_zoom")
_TUNING = ("steps", "seconds", "seed", *_SCALE, "crops", "crop_size", "learning_rate")
_PREDICTION = ("threshold", "tile")


class ConfigForm(QWidget):
    """Some fields of a config; what is left empty keeps its default.

    Parameters
    ----------
    config : type of Config
    names : sequence of str
        The fields to show.
    """

    def __init__(self, config: type[Config], names: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config = config
        self.editors: dict[str, QLineEdit] = {}
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        specs = {spec.name: spec for spec in dataclasses.fields(config)}  # type: ignore[arg-type]
        for name in names:
            spec = specs[name]
            editor = QLineEdit()
            default = "automatic" if spec.default is None else f"{spec.default:g}"
            editor.setPlaceholderText(default)
            unit = f" ({spec.metadata['unit']})" if spec.metadata["unit"] else ""
            words = QLabel(name.replace("_", " ").capitalize() + unit)
            for widget in (editor, words):
                widget.setToolTip(spec.metadata["help"].capitalize() + ".")
            words.setBuddy(editor)
            form.addRow(words, editor)
            self.editors[name] = editor

    def values(self) -> dict[str, Any]:
        """Return the settings that were filled in.

        Raises
        ------
        ValueError
            If one is no number or outside its range; the message names it.
        """
        filled = {}
        for name, editor in self.editors.items():
            text = editor.text().strip().replace(",", ".")
            if text:
                filled[name] = _number(name, text)
        self._config.from_dict(filled)  # says what is wrong
        return filled

    def fill(self, values: Mapping[str, Any]) -> None:
        """Fill in settings; the others become empty."""
        for name, editor in self.editors.items():
            editor.setText("" if values.get(name) is None else f"{values[name]!r}")


def _number(name: str, text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{name.replace('_', ' ').capitalize()} is {text!r}; it must be a number.") from None


class SettingsSection(QWidget):
    """Device, images that are made beside the masks, and the fields of the configs.

    Signals
    -------
    changed
        Something is set otherwise.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.probabilities = QCheckBox("Also make a layer of probabilities")
        self.probabilities.setToolTip("The probability of foreground of every pixel, 0 to 1, in an image layer")
        self.uncertainty = QCheckBox("Also make a layer of uncertainty")
        self.uncertainty.setToolTip("How unsure the network is of every pixel, 0 to 1, in an image layer")
        self.published = QCheckBox("Learn as published (slow)")
        self.published.setToolTip("The recipe of the OSVOS paper, 500 steps on whole frames, for comparison")
        self.device = LetterlessCombo()
        self.device.setToolTip("Where to compute; automatic takes the fastest device of this machine")
        self.device.addItem("automatic", "auto")
        self.threads = QSpinBox(minimum=0, maximum=1024)
        self.threads.setSpecialValueText("all cores")
        self.threads.setToolTip("Threads of the processor to compute with")
        self.scheduler = QLineEdit()
        self.scheduler.setPlaceholderText("none: this machine")
        self.scheduler.setToolTip(
            "A dask scheduler whose workers predict the frames: its address, such as tcp://node7:8786, or its file"
        )
        self.tuning = ConfigForm(FineTuneConfig, _TUNING)
        self.prediction = ConfigForm(PredictConfig, _PREDICTION)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Device", self.device)
        form.addRow("Threads", self.threads)
        form.addRow("Cluster (scheduler)", self.scheduler)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.probabilities)
        column.addWidget(self.uncertainty)
        column.addWidget(self.published)
        column.addLayout(form)
        column.addWidget(self.tuning)
        column.addWidget(self.prediction)
        self.probabilities.toggled.connect(self.changed)
        self.uncertainty.toggled.connect(self.changed)
        self.published.toggled.connect(self._offer_settings)
        self.published.toggled.connect(self.changed)
        self.device.currentIndexChanged.connect(self.changed)
        self.threads.valueChanged.connect(self.changed)
        self.scheduler.editingFinished.connect(self.changed)
        for editor in (*self.tuning.editors.values(), *self.prediction.editors.values()):
            editor.editingFinished.connect(self.changed)

    def _offer_settings(self, published: bool) -> None:
        """Leave open only what has a say."""
        idle = FineTuneConfig(quality="published" if published else "balanced").idle
        for name, editor in self.tuning.editors.items():
            editor.setEnabled(name not in idle)

    def offer_devices(self, devices: Sequence[str]) -> None:
        """Offer the devices of this machine."""
        chosen = self.device_name
        blocked = self.device.blockSignals(True)
        while self.device.count() > 1:
            self.device.removeItem(1)
        for name in devices:
            self.device.addItem(name, name)
        self.device.setCurrentIndex(max(self.device.findData(chosen), 0))
        self.device.blockSignals(blocked)

    @property
    def device_name(self) -> str:
        """Where to compute: ``auto`` or a device."""
        return str(self.device.currentData())

    @property
    def scheduler_address(self) -> str:
        """What was typed as the scheduler of a cluster; empty for none.

        Raises
        ------
        ValueError
            If it is neither an address nor a scheduler file.
        """
        text = self.scheduler.text().strip()
        return address_of(text) if text else ""

    def tuning_config(self, quality: str) -> FineTuneConfig:
        """Return how to learn.

        Raises
        ------
        ValueError
            If a setting is no number or outside its range.
        """
        quality = "published" if self.published.isChecked() else quality
        return FineTuneConfig.from_dict({"quality": quality, **self.tuning.values()})

    def prediction_config(self, quality: str) -> PredictConfig | None:
        """Return how to predict; None where that is left to the segmenter.

        Raises
        ------
        ValueError
            As `tuning_config`.
        """
        values = self.prediction.values()
        return PredictConfig.from_dict({"flips": quality == "best", **values}) if values else None

    def plain(self) -> dict[str, Any]:
        """Return what is set, as plain data for the session folder."""
        return {
            "probabilities": self.probabilities.isChecked(),
            "uncertainty": self.uncertainty.isChecked(),
            "published": self.published.isChecked(),
            "device": self.device_name,
            "threads": self.threads.value(),
            "scheduler": self.scheduler.text(),
            "tuning": {name: editor.text() for name, editor in self.tuning.editors.items() if editor.text()},
            "prediction": {name: editor.text() for name, editor in self.prediction.editors.items() if editor.text()},
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Set what `plain` returned; what is missing or damaged stays as it is."""
        self.probabilities.setChecked(bool(plain.get("probabilities", False)))
        self.uncertainty.setChecked(bool(plain.get("uncertainty", False)))
        self.published.setChecked(bool(plain.get("published", False)))
        self.device.setCurrentIndex(max(self.device.findData(plain.get("device", "auto")), 0))
        threads = plain.get("threads", 0)
        self.threads.setValue(threads if isinstance(threads, int) else 0)
        self.scheduler.setText(str(plain.get("scheduler", "")))
        for form, name in ((self.tuning, "tuning"), (self.prediction, "prediction")):
            texts = plain.get(name)
            for field, editor in form.editors.items():
                editor.setText(str(texts.get(field, "")) if isinstance(texts, dict) else "")
