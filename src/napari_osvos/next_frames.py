"""Which suggested frame to go to, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from napari_osvos.suggest import Suggestion


class NextFrames:
    """Goes through suggestions, best first, and from the last one back to the first.

    Frames that are annotated meanwhile are passed over.

    Parameters
    ----------
    suggestions : sequence of Suggestion
        Best first.
    """

    def __init__(self, suggestions: Sequence[Suggestion] = ()) -> None:
        self.suggestions = tuple(suggestions)
        self._seen: set[int] = set()
        self._at: int | None = None

    def next(self, annotated: Collection[int]) -> Suggestion | None:
        """The best suggestion that was not gone to and is not annotated; None where all are annotated."""
        left = [one for one in self.suggestions if one.frame not in annotated]
        return next((one for one in left if one.frame not in self._seen), left[0] if left else None)

    def shown(self, annotated: Collection[int], in_view: int) -> Suggestion | None:
        """The suggestion to point at: the one gone to last while it is in view, else `next`."""
        here = next((one for one in self.suggestions if one.frame == self._at == in_view), None)
        return here if here is not None and in_view not in annotated else self.next(annotated)

    def go(self, annotated: Collection[int]) -> Suggestion | None:
        """Return where to go, and remember it."""
        found = self.next(annotated)
        if found is not None:
            if found.frame in self._seen:  # all were seen: once more from the beginning
                self._seen.clear()
            self._seen.add(found.frame)
            self._at = found.frame
        return found
