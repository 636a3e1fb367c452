"""Prometheus metrics, declared once; the registry is passed in, so that each test has its own."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

STEP_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)


class TrainingMetrics:
    """What a training run says of itself while it runs, without a label that could name a patient."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.steps = Counter("radiffuse_train_steps", "Optimizer steps taken.", registry=registry)
        self.images = Counter("radiffuse_train_images", "Images trained on, over all processes.", registry=registry)
        self.step_seconds = Histogram(
            "radiffuse_train_step_duration_seconds", "Per optimizer step.", buckets=STEP_BUCKETS, registry=registry
        )
        self.data_wait_seconds = Counter(
            "radiffuse_train_data_wait_seconds", "Rank 0 waited for its batches.", registry=registry
        )
        self.global_step = Gauge("radiffuse_train_global_step", "Optimizer steps of the run so far.", registry=registry)
        self.max_steps = Gauge("radiffuse_train_max_steps", "Optimizer steps the run will take.", registry=registry)
        self.loss = Gauge("radiffuse_train_loss", "Mean of the last step's global batch.", registry=registry)
        self.learning_rate = Gauge("radiffuse_train_learning_rate", "Of the last step.", registry=registry)
        self.grad_norm = Gauge("radiffuse_train_grad_norm", "Before clipping.", registry=registry)
        self.nonfinite = Counter("radiffuse_train_nonfinite", "Steps refused for a loss not finite.", registry=registry)
        self.checkpoint_step = Gauge("radiffuse_checkpoint_step", "Step of the newest checkpoint.", registry=registry)
        self.last_step_timestamp = Gauge(
            "radiffuse_train_last_step_timestamp_seconds", "Unix time of the last step.", registry=registry
        )

    def count_step(
        self, global_step: int, loss: float, rate: float, grad_norm: float, images: int, seconds: float, wait: float
    ) -> None:
        """One optimizer step: its number from 1, mean loss, rate, gradient norm, images, duration, wait for data."""
        self.steps.inc()
        self.images.inc(images)
        self.step_seconds.observe(seconds)
        self.data_wait_seconds.inc(wait)
        self.global_step.set(global_step)
        self.loss.set(loss)
        self.learning_rate.set(rate)
        self.grad_norm.set(grad_norm)
        self.last_step_timestamp.set(time.time())

    def serve(self, port: int) -> None:
        """Answer GET /metrics on every interface from a daemon thread; raises OSError when the port is taken."""
        start_http_server(port, registry=self.registry)
