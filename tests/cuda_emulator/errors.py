"""What the emulator raises."""


class EmulationError(Exception):
    """A kernel, or its launch, does what a device would not take, or would take and get wrong."""
