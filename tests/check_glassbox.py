"""The glass box on more networks than CI runs: python tests/check_glassbox.py [NETWORKS], from the repository's root.

Prints for each generated U-Net, in both modes, the largest difference between the page's arithmetic and minunet's, how
many of the random elements are not the sum of their terms, and the largest error of central differences.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from glassbox_cases import array, box, generated, in_node

import minunet as mn
from minunet.glassbox import reference
from minunet.glassbox.box import check_numbers, scale

ELEMENTS, DIFFERENCES = 250, 25  # of each network in each mode: 10,000 and 1,000 for 20 networks


def main(networks: int) -> int:
    """How many networks had something wrong."""
    wrong = 0
    with mn.use_backend("numpy"), tempfile.TemporaryDirectory() as folder:
        for seed in range(networks):
            model, subject = generated(seed)
            for training in (True, False):
                passed = reference.passed(model, subject, training)
                (answer,) = in_node(Path(folder), [
                    box(model, subject, training, tensors=True, numbers=check_numbers(passed), formulas=ELEMENTS,
                        differences=DIFFERENCES, seed=seed)
                ])  # fmt: skip
                tensors = _worst(passed, answer)
                held = max(one["error"] for one in answer["differences"]["held"])
                free = answer["differences"]["free"]
                unflagged = max((one["error"] for one in free if not one["changed"]), default=0.0)
                bad = len(answer["formulas"]["wrong"])
                wrong += tensors > 1e-10 or bad > 0 or held > 1e-6 or unflagged > 1e-6
                print(f"{seed:3} {'train' if training else 'eval ':5} {model.padding:5} {model.norm!s:5} "
                      f"{subject.loss:7} {subject.x.shape!s:18} tensors {tensors:.1e}  elements not their sum {bad}  "
                      f"differences held {held:.1e}, free {unflagged:.1e} where no choice changed "
                      f"({sum(one['changed'] > 0 for one in free)} of {len(free)} flagged)", flush=True)  # fmt: skip
    return wrong


def _worst(passed, answer) -> float:
    found = []
    for kind, arrays in (("values", passed.values), ("gradients", passed.gradients)):
        for name, expected in arrays.items():
            size = scale(passed, kind, name)
            error = float(np.abs(array(answer[kind][name]) - expected).max())
            found.append(error / size if size else error)
    return max(found)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20) > 0)
