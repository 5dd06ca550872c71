"""What goes wrong in a run, in one sentence for the user."""

from __future__ import annotations

import traceback

from napari_osvos.memory import is_out_of_memory
from napari_osvos.worker.events import Failed


def failure(error: BaseException, device: str = "") -> Failed:
    """Return the event for an error: what the user did wrong in the words of the error, anything else as unexpected."""
    details = "".join(traceback.format_exception(error))
    first_line = (str(error).strip().splitlines() or [""])[0]
    if is_out_of_memory(error):
        where = "The GPU" if device.startswith(("cuda", "mps")) else "The computer"
        remedy = "close other programs that use it or choose a smaller crop size or tile"
        if where == "The GPU":
            remedy += ", or compute on the CPU"
        message = f"{where} has not enough memory for this: {remedy}."
    elif isinstance(error, ValueError | OSError | FloatingPointError) and first_line:
        message = first_line
    else:
        message = f"The engine met an error that was not foreseen: {type(error).__name__}: {first_line}".rstrip(": ")
    if not message.endswith((".", ")")):
        message += "."
    return Failed(message, details)
