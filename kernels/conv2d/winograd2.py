"""conv2d by Winograd's F(2x2, 3x3) (Numba): 16 multiplications instead of 36 for 2 x 2 outputs.

Kernels of other sizes than 3 x 3 are left to direct.py.
"""

from . import winograd_loops

forward, backward_input, backward_weight = winograd_loops.functions(2)
