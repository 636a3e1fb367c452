"""The exceptions a user can meet. Each takes one message that says what was expected, found, where, and what next."""

import signal


class RadiffuseError(Exception):
    """Anything that a user can put right; the command line prints its message without a traceback."""


class ConfigError(RadiffuseError):
    """A setting is unknown, out of range, or contradicts another one. Never worth a retry."""


class DataError(RadiffuseError):
    """A table, an image or a shard is not what its layout promises. Never worth a retry."""


class StorageError(RadiffuseError):
    """The object store cannot be reached or does not answer as S3 does. Worth a retry."""


class ObjectNotFoundError(StorageError):
    """No such object or bucket (404)."""


class AccessDeniedError(StorageError):
    """The store refused the credentials (403)."""


class IntegrityError(StorageError):
    """Bytes do not have the digest or the size that their manifest recorded."""


class ClusterError(RadiffuseError):
    """The Kubernetes API refuses, is not reached, or lacks what a job needs; cluster/api_errors.py tells them apart."""


class TrainingError(RadiffuseError):
    """Training stopped for a reason of its own, such as a loss that is not finite."""


class Preempted(RadiffuseError):
    """A signal arrived; everything up to the last optimizer step is in the store. Number: of the first that did."""

    def __init__(self, message: str, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__(message)
        self.number = number


class GaveUp(RadiffuseError):
    """Many starts of a run, and none of them got further than the one before. Never worth a retry."""
