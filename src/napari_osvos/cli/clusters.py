"""The options that name a cluster, and the cluster for as long as a verb needs it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import Console
from napari_osvos.cli.options import at_least
from napari_osvos.cluster_link import ClusterChoice, connected

if TYPE_CHECKING:
    from napari_osvos.clip import Clip
    from napari_osvos.cluster import ClusterSegmenter
    from napari_osvos.frame_store import FrameStore
    from napari_osvos.pipeline import Advance
    from napari_osvos.predict_job import PredictJob
    from napari_osvos.segmenter import Segmenter

_GO_WITH = {"dashboard": "workers", "tls_ca": "scheduler", "tls_cert": "scheduler", "tls_key": "scheduler"}


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add which cluster computes."""
    group = parser.add_argument_group("cluster")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", metavar="N", type=at_least(1), help="compute in N processes of this machine, one a GPU if any"
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS|FILE",
        help="compute on the workers of a dask scheduler: tcp://HOST:PORT, tls://HOST:PORT, or its scheduler file",
    )  # fmt: skip
    group.add_argument("--dashboard", action="store_true", help="with --workers: dask's dashboard at 127.0.0.1:8787")
    for name, words in (("ca", "certificate of the authority"), ("cert", "certificate"), ("key", "key")):
        group.add_argument(
            f"--tls-{name}", metavar="FILE", type=Path, help=f"with tls://: {words} (default: as dask is configured)"
        )


def cluster_choice(given: argparse.Namespace) -> ClusterChoice | None:
    """Return the cluster that the command line names; None for this process.

    Raises
    ------
    ValueError, FileNotFoundError
        As `ClusterChoice`, and if an option goes with another kind of cluster.
    """
    for name, wanted in _GO_WITH.items():
        if getattr(given, name) and not getattr(given, wanted):
            raise ValueError(f"--{name.replace('_', '-')} goes with --{wanted}; add it.")
    if not given.scheduler and not given.workers:
        return None
    tls = {name: getattr(given, name) for name in ("tls_ca", "tls_cert", "tls_key")}
    return ClusterChoice(given.scheduler or "", given.workers or 0, given.threads, given.dashboard, **tls)


class OnCluster:
    """A cluster for as long as a verb runs.

    Parameters
    ----------
    choice
        Which.
    device
        Where its workers compute.
    console
        Told about it.
    stack
        Closed when the verb is over.
    """

    def __init__(self, choice: ClusterChoice, device: str, console: Console, stack: contextlib.ExitStack) -> None:
        self.choice, self._device, self._console, self._stack = choice, device, console, stack
        self._client: Any = None
        self._there: ClusterSegmenter | None = None

    def connect(self) -> str:
        """Connect, and return what the cluster is called.

        Raises
        ------
        ValueError
            As `connected`.
        """
        if self._client is None:
            self._client = self._stack.enter_context(connected(self.choice, self._console.say))
            self._console.say(f"Computing on {self.choice.in_words()}.")
        return self.choice.in_words()

    @property
    def client(self) -> Any:
        """Its client."""
        self.connect()
        return self._client

    def predict_frames(
        self,
        job: PredictJob,
        segmenter: Segmenter,
        clip: Clip,
        missing: Sequence[int],
        store: FrameStore,
        advance: Advance,
    ) -> None:
        """Predict the missing frames of a store, see `ClusterSegmenter.predict_frames`; movie after movie may come."""
        from napari_osvos.cluster import ClusterSegmenter
        from napari_osvos.cluster_tasks import Terms

        if self._there is None or self._there.segmenter is not segmenter:
            self._there = ClusterSegmenter(self.client, segmenter, Terms(self._device))
        self._there.predict_frames(job, clip, missing, store, advance)


Verb = Callable[[argparse.Namespace, Console], int | None]


def on_cluster(verb: Verb) -> Verb:
    """Return a verb that finds the cluster it is given as ``given.cluster``; None where it is this process."""

    def run(given: argparse.Namespace, console: Console) -> int | None:
        choice = cluster_choice(given)
        with contextlib.ExitStack() as stack:
            given.cluster = OnCluster(choice, given.device, console, stack) if choice else None
            return verb(given, console)

    return run
