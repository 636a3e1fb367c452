"""The judge: a classifier and image metrics, and the report they end in."""
