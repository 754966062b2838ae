"""Three GPUs as their makers describe them; nothing here was measured."""

from __future__ import annotations

from dataclasses import dataclass

SCHEDULERS = 4  # of a multiprocessor; each issues one instruction of a warp a cycle
LANES = 32


@dataclass(frozen=True)
class Device:
    """A GPU's data sheet.

    architecture: compute capability times 10.  multiprocessors: that are switched on.  cores: for float32, of a
    multiprocessor.  clock: boost, cycles a second.  bandwidth: of memory, bytes a second.
    """

    name: str
    architecture: int
    multiprocessors: int
    cores: int
    clock: float
    bandwidth: float

    @property
    def peak(self) -> float:
        """Operations a second in float32 without tensor cores, 2 for every multiply-add."""
        return 2.0 * self.multiprocessors * self.cores * self.clock

    def least_seconds(self, flops: float, bytes: float) -> float:
        """The time below which this work cannot be done, by the roofline."""
        return max(flops / self.peak, bytes / self.bandwidth)

    def issued(self, instructions: int, arithmetic: int) -> float:
        """Share of the peak that a loop of so many instructions, so many of them multiply-adds, can reach.

        A scheduler issues an instruction a cycle, and its cores take cycles of their own for a warp's multiply-adds:
        one where there are 32 of them, two where there are 16, and then others are issued meanwhile.
        """
        cycles = LANES * SCHEDULERS / self.cores
        return arithmetic * cycles / max(instructions, arithmetic * cycles)


DEVICES = (
    Device("RTX 4090", 89, multiprocessors=128, cores=128, clock=2.52e9, bandwidth=1008e9),
    Device("A100 SXM 80 GB", 80, multiprocessors=108, cores=64, clock=1.41e9, bandwidth=2039e9),
    Device("H100 SXM", 90, multiprocessors=132, cores=128, clock=1.98e9, bandwidth=3350e9),
)
