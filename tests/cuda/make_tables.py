"""Writes what is known of the compiled kernels: python tests/cuda/make_tables.py, after a kernel has changed.

resources.json: what NVRTC makes of every kernel.  traffic.json: how the convolutions use memory, by the emulator.  Look
at the difference before it is committed: registers that went up, or a main loop that got longer, is what it shows.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESOURCES, TRAFFIC = HERE / "resources.json", HERE / "traffic.json"

if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import traffic

    from minunet.bench.gpu import table

    lines = ",\n ".join(json.dumps(row) for row in [traffic.HEAD, *traffic.rows()])
    TRAFFIC.write_text(f"[\n {lines}\n]\n", encoding="utf-8")
    RESOURCES.write_text(table.as_json(table.make()), encoding="utf-8")
    print(f"written: {TRAFFIC}, {RESOURCES}")
