"""What of a cluster is ready for training, check by check, and what to do about what is not."""
