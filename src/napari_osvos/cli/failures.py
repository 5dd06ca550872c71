"""What an error means for the user: an exit code and a sentence."""

from __future__ import annotations

import errno

DONE, FAILED, BAD_USAGE, STOPPED = 0, 1, 2, 130


def judge(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error and one sentence about it."""
    code, text = _judge(error)
    return code, text if text.endswith((".", ")", "!", "?")) else f"{text}."


def _judge(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error and one sentence about it."""
    text = " ".join(str(error).split())
    from napari_osvos.formats import UnreadableFileError

    if isinstance(error, ValueError | UnreadableFileError):
        return BAD_USAGE, text
    if isinstance(error, OSError):
        if error.strerror and error.filename is not None:
            text = f"{error.filename}: {error.strerror}."
        elif error.strerror:
            text = error.strerror
        wrong_path = (errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM)
        kinds = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
        return (BAD_USAGE if error.errno in wrong_path or isinstance(error, kinds) else FAILED), text
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return FAILED, f"Out of memory; close other programs, or use --device cpu. ({text or 'no details'})"
    if isinstance(error, RuntimeError | FloatingPointError):
        return FAILED, text
    return FAILED, f"Unexpected {type(error).__name__}: {text}. Run again with --debug for the details."
