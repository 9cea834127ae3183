"""What somebody on call is told to do, where `doctor` and `why` say the same."""

from __future__ import annotations

__all__ = ["start_worker"]


def start_worker(options: str) -> str:
    """Say how a worker is started with these options of Celery's, also in an application that has the kit installed.

    There the worker of `agentkit.tasks` has no AGENTKIT_APP, and one that does not import the kit serves none of it.
    """
    return (
        f"celery -A agentkit.tasks worker {options}. In a Celery application of yours, have its workers import the "
        f"module that calls install(), say by its conf.imports, and start them: celery -A YOURS worker {options}"
    )
