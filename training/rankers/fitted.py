"""A contender that stands alone and is a source of the blend too is fitted on a log once."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from training.log import Log

Fit = TypeVar("Fit", bound=Callable[..., None])


def once(fit: Fit) -> Fit:
    """For `Ranker.fit`: does nothing where the ranker was last fitted on this very log, which is the same object."""

    @wraps(fit)
    def fitted(self: Any, log: Log) -> None:
        if getattr(self, "fitted_on", None) is not log:
            self.fitted_on = None
            fit(self, log)
            self.fitted_on = log

    return cast(Fit, fitted)
