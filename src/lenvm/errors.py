"""The one exception for everything a user can mend: input, options, files."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person: what was expected, what came, what to do. The command line prints it
    without a traceback and exits with code 2.
    """
