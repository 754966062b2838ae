"""Write losses.json, the losses that PyTorch gets from the weights and batches of cases.py.

usage: PYTHONPATH=tests python tests/golden/make_golden.py
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch_models
from golden.cases import TRAININGS, Training

FILE = Path(__file__).with_name("losses.json")


def losses(training: Training, dtype) -> list[float]:
    """The losses of PyTorch."""
    ours = training.model(dtype)
    model = torch_models.build(training.architecture, *training.channels, training.features)
    torch_models.load(model, ours.state_dict())
    optimiser = torch.optim.SGD(model.parameters(), **training.optimiser)
    found = []
    for arrays in training.batches(ours):
        images, target, weight = torch_models.tensors(*arrays)
        optimiser.zero_grad()
        loss = torch_models.loss(model(images), target, weight)
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found


def main() -> None:
    torch.set_num_threads(1)
    content: dict[str, object] = {"torch": torch.__version__}
    for name, training in TRAININGS.items():
        content[name] = {t.__name__: losses(training, t) for t in (np.float32, np.float64)}
    FILE.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
