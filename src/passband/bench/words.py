"""Errors in words that may be published."""

import re

_FOLDERS = re.compile(r"""(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s'"(),;:/\\]+[/\\])+""")


def without_folders(text: str) -> str:
    """Each absolute path by its last part: folders are of one machine, and tell nothing elsewhere.

    Example:
        >>> from passband.bench.words import without_folders
        >>> without_folders("cannot import name 'a' from 'b' (/home/me/lib/b.py)")
        "cannot import name 'a' from 'b' (b.py)"

    """
    return _FOLDERS.sub("", text)


def named(error: BaseException) -> str:
    """The error's type and what it says."""
    return without_folders(f"{type(error).__name__}: {error}")
