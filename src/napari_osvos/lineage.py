"""Objects through time: which frames each one lives in, and which one it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Track:
    """One object from its first frame to its last; between them it may be hidden for a while.

    Attributes
    ----------
    id : int
        Its label in every frame, 1 or more.
    first, last : int
        Numbers of the first and the last frame that show it.
    mother : int
        Track that divided into this one and others, 0 if there is none.
    """

    id: int
    first: int
    last: int
    mother: int = 0


class Lineage(Mapping[int, Track]):
    """All tracks of a movie by their id, in rising order.

    Parameters
    ----------
    tracks : iterable of Track

    Raises
    ------
    ValueError
        If an id is given twice or below 1, a track ends before it begins, or a mother does not exist or
        has not ended before its daughter begins.
    """

    def __init__(self, tracks: Iterable[Track] = ()) -> None:
        self._tracks: dict[int, Track] = {}
        for track in sorted(tracks):
            if track.id < 1 or track.id in self._tracks:
                what = "is there twice" if track.id in self._tracks else "is below 1"
                raise ValueError(f"The id {track.id} of a track {what}; ids are different whole numbers from 1.")
            if track.last < track.first:
                raise ValueError(f"Track {track.id} ends in frame {track.last}, before its first, {track.first}.")
            self._tracks[track.id] = track
        for track in self._tracks.values():
            if not track.mother:
                continue
            mother = self._tracks.get(track.mother)
            if mother is None:
                raise ValueError(f"Track {track.id} comes from track {track.mother}, which does not exist.")
            if mother.last >= track.first:
                raise ValueError(
                    f"Track {track.id} begins in frame {track.first}, "
                    f"but track {mother.id}, which it comes from, lives until frame {mother.last}."
                )

    def __getitem__(self, id: int) -> Track:
        return self._tracks[id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._tracks)

    def __len__(self) -> int:
        return len(self._tracks)

    def __repr__(self) -> str:
        return f"Lineage({len(self)} tracks, {len(self.divisions)} divisions)"

    @property
    def divisions(self) -> dict[int, tuple[int, ...]]:
        """Ids of the daughters of each mother."""
        daughters: dict[int, list[int]] = {}
        for track in self.values():
            if track.mother:
                daughters.setdefault(track.mother, []).append(track.id)
        return {mother: tuple(ids) for mother, ids in sorted(daughters.items())}

    @property
    def graph(self) -> dict[int, list[int]]:
        """Mother of each daughter, as napari's Tracks layer wants it."""
        return {track.id: [track.mother] for track in self.values() if track.mother}
