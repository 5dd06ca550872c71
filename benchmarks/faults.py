"""Faults, tried for real and counted: processes killed, disks filled, files taken away, damaged and hostile ones.

    python benchmarks/faults.py -o faults.md

Every fault happens to the real command line, in a process of its own, on a small movie; then the same command is given
again, and its labels are compared with those of a run that nothing disturbed. Takes some 20 minutes on 2 cores;
`--quick` a fifth of that. Prints the table as it goes; the exit code is 1 if any answer was not as it should be.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: so do the commands, and the labels are comparable

from fault_bench import Bench
from fault_kinds import KINDS

COLUMNS = (
    "fault",
    "tried",
    "answered as wanted",
    "exit code",
    "said (the last of them)",
    "kept",
    "labels after going on identical",
)


def main() -> int:
    """Try all faults, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="moments at which processes are killed (default: 20)")
    parser.add_argument("--quick", action="store_true", help="3 kills, and fewer of each other fault that is repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    parser.add_argument("--only", choices=tuple(KINDS), nargs="+", default=tuple(KINDS), help="kinds of faults")
    parser.add_argument("--note", default="", help="what the table says of the run, such as the commit")
    parser.add_argument("-o", "--output", type=Path, help="also write the table to this file")
    given = parser.parse_args()
    kills, tries = (3, 1) if given.quick else (given.kills, 5)
    began = time.perf_counter()
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    wrong: list[str] = []
    tried = answered = 0
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        bench = Bench(Path(folder), given.seed)
        for name in given.only:
            for row in KINDS[name](bench, kills if name in ("commands", "engine") else tries):
                cells = [cell.replace(folder, "...").replace("|", "/") for cell in row.cells]
                lines.append("| " + " | ".join(cells) + " |")
                print(lines[-1], flush=True)
                for sentence in row.wrong:
                    print(f"  wrong: {sentence}", file=sys.stderr, flush=True)
                wrong += [f"{row.fault}: {sentence}" for sentence in row.wrong]
                tried, answered = tried + row.tried, answered + row.answered
    minutes = (time.perf_counter() - began) / 60
    told = f"{answered} of {tried} faults were answered as wanted, in {minutes:.0f} min."
    print(told)
    if given.output:
        about = f"Python {platform.python_version()}, {platform.machine()}, seed {given.seed}. {given.note}".strip()
        command = f"`python benchmarks/faults.py {' '.join(sys.argv[1:])}`"
        given.output.write_text(
            "\n".join(["# Faults", "", f"{command}: {told} {about}", "", *lines, *[f"\n* {w}" for w in wrong]]) + "\n",
            encoding="utf-8",
        )
    return int(answered < tried)


if __name__ == "__main__":
    sys.exit(main())
