"""A training that is killed, at any moment, loses no more than the time since its last checkpoint.

Here 25 kills; `python tests/kills.py --kills 500` does as many as you like.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 25


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings are forked off one process")
def test_killed_trainings_go_on_to_the_same_bits():
    script = Path(__file__).parent / "kills.py"
    command = [sys.executable, "-P", script, "--kills", str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"MINUNET_NUM_THREADS": "1"})
    assert done.stdout, done.stderr
    counted = json.loads(done.stdout)
    assert counted["unreadable"] == [] and counted["unequal"] == 0 and counted["leftovers"] == 0
    assert counted["kills"] >= KILLS and counted["resumed_runs"] >= 1
    assert counted["before_first_checkpoint"] < KILLS  # most had begun to learn
    assert done.returncode == 0
