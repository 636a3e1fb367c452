"""The figures in the alerts, with the reason for each."""

from pydantic import BaseModel, Field


class Thresholds(BaseModel, extra="forbid", frozen=True):
    """What is too much; the defaults are those of the chart."""

    stall_steps: float = Field(
        10, gt=0, description="Mean steps without a step: more than a checkpoint's copy or a slow batch takes."
    )
    stall_floor_seconds: int = Field(
        600, ge=0, description="And at least so long: a store that hangs is waited for as long as five attempts take."
    )
    not_starting_seconds: int = Field(
        1800, ge=0, description="To fetch data and model and to meet the other nodes, which are waited for 600 s."
    )
    checkpoint_intervals: float = Field(
        2, ge=1, description="One interval to the next save, and as much again for its upload."
    )
    checkpoint_floor_seconds: int = Field(
        900, ge=0, description="And at least so long: where an interval is a minute, two of them are no trouble."
    )
    data_wait_ratio: float = Field(0.2, gt=0, lt=1, description="A fifth of all GPUs' time.")
    straggler_ratio: float = Field(1.1, gt=1, description="One rank makes every step a tenth longer.")
    slow_seconds: int = Field(900, ge=0, description="What is slow or looks odd is said when it lasts.")
    restarts: int = Field(3, ge=1, description="Within an hour; a job is given ten in all by default.")
    store_error_ratio: float = Field(
        0.05, gt=0, lt=1, description="Of requests, each of which has been tried five times."
    )
    store_errors_seconds: int = Field(300, ge=0, description="They go on; the run outlives what is shorter.")
    target_down_seconds: int = Field(300, ge=0, description="More than a container's restart in its pod takes.")
    loss_factor: float = Field(2, gt=1, description="Mean loss of ten minutes, over that of the two hours before.")
    confirm_seconds: int = Field(60, ge=0, description="Of conditions that hold a time already: two looks, not one.")
    memory_seconds: int = Field(
        900, gt=0, description="What a pod tells in its last seconds stays visible: its series end with it."
    )


CHART = Thresholds()
