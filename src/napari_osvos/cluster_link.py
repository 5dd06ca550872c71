"""Being connected to a dask cluster: a scheduler that is there, or worker processes of this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_osvos.cluster_worker import close_pages
from napari_osvos.machine import default_threads, versions

CONNECT_SECONDS = 5.0
"""Seconds in which a scheduler has to answer."""
COMPARED = ("napari-osvos", "torch")
"""Of these, a worker has to have the version of the client."""
_ADDRESS = re.compile(r"((tcp|tls|ws|wss|ucx)://)?[^/:\s\[\]]+:\d+/?|((tcp|tls|ws|wss|ucx)://)?\[[0-9a-fA-F:]+\]:\d+/?")

Say = Callable[[str], None]


@dataclass(frozen=True)
class ClusterChoice:
    """Which cluster is to compute.

    Attributes
    ----------
    scheduler : str
        Address, such as ``tcp://node7:8786`` or ``tls://node7:8786``, or the path of the file that ``dask scheduler
        --scheduler-file`` writes. Empty for workers of this machine.
    workers : int
        Worker processes of this machine to start; 0 where `scheduler` is given.
    threads : int or None
        CPU threads of each of these; None shares the cores out.
    dashboard : bool
        Whether they have dask's dashboard, on this machine only.
    tls_ca, tls_cert, tls_key : Path or None
        Certificates, where dask's own configuration does not name them.

    Raises
    ------
    ValueError
        If both or neither of `scheduler` and `workers` are given, the address is none or knows no
        certificates that are given, or the number is below 1.
    FileNotFoundError
        If a certificate is missing.
    """

    scheduler: str = ""
    workers: int = 0
    threads: int | None = None
    dashboard: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.scheduler) == bool(self.workers):
            raise ValueError(
                "A cluster is either a scheduler or a number of workers of this machine; give one of them."
            )
        if self.workers < 0:
            raise ValueError(f"The number of workers is {self.workers}; it must be at least 1.")
        for path in (self.tls_ca, self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"There is no file {path}, which is to be a certificate or key of TLS.")
        if self.scheduler:
            address = address_of(self.scheduler)
            if not address.startswith("tls://") and any((self.tls_ca, self.tls_cert, self.tls_key)):
                raise ValueError(
                    f"The scheduler is {address}; certificates and keys go with an address that begins with tls://."
                )

    def in_words(self) -> str:
        """Return what it is called in messages."""
        if self.scheduler:
            return f"the scheduler {address_of(self.scheduler)}"
        return f"{self.workers} worker{'s' * (self.workers > 1)} of this machine"


def address_of(scheduler: str) -> str:
    """Return the address of a scheduler that is given by it, or by its scheduler file.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if _ADDRESS.fullmatch(scheduler):
        return scheduler if "://" in scheduler else f"tcp://{scheduler}"
    path = Path(scheduler)
    if path.is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            return str(json.loads(path.read_text(encoding="utf-8"))["address"])
        raise ValueError(f"{path} is no file of a dask scheduler: it names no address.")
    raise ValueError(
        f"The scheduler is {scheduler!r}; give its address, such as tcp://node7:8786, or its scheduler file."
    )


@contextlib.contextmanager
def connected(choice: ClusterChoice, say: Say = lambda sentence: None, *, patient: bool = True) -> Iterator[Any]:
    """Yield a dask client of a cluster that has a worker, of the right version; let go of all at the end.

    Parameters
    ----------
    choice : ClusterChoice
        Which cluster. Workers of this machine listen on the loopback interface alone and end with the client.
    say : callable
        Takes sentences for the user.
    patient : bool
        Whether to wait for the first worker as long as it takes, as in a queue of jobs.

    Raises
    ------
    ValueError
        If dask.distributed is not installed, the scheduler does not answer, it has no worker and there is no patience,
        or a worker has another version.
    """
    distributed = _distributed()
    import dask

    with contextlib.ExitStack() as stack:
        if choice.workers:
            # A worker that ended starts anew, which takes long on a busy machine; dask would give it up after 15 s.
            stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}))
            cluster = stack.enter_context(_local_cluster(distributed, choice))
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
            if choice.dashboard:
                say(f"Dashboard: {cluster.dashboard_link}")
        else:
            client = stack.enter_context(_client(distributed, choice))
        _wait_for_worker(client, choice, say, patient)
        check_versions(client)
        yield client


def check_versions(client: Any) -> None:
    """Make sure that the workers that are there have the versions of this process.

    Raises
    ------
    ValueError
        If one has not; the sentence names it.
    """
    for worker, found in client.run(installed, on_error="return").items():
        if isinstance(found, Exception):
            raise ValueError(
                f"The worker {worker} cannot load napari-osvos ({_first_line(found)}); install it where workers start."
            )
        complaint = version_complaint(found, worker)
        if complaint:
            raise ValueError(complaint)


def installed() -> dict[str, str]:
    """Return the versions that matter of this process."""
    found = versions()
    return {name: found.get(name, "") for name in COMPARED}


def version_complaint(theirs: Mapping[str, str], whose: str) -> str:
    """Say in a sentence in what the versions of a worker and of this process differ; empty where they do not."""
    mine = installed()
    for name in COMPARED:
        # what follows the + says for which device torch was built
        if mine[name].partition("+")[0] != theirs.get(name, "").partition("+")[0]:
            found = theirs.get(name) or "(none)"
            return f"The worker {whose} has {name} {found} and this process {mine[name]}; they must be the same."
    return ""


def is_lost(client: Any) -> bool:
    """Whether the connection to the scheduler is gone."""
    return str(client.status) != "running"


def worker_addresses(client: Any) -> list[str]:
    """Return the addresses of the workers that are there; none where the scheduler is lost."""
    try:
        return sorted(client.nthreads())
    except Exception:  # whatever the connection says at its end
        return []


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise ValueError(
            "A cluster needs dask.distributed, which is not installed; run: pip install 'napari-osvos[cluster]'"
        ) from None
    # It logs, with tracebacks, what we say in a sentence.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return distributed


def _local_cluster(distributed: Any, choice: ClusterChoice) -> Any:
    cluster = distributed.LocalCluster(
        n_workers=choice.workers,
        threads_per_worker=choice.threads or max(1, default_threads() // choice.workers),
        processes=True,
        host="127.0.0.1",
        # Told to have none, dask would listen at its usual port all the same, on all interfaces.
        dashboard_address="127.0.0.1:8787" if choice.dashboard else "127.0.0.1:0",
        scheduler_kwargs={"dashboard": choice.dashboard},
        worker_dashboard_address=None,
        # One frame may need more than an equal share; who needs too much is ended by the system and tried again.
        memory_limit=0,
        silence_logs=logging.CRITICAL,
        preload=["napari_osvos.cluster_worker"],
    )
    if not choice.dashboard:
        cluster.loop.add_callback(close_pages, cluster.scheduler)
    return cluster


def _client(distributed: Any, choice: ClusterChoice) -> Any:
    address = address_of(choice.scheduler)
    paths = {"tls_ca_file": choice.tls_ca, "tls_client_cert": choice.tls_cert, "tls_client_key": choice.tls_key}
    given = {name: str(path) for name, path in paths.items() if path is not None}
    try:
        security = distributed.Security(**given, require_encryption=True) if given else None
        if address.startswith("tls://"):
            _check_certificates(security or distributed.Security())
        return distributed.Client(
            address, security=security, timeout=CONNECT_SECONDS, set_as_default=False, name="napari-osvos"
        )
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        if address.startswith("tls://") and not isinstance(error, TimeoutError):
            remedy = f"check the certificates: {_first_line(error)}"
        else:
            remedy = "start one with `dask scheduler`, or check address and firewall"
        raise ValueError(f"No scheduler answers at {address} within {CONNECT_SECONDS:g} s; {remedy}.") from None


def _check_certificates(security: Any) -> None:
    """Make sure that there are certificates; a client without cannot even be closed in order.

    Raises
    ------
    OSError
        If there are none.
    """
    if security.get_connection_args("client").get("ssl_context") is None:
        raise OSError(
            "certificate or key is missing, in the options and in dask's configuration (distributed.comm.tls)"
        )


def _wait_for_worker(client: Any, choice: ClusterChoice, say: Say, patient: bool) -> None:
    deadline, said = time.monotonic() + CONNECT_SECONDS, False
    while not worker_addresses(client):
        if is_lost(client):
            raise ConnectionError(f"The connection to {choice.in_words()} is lost.")
        if time.monotonic() > deadline and not patient:
            raise ValueError(f"There is no worker at {choice.in_words()}.")
        if not said and not choice.workers:
            say(f"Waiting for a worker of {choice.in_words()}.")
            said = True
        time.sleep(0.1)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
