"""Which audio files of a folder make a data set, by their names: the split and the limit."""

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from passband._checks import check_choice, check_number
from passband.data._audio_read import SUFFIXES
from passband.data._sources import FolderSource
from passband.data._subsets import in_share, limit_rank

SUBSETS = ("all", "train", "eval", "test")
LJSPEECH_TEST = ("LJ001-*", "LJ002-*")

Progress = Callable[[int, int], None]


class Split(NamedTuple):
    """How files are shared out to `test`, `eval` and `train`."""

    subset: str
    eval_share: float
    test_share: float
    test_files: tuple[str, ...]

    def check(self) -> None:
        """Raise unless all options are allowed."""
        check_choice("subset", self.subset, SUBSETS)
        for name, share in (("eval_share", self.eval_share), ("test_share", self.test_share)):
            check_number(name, share)
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {share}; 0.1 takes a tenth of the files")
        if self.eval_share + self.test_share > 1:
            raise ValueError(
                f"eval_share and test_share are parts of one whole, got {self.eval_share} and {self.test_share}; "
                "together they may be at most 1"
            )
        if self.test_share and self.test_files:
            raise ValueError(
                f"the test set is named by test_files {list(self.test_files)} or drawn by test_share "
                f"{self.test_share}, not both; leave one of them out"
            )

    def side(self, name: str) -> str:
        """`test`, `eval` or `train`. Copies of a clip in other formats are on its side: the suffix does not count."""
        stem = str(PurePosixPath(name).with_suffix(""))
        if self.test_files:
            if any(fnmatchcase(PurePosixPath(name).name, pattern) for pattern in self.test_files):
                return "test"
        elif in_share(stem, high=self.test_share):
            return "test"
        return "eval" if in_share(stem, low=self.test_share, high=self.test_share + self.eval_share) else "train"


def split_of(root: Path, subset: str, eval_share: float, test_share: float, test_files: Sequence[str]) -> Split:
    """The checked split; LJSpeech's test files where it is LJSpeech and nothing else is asked for."""
    if isinstance(test_files, str):
        raise TypeError(f"test_files must be a list of patterns, got {test_files!r}; for one pass [{test_files!r}]")
    if not test_files and not test_share and is_ljspeech(root):
        test_files = LJSPEECH_TEST
    split = Split(subset, eval_share, test_share, tuple(test_files))
    split.check()
    return split


def is_ljspeech(root: Path) -> bool:
    """Whether a folder is laid out as LJSpeech: metadata.csv beside wavs/."""
    return (root / "metadata.csv").is_file() and (root / "wavs").is_dir()


def audio_source(path: str | os.PathLike[str]) -> tuple[Path, FolderSource]:
    """The folder, and where its clips are: LJSpeech's in wavs/.

    Raises:
        FileNotFoundError: if there is nothing at path.
        ValueError: if it is not a folder, or holds no audio file.

    """
    root = Path(path).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"no such folder of audio files: {str(root)!r}; check the path")
    if not root.is_dir():
        raise ValueError(f"{str(root)!r} is not a folder; pass the folder that holds the audio files")
    source = FolderSource(root / "wavs" if is_ljspeech(root) else root, SUFFIXES)
    return root, source


def check_patterns(split: Split, names: Sequence[str], path: str) -> None:
    """Raise if a pattern of test files meets none of them: a typing error would train on the test set."""
    if split.test_files == LJSPEECH_TEST:
        return
    for pattern in split.test_files:
        if not any(fnmatchcase(PurePosixPath(name).name, pattern) for name in names):
            raise ValueError(
                f"no audio file of {path!r} has a name like {pattern!r} of test_files; patterns match the file's "
                "name with its suffix and without its folder, as 'LJ001-*' or 'clip7.wav'"
            )


def ranked(names: Sequence[str], limit: int | None) -> list[str]:
    """The names in the order in which a limit takes them, or as they are without one."""
    return list(names) if limit is None else sorted(names, key=lambda name: (limit_rank(name), name))
