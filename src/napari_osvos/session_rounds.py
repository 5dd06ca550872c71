"""The rounds of a session together with those of the sessions that it goes on from."""

from __future__ import annotations

from pathlib import Path

from napari_osvos.round_record import Round
from napari_osvos.rounds import RoundFolder
from napari_osvos.session import SessionFolder


def round_folders(session: SessionFolder) -> tuple[RoundFolder, ...]:
    """Return where the rounds are: of this session, and of those that it goes on from, directly or not."""
    found: dict[Path, RoundFolder] = {}
    waiting = [session]
    while waiting:
        one = waiting.pop(0)
        if one.path not in found:
            found[one.path] = one.rounds
            waiting += one.former_sessions()
    return tuple(found.values())


def read_rounds(session: SessionFolder) -> tuple[list[tuple[RoundFolder, Round]], list[str]]:
    """Read all rounds of `round_folders`.

    Returns
    -------
    rounds : list of (RoundFolder, Round)
        From the first to the last.
    complaints : list of str
        One sentence for each that is damaged.
    """
    found, complaints = [], []
    for folder in round_folders(session):
        rounds, sentences = folder.read_all()
        found += [(folder, known) for known in rounds]
        complaints += sentences
    return sorted(found, key=lambda pair: (pair[1].number, pair[1].when)), complaints
