"""What tests need of PyTorch: the networks, which the benchmarks use too, and the loss of the golden cases."""

import torch
import torch.nn.functional as TF

from minunet.bench.torch_networks import build, load

__all__ = ["build", "load", "loss", "tensors"]


def loss(logits, target, weight=None):
    """The loss that `golden.cases.loss` computes with minunet; arguments are tensors."""
    if logits.shape[1] == 1:
        return TF.binary_cross_entropy_with_logits(logits, target, weight)
    losses = TF.cross_entropy(logits, target, reduction="none")
    return losses.mean() if weight is None else (weight * losses).mean()


def tensors(*arrays):
    """Arrays as tensors that share nothing with them; None stays None."""
    return [None if a is None else torch.from_numpy(a.copy()) for a in arrays]
