"""Errors a user can act on: one sentence saying what, where and what to do."""


class InputError(ValueError):
    """Bad input (a corrupt file, a wrong size, a missing class); ends a command with exit code 2."""

    exit_code = 2


class RunError(RuntimeError):
    """The work itself failed (diverged, out of memory, disk full); ends a command with exit code 1."""

    exit_code = 1
