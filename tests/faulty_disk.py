"""A disk that fails at the operation of your choice, for the tests of what is left behind then."""

import errno
import os

from minunet import files


class FaultyDisk:
    """Counts what `minunet.files` asks the system for, and lets the operation with number `fail_at` fail.

    on_failure: called just before, so that a test can see what lies on the disk at that moment.
    """

    def __init__(self, monkeypatch, fail_at=None, on_failure=lambda: None):
        self.fail_at, self.on_failure = fail_at, on_failure
        self.operations = []
        monkeypatch.setattr(files, "open", self.open, raising=False)
        for name in ("fsync", "replace", "chmod"):
            monkeypatch.setattr(os, name, self.failing(name, getattr(os, name)))

    def failing(self, name, operation):
        def call(*arguments, **options):
            self.count(name)
            return operation(*arguments, **options)

        return call

    def count(self, name):
        self.operations.append(name)
        if len(self.operations) - 1 == self.fail_at:
            self.on_failure()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open(self, path, mode):
        self.count("open")
        return FaultyFile(open(path, mode), self)


class FaultyFile:
    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __getattr__(self, name):  # fileno, tell, seek
        return getattr(self.file, name)

    def write(self, content):
        self.disk.count("write")
        return self.file.write(content)

    def flush(self):
        self.disk.count("flush")
        self.file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
        if error[0] is None:
            self.disk.count("close")
