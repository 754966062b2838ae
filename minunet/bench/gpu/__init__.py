"""GPUs in the benchmarks: what the compiler makes of the kernels, times on paper, and times on a GPU that is here.

compiled.py   every kernel compiled for every architecture: registers, spills, shared memory, occupancy
sass.py       the machine code's main loops: how many of their instructions multiply and add
table.py      both as the table that is checked in, and as text
launches.py   which kernels a call launches, on what grids; nothing runs
steps.py      every call of a network's step, with its cost and launches; nothing is computed
devices.py    three GPUs by their data sheets
paper.py      bounds and predicted times from all of these
device.py     the GPU that is here: its clocks, and a clock that waits for it
kernels.py    the CUDA variants of one kernel, checked and timed beside cuDNN
command.py    `minunet bench --device cuda` and `minunet bench --on-paper`
"""
