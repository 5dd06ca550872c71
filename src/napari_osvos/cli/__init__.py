"""The command line: one function per verb. Whatever is heavy is imported inside the verb that needs it.

Exit codes: 0 done, 1 failed while running, 2 wrong usage or input that cannot be used, 130 stopped with Ctrl+C.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

from napari_osvos import __version__
from napari_osvos.cli import benchmark, demo, evaluate, fine_tune, info, predict, segment, suggest, track, train_parent
from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.failures import DONE, FAILED, STOPPED, judge
from napari_osvos.cli.options import Parser

_EPILOG = f"""\
examples:
  {PROGRAM} demo                                      # no movie needed: simulates one and segments it
  {PROGRAM} segment movie.tif --annotations painted.tif -o labels.tif
  {PROGRAM} evaluate labels.tif truth.tif --skip-frames 0

{PROGRAM} VERB --help says more, with examples.
"""


def build_parser() -> Parser:
    """Return the parser of all verbs."""
    parser = Parser(
        prog=PROGRAM,
        description="One painted frame in, a segmented movie out.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True, parser_class=Parser)
    for verb in (segment, fine_tune, predict, suggest, track, evaluate, train_parent, benchmark, info, demo):
        verb.add_verbs(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Parameters
    ----------
    arguments
        What follows ``napari-osvos``; None takes it from ``sys.argv``.

    Returns
    -------
    The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # libraries log what we say in a sentence; without a handler Python would print that, too
    logging.getLogger().addHandler(logging.NullHandler())
    console, debug = Console(), False
    try:
        given = build_parser().parse_args(words)
        given.words = words
        console, debug = Console(quiet=getattr(given, "quiet", False)), getattr(given, "debug", False)
        with console.warnings_as_lines():
            code: int | None = given.run(given, console)
        return code or DONE
    except SystemExit as leaving:  # --help and --version
        return leaving.code if isinstance(leaving.code, int) else DONE
    except KeyboardInterrupt as stop:
        console.say(f"{PROGRAM}: stopped. {stop}".rstrip())
        return STOPPED
    except BrokenPipeError:
        # whoever read our output has left; keep Python from failing once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        code, sentence = judge(error)
        console.error(sentence)
        return code
