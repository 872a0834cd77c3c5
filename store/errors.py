"""What the store raises. Each ends the process; a supervisor may start it again, except after NamespaceMismatch."""


class StoreError(Exception):
    """Base of all errors of the store."""


class StoreUnavailable(StoreError):
    """No answer within the deadline, all retries included."""


class WriterFenced(StoreError):
    """A newer writer of the same stage has begun; this one must end."""


class StoreLost(StoreError):
    """A shard no longer holds what this writer is known to have written, not even an older version of it."""


class NamespaceMismatch(StoreError):
    """The namespace belongs to another topic, fold or policy."""


class StoreRefused(StoreError):
    """The server answered with an error that a retry does not cure: wrong arguments, type, password or rights."""
