"""Segment a movie from one painted frame, in Python.

Run without arguments it simulates a movie, paints the first frame by the truth, and takes some seconds:

    python examples/segment_a_movie.py

With a movie of your own and labels in which some frames are painted:

    python examples/segment_a_movie.py movie.tif painted.tif labels.tif
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from napari_osvos import (
    Annotations,
    Clip,
    FineTuneConfig,
    FineTuner,
    ParentNetwork,
    evaluate,
    read_clip,
    read_labels,
    simulate_movie,
    track,
    write_labels,
)


def segment(clip: Clip, annotations: Annotations, parent: ParentNetwork, config: FineTuneConfig) -> np.ndarray:
    """Return the labels of all frames of the movie: (T, Y, X) int, 0 = background; the same object has the same one."""
    tuner = FineTuner(parent, config)
    for step in tuner.steps(clip, annotations):  # tuner.fit(clip, annotations) does the same without a word
        if step.step % 10 == 0:
            print(f"step {step.step} of {step.steps}, loss {step.loss:.3f}")
    labels = np.zeros(clip.labels_shape, np.uint16)
    for t, frame in tuner.segmenter.iter_labels(clip):  # tuner.segmenter.predict(clip) does the same at once
        labels[t] = frame
    if tuner.segmenter.meaning.task == "look-alike":  # numbers mean something in their frame alone: find out who is who
        tracked = track(labels, annotations.aligned_to(clip))
        print(tracked.in_words)
        labels = np.asarray(tracked.labels)
    return labels


def segment_a_simulated_movie(parent: ParentNetwork, config: FineTuneConfig, size: int = 192) -> float:
    """Segment a simulated movie and return the mean region similarity (J) of the frames that were not painted."""
    movie = simulate_movie("fluorescence", n_frames=8, shape=(size, size))
    painted = np.zeros_like(movie.labels)
    painted[0] = movie.labels[0]  # you would paint this
    labels = segment(Clip(movie.frames), Annotations.from_labels(painted), parent, config)
    scores = evaluate(labels, movie.labels, skip_frames=[0])
    print(scores)
    return scores.j_mean


def segment_files(movie: Path, painted: Path, labels: Path, parent: ParentNetwork, config: FineTuneConfig) -> None:
    """Segment a movie in a file from the painted frames in another, and write the labels to a third."""
    clip = read_clip(movie)
    annotations = Annotations.from_labels(read_labels(painted))  # the frames that hold paint
    write_labels(labels, segment(clip, annotations, parent, config))


if __name__ == "__main__":
    bundled, fast = ParentNetwork.bundled(), FineTuneConfig(quality="fast", seed=0)
    if len(sys.argv) == 4:
        segment_files(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), bundled, fast)
    else:
        segment_a_simulated_movie(bundled, fast)
