"""The two ways in which a command ends without success.

Errors of the data (`minunet.data.DataError`) and of model files (`minunet.FileFormatError`) live
beside the code that raises them; these two are for everything else that the commands refuse.
"""


class UsageError(ValueError):
    """What was asked for cannot be done as asked (exit status 2)."""


class WorkFailed(RuntimeError):
    """The question was right, the work went wrong on the way (exit status 1)."""
