"""What a lineage knows of tracks, and which it refuses."""

from __future__ import annotations

import pytest

from napari_osvos.lineage import Lineage, Track


def test_tracks_are_found_by_id_in_rising_order() -> None:
    lineage = Lineage([Track(5, 3, 4, 2), Track(2, 0, 2), Track(9, 3, 3, 2)])
    assert [*lineage] == [2, 5, 9]
    assert lineage[5] == Track(5, 3, 4, 2)
    assert lineage.divisions == {2: (5, 9)}
    assert lineage.graph == {5: [2], 9: [2]}
    assert repr(lineage) == "Lineage(3 tracks, 1 divisions)"


@pytest.mark.parametrize(
    ("tracks", "complaint"),
    [
        ([Track(0, 0, 1)], "id 0 of a track is below 1"),
        ([Track(1, 0, 1), Track(1, 2, 3)], "id 1 of a track is there twice"),
        ([Track(1, 2, 1)], "Track 1 ends in frame 1, before its first, 2"),
        ([Track(1, 2, 3, 7)], "comes from track 7, which does not exist"),
        ([Track(1, 0, 3), Track(2, 3, 4, 1)], "lives until frame 3"),
    ],
)
def test_impossible_tracks_are_refused(tracks: list[Track], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Lineage(tracks)
