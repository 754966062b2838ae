"""What happened in a run, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """What happened in a run; `records` are the lines of log.jsonl.

    A record has step, steps, loss (mean since the record before), lr, images_per_second and
    seconds; where the validation images were looked at also score, validation_loss, predicted (the
    share of each class in the predictions) and best. Where the score is the mean AP of cells (see
    scores/choice.py), ap50 (AP at an IoU of 0.5) and mean_iou stand beside it. Record 0 is the
    network before its first step.
    """

    steps: int
    records: list[dict[str, Any]] = field(default_factory=list)
    stopped_at: int | None = None  # the step at which the run ended early, if it came to that
    stopped_by: str | None = None  # "time" or "patience"

    @property
    def best(self) -> dict[str, Any] | None:
        """The record with the best score."""
        return next((record for record in reversed(self.records) if record.get("best")), None)

    @property
    def best_step(self) -> int | None:
        return None if self.best is None else self.best["step"]

    @property
    def best_score(self) -> float | None:
        return None if self.best is None else self.best["score"]

    @property
    def looks(self) -> list[dict[str, Any]]:
        """The records of a trained network that have a score."""
        return [record for record in self.records if record["step"] and "score" in record]

    @property
    def waited(self) -> int:
        """Looks at the validation images since the best one."""
        return next((i for i, record in enumerate(reversed(self.looks)) if record["best"]), 0)

    def _repr_html_(self) -> str:
        """In a notebook: the curves of the training."""
        from minunet.display.notebook import curves_html  # pictures are for those who look at them

        return curves_html(self)

    def would_be_best(self, score: float, mean_iou: float = 0.0) -> bool:
        """Of equal scores the higher mean IoU wins: a network that has only begun to learn finds no cell at all."""
        best = self.best
        return best is None or (score, mean_iou) > (best["score"], best.get("mean_iou", 0.0))


@dataclass
class State:
    """A run between two steps; what is not here is in the model and in the optimizer."""

    history: History
    done: int = 0  # steps
    losses: list[Any] = field(default_factory=list)  # of the steps since the last record; some may lie on a device
    best: dict[str, Any] = field(default_factory=dict)  # the weights with the best score
    seconds: float = 0.0  # that the run took up to here

    @property
    def recorded(self) -> bool:
        """Whether this step has its record already."""
        return bool(self.history.records) and self.history.records[-1]["step"] == self.done


def is_constant(predicted: Sequence[float]) -> bool:
    """Whether one class was predicted everywhere."""
    return max(predicted) == 1.0
