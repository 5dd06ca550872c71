"""What a run used of the machine: memory, disk, versions. Loads no library that is not loaded already."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import platform
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "numpy", "scikit-image", "scikit-learn", "tifffile", "zarr", "dask")
"""The libraries that can change a segmentation, named in every report."""
ABANDONED = 24 * 3600.0
"""Seconds after which what a process of another computer was writing, and has not touched since, is no more wanted."""


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
        wanted, left = size_in_words(needed), size_in_words(free)
        reason = f"{path} needs {wanted} of disk and {left} are free; free some space or write elsewhere."
        raise OSError(errno.ENOSPC, reason)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; what is there afterwards takes the place of `path`, all at once.

    The folder is made where it is missing. After an error nothing is left behind and `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = aside(path, "partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def aside(path: Path, state: str) -> Path:
    """Return a name beside `path` that no other process uses, of this computer or of another that sees the folder.

    Parameters
    ----------
    path : Path
        What is to be written.
    state : str
        ``partial`` for what is to take its place, ``old`` for what it takes the place of.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{_host()}.{state}")


def tidy(path: str | Path) -> None:
    """Clear away what processes that are no more left beside `path` when they were killed while they wrote it.

    What such a process had moved aside from `path`, and not replaced yet, comes back. A process of this number counts
    as one of those: in containers all have the same. Of those of other computers nothing is known: what they left is
    cleared away once nobody has touched it for a day.
    """
    path = Path(path)
    if not path.parent.is_dir():
        return
    start = f".{path.name}."
    for name in [name for name in os.listdir(path.parent) if name.startswith(start)]:  # of perhaps thousands of outputs
        entry, left = path.parent / name, re.fullmatch(r"([0-9]+)-([0-9a-f]{8})\.(partial|old)", name[len(start) :])
        if left is None or (not _is_abandoned(entry) if left[2] != _host() else _is_of_another(int(left[1]))):
            continue
        if left[3] == "old" and not path.exists():
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                os.replace(entry, path)
        elif entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()


def is_running(pid: int) -> bool:
    """Whether this computer runs a process of this number; one that has ended, and nobody has asked how, does not."""
    import psutil

    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # of another user
        return True


def _is_of_another(pid: int) -> bool:
    return pid != os.getpid() and is_running(pid)


def _host() -> str:
    """Return eight hexadecimal digits that stand for this computer, whose name may be too long for that of a file."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_abandoned(entry: Path) -> bool:
    """Whether a file, or a folder with all that is in it, has not been changed for long."""
    inside = (Path(folder, name) for folder, folders, files in os.walk(entry) for name in (*folders, *files))
    try:
        return all(time.time() - one.lstat().st_mtime > ABANDONED for one in (entry, *inside))
    except OSError:  # somebody works on it
        return False


def size_in_words(n_bytes: int) -> str:
    """Return a number of bytes as GB, MB or kB."""
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
