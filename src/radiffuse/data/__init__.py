"""Data: from published layouts to image-prompt shards and latents."""
