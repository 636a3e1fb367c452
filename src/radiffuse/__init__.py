"""Adapt Stable Diffusion to chest X-rays: ingest, fine-tune, sample and judge, on a laptop or on Kubernetes."""

__version__ = "0.1.0"
