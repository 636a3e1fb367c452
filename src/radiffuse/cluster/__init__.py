"""The training job on Kubernetes: its model, its two renderings, and what submits, watches and cancels it."""
