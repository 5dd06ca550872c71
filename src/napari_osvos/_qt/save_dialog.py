"""Asks where to save a file, whose name gets the ending of the format that was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget


def ask_where(parent: QWidget, title: str, name: str, formats: Mapping[str, str]) -> Path | None:
    """Ask for a file to write.

    Parameters
    ----------
    parent : QWidget
    title : str
        Of the dialog.
    name : str
        What is proposed, without an ending.
    formats : mapping
        {words: ending}, the ending without its first dot.

    Returns
    -------
    Path or None
        With one of the endings; None where the user thought better of it. To replace what is there was agreed to.
    """
    dialog = QFileDialog(parent, title)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    filters = {f"{words} (*.{ending})": ending for words, ending in formats.items()}
    dialog.setNameFilters(list(filters))
    dialog.filterSelected.connect(lambda chosen: dialog.setDefaultSuffix(filters[chosen]))
    dialog.setDefaultSuffix(next(iter(filters.values())))
    dialog.selectFile(name)
    agreed = bool(dialog.exec())
    chosen, ending = Path(dialog.selectedFiles()[0]), filters[dialog.selectedNameFilter()]
    dialog.deleteLater()
    if not agreed or chosen.name.endswith(tuple(f".{known}" for known in filters.values())):
        return chosen if agreed else None
    # the dialog takes what stands behind any dot for an ending, and has not asked about this name
    path = chosen.with_name(f"{chosen.name}.{ending}")
    if path.exists():
        question = f"{path.name} is there already. Do you want to replace it?"
        if QMessageBox.question(parent, title, question) != QMessageBox.StandardButton.Yes:
            return None
    return path
