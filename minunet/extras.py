"""Optional libraries: imported where they are used, with a hint where they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Where the name on PyPI is not the name that is imported.
_PACKAGES = {"PIL": "Pillow"}


class MissingExtra(ImportError):
    """A library of an optional extra is not installed; the message says how to install it."""


def require(name: str, extra: str) -> ModuleType:
    """Import and return the module `name` ("PIL.Image"), which the extra `extra` installs.

    Raises MissingExtra where the library is not installed. An installed library that fails to
    import raises its own error.
    """
    library = name.partition(".")[0]
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        package = f" ({_PACKAGES[library]})" if library in _PACKAGES else ""
        raise MissingExtra(
            f'{library}{package} is not installed; install it with: pip install "minunet[{extra}]"',
            name=library,
        ) from None
    return import_module(name)
