"""Files and folders are there whole or not at all, whatever fails on the way."""

import errno
import os
import stat
from pathlib import Path

import pytest

from passband._files import replace_folder, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "a").write_text("new a")
    (folder / "b").write_text("new b")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "a").write_text("old")
    return folder


@pytest.fixture
def failing(monkeypatch):
    """Let a function of `os` or `Path` fail with an error number."""

    def fail(owner: object, name: str, number: int) -> None:
        def failed(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(owner, name, failed)

    return fail


class TestWriteFile:
    def test_content_and_folders(self, tmp_path):
        path = tmp_path / "a" / "b" / "c.json"
        assert write_file(path, b"one") == path
        assert write_file(str(path), b"two") == path
        assert path.read_bytes() == b"two"
        assert names(path.parent) == ["c.json"]

    def test_others_may_read_it(self, tmp_path):
        before = os.umask(0o022)
        try:
            assert stat.S_IMODE(write_file(tmp_path / "a", b"").stat().st_mode) == 0o644
        finally:
            os.umask(before)

    def test_the_order_of_syncs(self, tmp_path, monkeypatch):
        """Content first, then the name, then the folder that holds it."""
        done = []
        sync, replace = os.fsync, Path.replace

        def fsync(descriptor: int) -> None:
            done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("name"), replace(self, to))[1])
        write_file(tmp_path / "a", b"content")
        assert done == ["file", "name", "folder"]

    @pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
    def test_a_failure_leaves_what_was_there(self, tmp_path, failing, owner, name):
        (tmp_path / "a").write_text("old")
        failing(owner, name, errno.ENOSPC)
        with pytest.raises(OSError, match=r"the disk is full.*before is untouched; free some space") as caught:
            write_file(tmp_path / "a", b"new")
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(tmp_path / "a")
        assert names(tmp_path) == ["a"]
        assert (tmp_path / "a").read_text() == "old"

    def test_other_failures_are_told_as_they_are(self, tmp_path, failing):
        failing(os, "fsync", errno.EIO)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
            write_file(tmp_path / "a", b"new")
        assert "disk is full" not in str(caught.value)
        assert names(tmp_path) == []

    def test_folders_that_cannot_be_synced(self, tmp_path, monkeypatch):
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not here")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        assert write_file(tmp_path / "a", b"x").read_bytes() == b"x"


class TestReplaceFolder:
    def test_new(self, tmp_path):
        target = tmp_path / "deep" / "target"
        assert replace_folder(target, fill) == target
        assert names(target) == ["b", "deep"]
        assert (target / "deep" / "a").read_text() == "new a"
        assert names(target.parent) == ["target"]

    def test_replaces_all_of_the_old(self, old):
        replace_folder(old, fill)
        assert names(old) == ["b", "deep"]
        assert names(old.parent) == ["target"]

    def test_every_file_and_folder_reaches_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        synced, named = [], []
        sync, rename = os.fsync, Path.rename

        def fsync(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_ino)
            sync(descriptor)

        def renamed(self: Path, to: Path) -> Path:
            named.append(list(synced))
            return rename(self, to)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "rename", renamed)
        target = replace_folder(tmp_path / "target", fill)
        (before,) = named
        assert {path.stat().st_ino for path in [target, *target.rglob("*")]} == set(before)
        # The folder's name in its parent, and the parent's own, which may be new too.
        assert synced[-2:] == [tmp_path.stat().st_ino, tmp_path.parent.stat().st_ino]

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.EIO, "no")])
    def test_an_error_of_write(self, old, error):
        def write(folder: Path) -> None:
            fill(folder)
            raise error

        with pytest.raises(type(error)):
            replace_folder(old, write)
        assert names(old.parent) == ["target"]
        assert (old / "a").read_text() == "old"

    def test_a_full_disk(self, old):
        def write(folder: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(OSError, match="the disk is full"):
            replace_folder(old, write)
        assert (old / "a").read_text() == "old"

    def test_a_failure_between_the_two_renames(self, old, monkeypatch):
        rename, calls = Path.rename, []

        def renamed(self: Path, to: Path) -> Path:
            calls.append(to)
            if len(calls) == 2:
                raise OSError(errno.EIO, "no")
            return rename(self, to)

        monkeypatch.setattr(Path, "rename", renamed)
        with pytest.raises(OSError, match="no"):
            replace_folder(old, fill)
        assert names(old.parent) == ["target"]
        assert (old / "a").read_text() == "old"

    def test_what_a_killed_process_left_is_put_back_or_removed(self, old):
        previous = old.with_name(".target.previous")
        old.rename(previous)  # killed between the two renames

        def write(folder: Path) -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            replace_folder(old, write)
        assert (old / "a").read_text() == "old"
        previous.mkdir()  # killed before the last removal
        (previous / "stale").write_text("stale")
        replace_folder(old, fill)
        assert names(old.parent) == ["target"]
        assert names(old) == ["b", "deep"]
