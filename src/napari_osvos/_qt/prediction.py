"""Where the prediction of a frame is: among the masks of the rounds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos._qt.round_keeper import RoundKeeper


class Predictions:
    """Finds the round that has filled a frame of a movie: of those shown the newest, else the newest.

    Parameters
    ----------
    rounds : RoundKeeper
        Of this session and of earlier ones.
    """

    def __init__(self, rounds: RoundKeeper) -> None:
        self._rounds = rounds

    def round_of(self, movie: MovieLayer, frame: int, hidden: Collection[Any] = ()) -> KeptRound | None:
        """Return the round whose masks hold a frame, or None.

        Parameters
        ----------
        movie : MovieLayer
        frame : int
        hidden : collection of napari.layers.Labels
            Are out of sight for a while only, and count as shown.
        """
        found = [kept for kept in self._rounds.masks_over(movie.layer) if _holds(kept, movie, frame)]

        def rank(kept: KeptRound) -> tuple[bool, int, float]:
            layer = kept.masks_layer
            return layer.visible or layer in hidden, kept.about.number, kept.about.when

        return max(found, key=rank, default=None)


def _holds(kept: KeptRound, movie: MovieLayer, frame: int) -> bool:
    return kept.layers is not None and frame in kept.layers.filled and movie.misfit(kept.masks_layer) is None
