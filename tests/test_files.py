"""atomic_write: the old file or the whole new one, at every point where something can fail."""

import os
import stat
import sys
from pathlib import Path

import pytest

from minunet.files import atomic_write

posix = pytest.mark.skipif(sys.platform == "win32", reason="permission bits and links of POSIX")


def write_new(file):
    file.write(b"new")


@pytest.fixture
def umask():
    old = os.umask(0o027)
    yield
    os.umask(old)


@pytest.mark.parametrize("kind", [str, Path])
def test_writes_and_replaces(tmp_path, kind):
    path = tmp_path / "file.bin"
    for content in (b"first", b"", b"the third is longer"):
        atomic_write(kind(path), lambda f, content=content: f.write(content))
        assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["file.bin"]


def test_long_names_fit(tmp_path):
    path = tmp_path / ("n" * 255)
    atomic_write(path, write_new)
    assert path.read_bytes() == b"new"


@posix
def test_mode_of_new_file_follows_umask(tmp_path, umask):
    atomic_write(tmp_path / "file", write_new)
    assert stat.S_IMODE(os.stat(tmp_path / "file").st_mode) == 0o640


@posix
@pytest.mark.parametrize("mode", [0o600, 0o604, 0o755])
def test_mode_of_existing_file_stays(tmp_path, umask, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    atomic_write(path, write_new)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@posix
@pytest.mark.parametrize("target_exists", [True, False])
def test_symbolic_link_stays_a_link(tmp_path, target_exists):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    if target_exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    atomic_write(link, write_new)
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert os.listdir(tmp_path / "elsewhere") == ["target"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize(
    ("step", "existing"),
    [(step, existing) for step in ("write", "fsync", "replace") for existing in (True, False)]
    + [("chmod", True)],  # a new file's mode is not changed
)
def test_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, error, step, existing):
    path = tmp_path / "file"
    if existing:
        path.write_bytes(b"old")

    def fail(*_, **__):
        raise error

    def write(file):
        file.write(b"n" * 100_000)
        if step == "write":
            fail()

    if step != "write":
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)) as caught:
        atomic_write(path, write)
    assert caught.value is error
    assert os.listdir(tmp_path) == (["file"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


def test_content_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        size = os.fstat(descriptor).st_size
        calls.append("fsync folder" if is_folder else f"fsync {size} bytes")
        fsync(descriptor)

    def note_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    atomic_write(tmp_path / "file", write_new)
    assert calls[:2] == ["fsync 3 bytes", "replace"]
    assert calls[2:] == (["fsync folder"] if sys.platform != "win32" else [])


def test_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError("not supported")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    atomic_write(tmp_path / "file", write_new)
    assert (tmp_path / "file").read_bytes() == b"new"


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder, so file cannot be written"):
        atomic_write(tmp_path / "nowhere" / "file", write_new)


def test_folder_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        atomic_write(tmp_path / "folder", write_new)
    assert os.listdir(tmp_path) == ["folder"]


@posix
def test_device_is_not_replaced():
    with pytest.raises(OSError, match="not a regular file"):
        atomic_write("/dev/null", write_new)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
