"""What a run logs about itself: one record per logged step, which a checkpoint carries across interruptions."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class History:
    """Records so far, and the losses and clocks since the last one."""

    records: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    data_wait_seconds: float = 0.0
    images: int = 0
    start: float = field(default_factory=time.perf_counter)

    def add(self, loss: float, images: int, data_wait_seconds: float) -> None:
        """Count one optimizer step."""
        self.losses.append(loss)
        self.images += images
        self.data_wait_seconds += data_wait_seconds

    def record(self, step: int, learning_rate: float, grad_norm: float) -> dict[str, float]:
        """Close the window since the last record: `loss` is its mean, `data_wait_seconds` its sum over one process."""
        now = time.perf_counter()
        record = {
            "step": step,
            "loss": sum(self.losses) / len(self.losses),
            "images_per_second": self.images / max(now - self.start, 1e-9),
            "data_wait_seconds": self.data_wait_seconds,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
        }
        self.records.append(record)
        self.losses, self.data_wait_seconds, self.images, self.start = [], 0.0, 0, now
        return record

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; floats survive JSON exactly."""
        return {"records": list(self.records), "losses": list(self.losses)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "History":
        """Go on where `state` was taken; rates then cover the steps since."""
        return cls(list(state["records"]), list(state["losses"]))

    def write(self, path: Path) -> None:
        """One JSON object a line."""
        path.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")
