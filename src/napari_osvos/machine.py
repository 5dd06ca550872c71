"""What a run used of the machine: memory, disk, versions. Loads no library that is not loaded already."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "numpy", "scikit-image", "scikit-learn", "tifffile", "zarr", "dask")
"""The libraries that can change a segmentation, named in every report."""


def versions() -> dict[str, str]:
    """Return the version of this package, of Python and of the `LIBRARIES` that are installed."""
    from . import __version__

    found = {"napari-osvos": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory() -> int | None:
    """Return the most memory that this process held at once (resident), in bytes; None where unknown.

    On Linux it is read from ``/proc``: ``ru_maxrss`` of a child also counts what its parent held when it was started.
    """
    if sys.platform.startswith("linux"):
        try:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_memory() -> int | None:
    """Return the most memory that torch held on the GPU, in bytes; None where no GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def release_memory() -> None:
    """Give what the C library keeps of freed memory back to the system, where it can be told to."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def check_space(path: str | Path, needed: int) -> None:
    """Make sure that a file of a size fits beside what the disk holds.

    Parameters
    ----------
    path
        The file that is to be written; its folder need not exist yet.
    needed
        Its size in bytes.

    Raises
    ------
    OSError
        With ``errno.ENOSPC``, if less is free.
    """
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        reason = f"{path} needs {_size(needed)} of disk and {_size(free)} are free; free some space or write elsewhere."
        raise OSError(errno.ENOSPC, reason)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; what is there afterwards takes the place of `path`, all at once.

    The folder is made where it is missing. After an error nothing is left behind and `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def tidy(path: str | Path) -> None:
    """Clear away what processes that are no more left beside `path` when they were killed while they wrote it.

    What such a process had moved aside from `path`, and not replaced yet, comes back. A process of this number counts
    as one of those: in containers all have the same.
    """
    import psutil

    path = Path(path)
    if not path.parent.is_dir():
        return
    for entry in list(path.parent.iterdir()):
        left = re.fullmatch(re.escape(f".{path.name}.") + r"([0-9]+)\.(partial|old)", entry.name)
        if left is None or (int(left[1]) != os.getpid() and psutil.pid_exists(int(left[1]))):
            continue
        if left[2] == "old" and not path.exists():
            os.replace(entry, path)
        elif entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()


def _size(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"


def default_threads() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))  # type: ignore[attr-defined,unused-ignore]
    except AttributeError:
        return os.cpu_count() or 1
