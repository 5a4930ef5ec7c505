"""Optional packages that are missing or broken."""

from pathlib import Path

import pytest

from passband._checks import MissingExtraError, import_extra


@pytest.mark.parametrize("fault", ["ImportError('built for another numpy')", "OSError('built for another numpy')"])
def test_a_package_that_cannot_be_imported_is_to_be_reinstalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
):
    (tmp_path / "broken_package.py").write_text(f"raise {fault}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingExtraError, match=r"'broken_package' is installed and cannot be imported \(built for"
    ) as told:
        import_extra("broken_package", "audio")
    assert "pip install --force-reinstall 'passband[audio]'" in str(told.value)


def test_a_package_that_is_missing_is_to_be_installed():
    with pytest.raises(MissingExtraError, match=r"pip install 'passband\[audio\]'"):
        import_extra("no_such_package_at_all", "audio")


def test_what_a_package_lacks_itself_is_not_blamed_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "needs_another.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        import_extra("needs_another", "audio")
