"""The two images that steps run in. Never `latest`: KFP's cache key holds this text and looks up no digest."""

from radiffuse import __version__

PIPELINE_IMAGE = f"radiffuse-pipeline:{__version__}"
"""Without torch: reads layouts, stages models, launches and watches training jobs, tells how a run ended."""
TRAIN_IMAGE = f"radiffuse-train:{__version__}"
"""With torch: encodes, trains, samples, evaluates."""
