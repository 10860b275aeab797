import os
from pathlib import Path

import pytest

from mpvit.errors import MpvitError
from mpvit.files import write_atomically, write_together


def test_a_file_is_replaced_completely_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_text("old")
    path.chmod(0o640)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    write_atomically(tmp_path / "one", b"")
    (tmp_path / "other").touch()
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["no/folder/file", "folder", "loop", "x" * 300, "nul\0", "file/below"])
def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MpvitError, match="cannot write") as caught:
        write_atomically(tmp_path / name, b"new")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "reason", "hint"),
    [
        ("no/folder/file", "No such file or directory", "make the folder first"),
        ("folder", "it is a folder", "no half-written file is left"),
        ("x" * 300, "File name too long", "no half-written file is left"),
        ("nul\0", "embedded null byte", "no half-written file is left"),
    ],
)
def test_an_error_says_which_file_why_and_what_to_do(tmp_path: Path, name: str, reason: str, hint: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MpvitError) as caught:
        write_atomically(tmp_path / name, b"new")
    assert str(caught.value) == f"cannot write {str(tmp_path / name)!r}: {reason}"
    assert caught.value.hint == hint


def test_the_new_file_is_hidden_until_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one folder, since between file systems nothing can be replaced at once."""
    made: list[Path] = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        made.append(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    write_atomically(tmp_path / "table.md", b"new")
    assert made[0].parent == tmp_path
    assert made[0].name.startswith(".table.md.")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full disk", "Ctrl-C"])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    (tmp_path / "table.md").write_text("old")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((MpvitError, KeyboardInterrupt)):
        write_atomically(tmp_path / "table.md", b"new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"table.md": "old"}


def test_a_failure_is_reported_even_if_the_hidden_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, _: Path) -> None:
        self.unlink()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(MpvitError, match="No space left on device"):
        write_atomically(tmp_path / "table.md", b"new")


def test_a_special_file_is_written_directly(tmp_path: Path) -> None:
    """A pipe: a device would be the machine's own, and lost if it were replaced."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(tmp_path / "pipe", b"new")
        assert os.read(reader, 9) == b"new"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_several_files_are_all_written_or_none(tmp_path: Path) -> None:
    write_together({tmp_path / "a.bin": b"one", tmp_path / "a.xml": b"two"})
    (tmp_path / "folder").mkdir()
    for wrong in ("no/folder", "folder", "x" * 300):
        with pytest.raises(MpvitError, match="cannot write"):
            write_together({tmp_path / "a.bin": b"three", tmp_path / wrong: b"four"})
    assert (tmp_path / "a.bin").read_bytes() + (tmp_path / "a.xml").read_bytes() == b"onetwo"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml", "folder"]
