"""What `emulated("counted")` counts: the traffic of each kernel, and of each line of its text."""

import ctypes
from dataclasses import dataclass, field, fields

LINE = 128  # bytes


class SiteCounts(ctypes.Structure):
    """Of one place in the machine code: the same fields in the same order as in counts.cpp."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("site", "shared", "write", "size", "instructions", "accesses", "touched", "sectors", "lines",
                     "wavefronts", "passes", "worst")
    ]  # fmt: skip


@dataclass
class Traffic:
    """Loads or stores of one kind of memory.

    instructions: of warps.  accesses: of their lanes.  bytes: that the lanes ask for, all together.
    Global memory: touched: different bytes of each instruction, added up; sectors (32 bytes) and lines (128 bytes) that
    they lie in.
    Shared memory: passes: parts of instructions that are served at a time (a warp for 4 bytes a lane, a quarter for
    16); wavefronts: how many they take; worst: the most that one of them takes.
    """

    instructions: int = 0
    accesses: int = 0
    bytes: int = 0
    touched: int = 0
    sectors: int = 0
    lines: int = 0
    passes: int = 0
    wavefronts: int = 0
    worst: int = 0

    @property
    def line_use(self) -> float:
        """The share of the lines that is asked for: 1.0 where all loads are of full lines."""
        return self.touched / (LINE * self.lines) if self.lines else 1.0

    @property
    def sector_use(self) -> float:
        """The same of the sectors."""
        return self.touched / (32 * self.sectors) if self.sectors else 1.0

    @property
    def conflicts(self) -> int:
        """Wavefronts beyond one for each pass: bank conflicts."""
        return self.wavefronts - self.passes

    def add(self, site: SiteCounts) -> None:
        for name in ("instructions", "accesses", "touched", "sectors", "lines", "passes", "wavefronts"):
            setattr(self, name, getattr(self, name) + getattr(site, name))
        self.bytes += site.accesses * site.size
        self.worst = max(self.worst, site.worst)


@dataclass
class Counts:
    """The traffic of a kernel, all its launches together."""

    launches: int = 0
    global_loads: Traffic = field(default_factory=Traffic)
    global_stores: Traffic = field(default_factory=Traffic)
    shared_loads: Traffic = field(default_factory=Traffic)
    shared_stores: Traffic = field(default_factory=Traffic)
    # By the number of the line in the text and one of the four names above.
    by_line: dict[tuple[int, str], Traffic] = field(default_factory=dict)

    def add(self, site: SiteCounts, line: int) -> None:
        """Count what one place in the machine code has done in a launch."""
        kind = ("shared" if site.shared else "global") + ("_stores" if site.write else "_loads")
        getattr(self, kind).add(site)
        self.by_line.setdefault((line, kind), Traffic()).add(site)

    def __str__(self) -> str:
        kinds = [f.name for f in fields(self) if f.type is Traffic]
        return "\n".join([f"{self.launches} launches", *(f"  {kind}: {getattr(self, kind)}" for kind in kinds)])
