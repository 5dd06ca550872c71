"""A run that goes on where an earlier one of the same command was broken off, and says what the next one will keep."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import Console
from napari_osvos.cli.report import Report, write_json
from napari_osvos.writing import DISK_FULL

if TYPE_CHECKING:
    import torch

    from napari_osvos.clip import Clip
    from napari_osvos.frame_store import FrameStore
    from napari_osvos.predict_job import PredictJob
    from napari_osvos.segmenter import Segmenter

SEGMENTER, LEARNED = "segmenter.osvos", "learned.json"


@contextlib.contextmanager
def going_on(
    given: argparse.Namespace,
    console: Console,
    job: PredictJob,
    clip: Clip,
    positions: Sequence[int],
    outputs: Sequence[Path],
) -> Iterator[FrameStore]:
    """Open the frames that an earlier run finished, or begin; they are deleted when the block ends well.

    Parameters
    ----------
    positions
        Of the frames that are wanted.
    outputs
        All that the command writes.

    Raises
    ------
    ValueError
        If the frames are of another command and ``--force`` is not given, or another process is at it.
    KeyboardInterrupt, OSError
        What ends the block, with a sentence on what is kept.
    """
    from napari_osvos.unfinished import check_unclaimed, claim

    check_unclaimed(job.unfinished)  # before --force deletes what another process is filling
    store = job.open_store(clip, overwrite=given.force)
    claim(store.path, outputs)
    if store.finished:
        with console.progress("checking", len(store.finished)) as advance:
            damaged = store.drop_damaged(advance)
        if damaged:
            console.say(f"{len(damaged)} finished frames were damaged, and are predicted again.")
    before = _in_words(store, positions)
    if before:
        console.say(f"Going on: {before}.")
    try:
        yield store
    except BaseException as error:
        kept = _in_words(store, positions)
        if not kept:
            with contextlib.suppress(OSError):
                store.remove()
            raise
        kept = f"{kept[0].upper()}{kept[1:]}, in {store.path.name}; the same command goes on from there."
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"{error} {kept}".lstrip()) from None
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise OSError(errno.ENOSPC, f"{error.strerror} {kept}") from error
        console.say(kept)
        raise
    store.remove()


def _in_words(store: FrameStore, positions: Sequence[int]) -> str:
    """Say what of a run is done; nothing if that is nothing."""
    done = len(set(positions).intersection(store.finished))
    parts = ["it has learned"] if (store.path / LEARNED).is_file() else []
    if done:
        parts.append(f"{done} of {len(positions)} frames {'was' if done == 1 else 'were'} finished")
    return " and ".join(parts)


def keep_learned(store: FrameStore, report: Report, segmenter: Segmenter, remarks: Sequence[str]) -> None:
    """Keep what was learned, so that the next run need not learn it again."""
    segmenter.save(store.path / SEGMENTER)
    facts = {"steps": report.facts["steps"], "seconds": report.seconds["fine_tune"], "remarks": list(remarks)}
    write_json(store.path / LEARNED, facts)  # last: from here on it counts


def learned_before(
    store: FrameStore, report: Report, job: PredictJob, device: torch.device
) -> tuple[Segmenter, tuple[str, ...]] | None:
    """Return what an earlier run learned, and its remarks; None if it did not."""
    if not (store.path / LEARNED).is_file():
        return None
    facts: dict[str, Any] = json.loads((store.path / LEARNED).read_text(encoding="utf-8"))
    report.add(steps=facts["steps"], remarks=facts["remarks"])
    report.add_seconds("fine_tune", facts["seconds"])
    return job.open_segmenter(device), tuple(facts["remarks"])
