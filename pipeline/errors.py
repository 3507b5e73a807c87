"""Errors a user can act on: one sentence saying what, where and what to do.

The attribute `exit_code` is the contract with every other package: the command line prints the message of an exception
that has one, without a traceback, and exits with that code.
"""

import errno
import os

DISK_FULL = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
_DISK_FULL_TEXTS = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))  # safetensors tells it in its text alone


class UserError(Exception):
    """Bad input or usage; ends a command with exit code 2."""

    exit_code = 2


class RunError(UserError):
    """The run itself failed; ends a command with exit code 1."""

    exit_code = 1


def exit_code_of(error: BaseException) -> int | None:
    """Exit code that an exception carries, None for one that is not meant for a user."""
    code = getattr(error, "exit_code", None)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the exception, or one that caused it, says that no more bytes fit on the disk or in the quota."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        if any(text in str(error) for text in _DISK_FULL_TEXTS):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
