"""minunet: a U-Net from scratch on NumPy, with nothing hidden.

Read in this order: unet.py (the network), functional.py (each operation and its derivative), kernels/ (the loops),
autograd.py (the chain rule), optim.py (the step).
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import functional, kernels, nn, optim
from .autograd import Tensor, no_grad
from .export import export  # at once: imported later, the package of this name would stand in its place
from .glassbox import glassbox  # likewise
from .kernels import policy, set_num_threads, use_backend
from .optim import SGD
from .prediction.predict import predict
from .unet import UNet

if TYPE_CHECKING:
    from .data import elastic_deform, separate_touching, weight_map
    from .display.explanation import explain
    from .display.notebook import show
    from .display.trace import trace
    from .gradient_check import gradcheck
    from .instances.label import label_instances
    from .model_files.pytorch.load import load_torch
    from .model_files.weights import FileFormatError, load, save
    from .prediction.large import predict_large
    from .scores.boundaries import boundary_f1
    from .scores.evaluation import evaluate
    from .scores.matching import average_precision
    from .scores.membranes import membrane_scores
    from .scores.partitions import v_info, v_rand
    from .scores.warping import warping_error
    from .training.train import fit

__version__ = "0.1.0"

# What stands above the network is imported when it is first used: `import minunet` costs NumPy and little more.
_LATER = {
    "FileFormatError": "model_files.weights",
    "average_precision": "scores.matching",
    "boundary_f1": "scores.boundaries",
    "elastic_deform": "data",
    "evaluate": "scores.evaluation",
    "explain": "display.explanation",
    "fit": "training.train",
    "gradcheck": "gradient_check",
    "label_instances": "instances.label",
    "load": "model_files.weights",
    "load_torch": "model_files.pytorch.load",
    "membrane_scores": "scores.membranes",
    "predict_large": "prediction.large",
    "save": "model_files.weights",
    "separate_touching": "data",
    "show": "display.notebook",
    "trace": "display.trace",
    "v_info": "scores.partitions",
    "v_rand": "scores.partitions",
    "warping_error": "scores.warping",
    "weight_map": "data",
}

__all__ = [
    "SGD",
    "FileFormatError",
    "Tensor",
    "UNet",
    "average_precision",
    "boundary_f1",
    "elastic_deform",
    "evaluate",
    "explain",
    "export",
    "fit",
    "functional",
    "glassbox",
    "gradcheck",
    "kernels",
    "label_instances",
    "load",
    "load_torch",
    "membrane_scores",
    "nn",
    "no_grad",
    "optim",
    "policy",
    "predict",
    "predict_large",
    "save",
    "separate_touching",
    "set_num_threads",
    "show",
    "trace",
    "use_backend",
    "v_info",
    "v_rand",
    "warping_error",
    "weight_map",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'minunet' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
