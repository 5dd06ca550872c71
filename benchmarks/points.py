"""Points of a measurement: each taken in a process of its own, kept in a CSV file at once, never taken twice."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from napari_osvos.machine import replacing, versions

MACHINE = ("machine", "threads", "load", "date", "versions")
"""Columns that say where and when a point was taken; the load is the average of the last minute before it."""


def machine(threads: int) -> dict[str, str]:
    """Return the columns `MACHINE` as they are now."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if "model name" in line), name)
    memory = psutil.virtual_memory().total / 2**30
    return {
        "machine": f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}",
        "threads": str(threads),
        "load": f"{psutil.getloadavg()[0]:.2f}",
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
    }


class Points:
    """The rows of a CSV file that are there, and those that are added.

    Parameters
    ----------
    path : Path
        The file.
    keys, values : sequence of str
        Columns that tell one point from another, and what is measured; those of `MACHINE` follow.
    """

    def __init__(self, path: Path, keys: Sequence[str], values: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        self.columns = (*keys, *values, *MACHINE)
        self.rows: list[dict[str, str]] = []
        if path.exists():
            with open(path, newline="", encoding="utf-8") as stream:
                self.rows = [{name: row.get(name) or "" for name in self.columns} for row in csv.DictReader(stream)]

    def there(self, **key: object) -> list[dict[str, str]]:
        """Return the rows of a key, or of a part of one."""
        return [row for row in self.rows if all(row[name] == _text(value) for name, value in key.items())]

    def add(self, row: Mapping[str, object]) -> None:
        """Keep a row: the file is written whole or not at all."""
        self.rows.append({name: _text(row.get(name)) for name in self.columns})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def in_own_process(script: str, order: Mapping[str, object], threads: int) -> Iterator[dict[str, Any]]:
    """Run ``script --point ORDER`` and yield what it tells by `tell`, as it comes.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, script, "--point", json.dumps(order)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if child.returncode:
        raise RuntimeError(f"The point {json.dumps(order)} failed; what it said is above.")


def tell(found: Mapping[str, object]) -> None:
    """Tell what was measured, to the process that wants to know."""
    print(json.dumps(found), flush=True)


def told_machines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return lines of Markdown that say where and when rows were measured."""
    lines = []
    for name in dict.fromkeys((row["machine"], row["threads"], row["versions"]) for row in rows):
        own = [row for row in rows if (row["machine"], row["threads"], row["versions"]) == name]
        loads, dates = [float(row["load"]) for row in own], [row["date"] for row in own]
        lines.append(
            f"{name[0]}; {name[1]} threads; load average before a point {min(loads):.2f} to {max(loads):.2f}; "
            f"{min(dates)} to {max(dates)}; {name[2]}."
        )
    return [*lines, ""]


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return [*lines, *("| " + " | ".join(map(_text, row)) + " |" for row in rows), ""]


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
