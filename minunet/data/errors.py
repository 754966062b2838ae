"""The one error of unusable data."""


class DataError(ValueError):
    """Data that cannot be used. The message names the file, what was found in it and what to do."""
