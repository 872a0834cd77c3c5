"""Which exit status an error ends a command with; a script can go by it."""

from confluent_kafka import KafkaException

from pipelines.nearline import needs_a_person
from pipelines.operation import A_PERSON_DECIDES, FAILED, STOPPED, WRONG_ARGUMENTS, Interrupted, Stopped
from pipelines.redrive import RedriveFailed
from schemas.wire_confluent import RegistryUnavailable
from store.client import StoreError
from store.operations import NobodyWorks, NoSuchOperation
from transforms.files import StorageFailed


def exit_status(error: Exception) -> int | None:
    """1 failed or interrupted, the same command goes on; 2 wrong arguments; 3 a person has to decide; 4 an operator stopped it.
    None for an error that nobody expected: its traceback is shown."""
    if isinstance(error, Stopped):
        return STOPPED
    if needs_a_person(error) or isinstance(error, NobodyWorks):
        return A_PERSON_DECIDES
    if isinstance(error, NoSuchOperation):
        return WRONG_ARGUMENTS
    if isinstance(
        error,
        (Interrupted, StoreError, StorageFailed, TimeoutError, KafkaException, RegistryUnavailable, RedriveFailed),
    ):
        return FAILED
    if isinstance(error, (ValueError, LookupError, FileNotFoundError)):
        return WRONG_ARGUMENTS
    return None
