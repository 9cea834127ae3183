"""The state of an installation: the answer of `GET /doctor`, `kit.doctor` and `agentkit doctor`."""

from __future__ import annotations

from typing import Literal

from agentkit.core.struct import Wire
from agentkit.core.workers import Worker

__all__ = ["Doctor", "Finding", "Grade"]

Grade = Literal["ok", "warn", "fail"]


class Finding(Wire):
    """What was found about one part. `todo`: what to do about it, where that is anything.

    warn: it works, and may not for long. fail: runs are not carried out, or may be lost.
    """

    name: str
    status: Grade
    text: str
    todo: str | None = None


class Doctor(Wire):
    """The state of an installation, as one process sees it. `status`: that of the worst finding.

    `version`: of agentkit in that process. `workers`: those whose heartbeat is recent.
    """

    status: Grade
    version: str
    checked_at: int
    findings: list[Finding]
    workers: list[Worker]
