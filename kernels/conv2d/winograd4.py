"""conv2d by Winograd's F(4x4, 3x3) (Numba): 36 multiplications instead of 144 for 4 x 4 outputs.

Kernels of other sizes than 3 x 3 are left to direct.py.
"""

from . import winograd_loops

forward, backward_input, backward_weight = winograd_loops.functions(4)
