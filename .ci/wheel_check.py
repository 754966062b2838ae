"""Run in an environment that holds the wheel and nothing but its base dependencies."""

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np

import minunet as mn
from minunet.model_files import boxed

installed = {d.metadata["Name"].lower() for d in distributions()} - {"pip", "setuptools"}
assert installed == {"minunet", "numpy"}, f"the base install brought {sorted(installed)}"
site_packages = Path(mn.__file__).parents[1]
assert site_packages.name == "site-packages", f"minunet comes from {site_packages}"
assert not (site_packages / "kernels").exists(), "a top-level `kernels` was installed"

model = mn.UNet(1, 2, features=(4, 8), padding="same", norm="batch", seed=0).eval()
mn.save(model, "model.safetensors")
image = np.random.default_rng(0).integers(0, 256, (37, 50), dtype=np.uint8)
np.save("image.npy", image)

probabilities = mn.predict(mn.load("model.safetensors"), np.load("image.npy"))
assert probabilities.shape == (2, 37, 50)
assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)
assert np.array_equal(probabilities, mn.predict(model, image)), "the file changed the model"

command = Path(sys.executable).with_name("minunet")
subprocess.run([command, "info", "model.safetensors"], check=True)
subprocess.run([command, "predict", "model.safetensors", "image.npy", "--out", "out"], check=True)
assert any(Path("out").iterdir()), "`minunet predict` wrote nothing"
for name in boxed.names():
    subprocess.run([command, "predict", name, "image.npy", "--out", name], check=True)
    assert np.load(f"{name}/image.npy").shape == image.shape
print("the wheel predicts with NumPy alone")
