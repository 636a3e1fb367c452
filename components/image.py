"""The one image that every step runs in."""

from radiffuse import __version__

IMAGE = f"radiffuse:{__version__}"  # never `latest`: KFP's cache key holds this text and looks up no digest
