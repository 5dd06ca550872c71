"""Scores as text: the table that the command line prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_osvos.labels import spell

if TYPE_CHECKING:
    from napari_osvos.evaluation import Scores
    from napari_osvos.instance_scores import MatchCounts
    from napari_osvos.tracking_scores import TrackingScores


def score_table(scores: Scores, *, per_frame: bool = False) -> str:
    """Write a Markdown table of all measures, what was counted, and with `per_frame` a table of all frames."""
    rows = [
        ("J", scores.region_similarity),
        (f"F ({scores.tolerance} px)", scores.contour_accuracy),
        ("F (2 px)", scores.contour_accuracy_2px),
    ]
    lines = ["| measure | mean | recall | decay |", "|---|---|---|---|"]
    lines += [f"| {name} | {s.mean:.3f} | {s.recall:.3f} | {s.decay:.3f} |" for name, s in rows]
    # of all objects of the movie at once, so there are no frames to take recall and decay of
    lines += [f"| {name} | {value} | | |" for name, value in object_rows(scores)]
    lines += ["", scope(scores)]
    if scores.instances:
        lines += [_matches(counts) for counts in (scores.instances.at_50, scores.instances.at_75)]
    if scores.tracks:
        lines.append(_tracks(scores.tracks))
    if per_frame:
        lines += ["", *_frames(scores)]
    return "\n".join(lines)


def object_rows(scores: Scores) -> list[tuple[str, str]]:
    """Names and values of the measures of objects and tracks, those that were taken."""
    rows = []
    if scores.instances:
        at_50, at_75 = scores.instances.at_50, scores.instances.at_75
        rows += [("F1 at IoU 0.5", f"{at_50.f1:.3f}"), ("F1 at IoU 0.75", f"{at_75.f1:.3f}")]
        rows.append(("SEG", f"{scores.instances.seg:.3f}"))
    if scores.tracks:
        tra = scores.tracks.tra
        rows += [("DET", f"{scores.tracks.det:.3f}"), ("TRA", "none" if tra is None else f"{tra:.3f}")]
    return rows


def scope(scores: Scores) -> str:
    """Say which frames were scored."""
    words = f"{_count(len(scores.frames), 'frame')} scored"
    if scores.skipped:
        words += f", without frame{'s' if len(scores.skipped) != 1 else ''} {spell(scores.skipped)}"
    if scores.border:
        words += f", without {scores.border} px along the edges"
    return words + "."


def _matches(counts: MatchCounts) -> str:
    matched = sum(counts.matched)
    return (
        f"F1 at IoU {counts.iou:g}: {matched} of {_count(matched + sum(counts.missed), 'object')} of the truth matched "
        f"(recall {counts.recall:.3f}), and {matched} of {matched + sum(counts.spurious)} that were found "
        f"(precision {counts.precision:.3f})."
    )


def _tracks(tracks: TrackingScores) -> str:
    mend = tracks.corrections
    words = f"DET{'' if tracks.tra is None else ' and TRA'} over all {_count(len(tracks.frames), 'frame')}"
    words += ", annotated ones too" if len(tracks.frames) > 1 else ""
    words += f": {_count(tracks.n_objects, 'object')}, "
    words += f"{mend.missed} missed, {mend.spurious} spurious, {mend.splits} to split"
    if tracks.tra is None:
        return f"{words}. No TRA: the frames are not consecutive."
    words += f"; {_count(tracks.n_links, 'link')}, {mend.missing_links} missed, {mend.spurious_links} spurious, "
    words += f"{mend.wrong_links} of the wrong kind"
    return words + ("." if tracks.divisions else "; without divisions, of which the truth does not tell.")


def _frames(scores: Scores) -> list[str]:
    names = ["frame", "J", f"F ({scores.tolerance} px)", "F (2 px)"]
    columns = [scores.j, scores.f, scores.f_2px]
    if scores.instances:
        names += ["F1 at IoU 0.5", "F1 at IoU 0.75", "SEG"]
        columns += [scores.instances.at_50.f1_per_frame, scores.instances.at_75.f1_per_frame]
        columns.append(scores.instances.seg_per_frame)
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for number, *values in zip(scores.frames, *columns, strict=True):
        lines.append(f"| {number} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return lines


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
