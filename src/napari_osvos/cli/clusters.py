"""The options that name a cluster, and the cluster for as long as a verb needs it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_osvos.cli.console import Console
from napari_osvos.cli.options import at_least
from napari_osvos.cluster_link import ClusterChoice, connected

_OPTIONS = ("workers", "dashboard", "tls_ca", "tls_cert", "tls_key")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add which cluster computes."""
    group = parser.add_argument_group("cluster (see docs: Cluster)")
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
        As `ClusterChoice`, and if an option goes with none.
    """
    if not given.scheduler and not given.workers:
        for name in _OPTIONS:
            if getattr(given, name):
                wanted = "--workers" if name == "dashboard" else "--scheduler"
                raise ValueError(f"--{name.replace('_', '-')} goes with {wanted}; add it.")
        return None
    tls = {name: getattr(given, name) for name in ("tls_ca", "tls_cert", "tls_key")}
    return ClusterChoice(given.scheduler or "", given.workers or 0, given.threads, given.dashboard, **tls)


@contextlib.contextmanager
def cluster(given: argparse.Namespace, console: Console) -> Iterator[Any]:
    """Yield a client of the cluster that the command line names, or None.

    Raises
    ------
    ValueError
        As `connected`.
    ConnectionError
        If the scheduler is lost in the middle.
    """
    choice = cluster_choice(given)
    if choice is None:
        yield None
        return
    with connected(choice, console.say) as client:
        console.say(f"Computing on {choice.in_words()}.")
        yield client
