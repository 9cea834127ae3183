"""Every error that agentkit raises, in one tree.

    AgentKitError
    ├── ConfigurationError             a setting, agent or tool is declared wrongly
    │   └── UnknownKeywordError        an argument that there is not; a TypeError, too
    ├── InvalidRequestError            the caller's input has the wrong shape
    │   └── InvalidLastEventIdError    a Last-Event-ID that is no seq of this run
    ├── UnauthenticatedError           the request has no valid credentials
    ├── ForbiddenError                 the caller may not do this
    ├── RunNotFoundError
    ├── AgentNotFoundError
    ├── DecisionNotFoundError
    ├── ConflictError                  the run's state does not allow it
    │   ├── RunNotPausedError          nothing is pending
    │   ├── RunNotTerminalError        only an ended run can be deleted
    │   ├── ToolNotRegisteredError     the application no longer has the tool
    │   ├── DecisionConflictError      another decision was accepted first
    │   ├── DecisionAmbiguousError     several items are pending and none was named
    │   └── IdempotencyConflictError   the same Idempotency-Key with another body
    ├── DecisionExpiredError
    ├── ValidationError                a value does not satisfy its JSON Schema
    │   ├── DecisionValidationError
    │   └── InputValidationError
    ├── PayloadTooLargeError           what was sent is larger than the application takes
    ├── QuotaExceededError             the principal has all that it may: try again after `retry_after` s
    ├── StoreError
    │   ├── StoreUnavailableError      try again after `retry_after` seconds
    │   └── LeaseLostError             the step belongs to another worker, or is done
    ├── ExtraMissingError              the server lacks a package that this needs
    ├── TooManyWatchersError           this process is at its limit of streams: try again after `retry_after` s
    ├── UnreadableRunError             what is stored of a run cannot be read here; it was not changed
    │   ├── UnsupportedSchemaVersionError   the record was written by a newer agentkit
    │   └── DecryptionError                 this process has no key that decrypts it
    ├── ProviderError                  the model's vendor failed or refused
    └── ToolError                      a tool failed, in words that models and people may read

`agentkit.client` adds ApiError (the server refused) and ServerUnreachableError, for callers over HTTP.

A class's docstring is its default message. `code` is the protocol's error code. This module knows
nothing of HTTP: the web layer maps codes to statuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypedDict

if TYPE_CHECKING:
    from agentkit.core.messages import Usage

__all__ = [
    "AgentKitError",
    "AgentNotFoundError",
    "ConfigurationError",
    "ConflictError",
    "DecisionAmbiguousError",
    "DecisionConflictError",
    "DecisionExpiredError",
    "DecisionNotFoundError",
    "DecisionValidationError",
    "DecryptionError",
    "ExtraMissingError",
    "ForbiddenError",
    "IdempotencyConflictError",
    "InputValidationError",
    "InvalidLastEventIdError",
    "InvalidRequestError",
    "LeaseLostError",
    "PayloadTooLargeError",
    "ProviderError",
    "QuotaExceededError",
    "RunNotFoundError",
    "RunNotPausedError",
    "RunNotTerminalError",
    "SchemaProblem",
    "StoreError",
    "StoreUnavailableError",
    "TooManyWatchersError",
    "ToolError",
    "ToolNotRegisteredError",
    "UnauthenticatedError",
    "UnknownKeywordError",
    "UnreadableRunError",
    "UnsupportedSchemaVersionError",
    "ValidationError",
]


class SchemaProblem(TypedDict):
    """One violation of a JSON Schema.

    `path`: a JSON Pointer to the value ("" is the whole). `message`: what is wrong with it.
    """

    path: str
    message: str


class AgentKitError(Exception):
    """agentkit could not do what was asked."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        """The text of the error, for people."""
        return str(self.args[0])


class ConfigurationError(AgentKitError):
    """The application is not configured correctly."""

    code = "configuration_error"


class UnknownKeywordError(ConfigurationError, TypeError):
    """There is no such keyword argument."""


class InvalidRequestError(AgentKitError):
    """The request is malformed."""

    code = "invalid_request"

    def __init__(self, message: str | None = None, errors: Sequence[SchemaProblem] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)


class InvalidLastEventIdError(InvalidRequestError):
    """The event id is not a seq of this run."""

    code = "invalid_last_event_id"


class UnauthenticatedError(AgentKitError):
    """The request has no valid credentials."""

    code = "unauthenticated"


class ForbiddenError(AgentKitError):
    """The caller may not do this."""

    code = "forbidden"


class RunNotFoundError(AgentKitError):
    """There is no such run."""

    code = "run_not_found"


class AgentNotFoundError(AgentKitError):
    """There is no such agent."""

    code = "agent_not_found"


class DecisionNotFoundError(AgentKitError):
    """The run has no such pending item."""

    code = "decision_not_found"


class ConflictError(AgentKitError):
    """The run's state does not allow this."""

    code = "conflict"


class RunNotPausedError(ConflictError):
    """Nothing is pending in this run."""

    code = "run_not_paused"


class RunNotTerminalError(ConflictError):
    """The run has not ended: abort it first, or delete it by force."""

    code = "run_not_terminal"


class ToolNotRegisteredError(ConflictError):
    """The application no longer has the tool that this decision is for."""

    code = "tool_not_registered"


class DecisionConflictError(ConflictError):
    """Another decision was already accepted for this item."""

    code = "decision_conflict"


class DecisionAmbiguousError(ConflictError):
    """Several items are pending: name one by toolCallId or decisionId."""

    code = "decision_ambiguous"


class IdempotencyConflictError(ConflictError):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_conflict"


class DecisionExpiredError(AgentKitError):
    """The pending item has expired and takes no answer any more."""

    code = "decision_expired"


class ValidationError(AgentKitError):
    """The value does not satisfy its schema."""

    code = "invalid_value"

    def __init__(self, errors: Sequence[SchemaProblem], message: str | None = None) -> None:
        self.errors: list[SchemaProblem] = list(errors)
        summary = "; ".join(f"{e['path'] or '/'}: {e['message']}" for e in self.errors[:3])
        super().__init__(message or f"{(type(self).__doc__ or '').strip().rstrip('.')}: {summary}")


class DecisionValidationError(ValidationError):
    """The decision does not satisfy the tool's decision schema."""

    code = "decision_invalid"


class InputValidationError(ValidationError):
    """The replaced input does not satisfy the tool's parameters."""

    code = "input_invalid"


class PayloadTooLargeError(AgentKitError):
    """What was sent is larger than the application takes."""

    code = "payload_too_large"


class QuotaExceededError(AgentKitError):
    """The principal has all that its quota allows; try again later."""

    code = "quota_exceeded"

    def __init__(self, message: str | None = None, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreError(AgentKitError):
    """The store refused the operation."""

    code = "store_error"


class StoreUnavailableError(StoreError):
    """The store cannot be reached; nothing was changed, try again."""

    code = "store_unavailable"

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyWatchersError(AgentKitError):
    """This server process has reached its limit of event streams; try again later."""

    code = "too_many_watchers"

    def __init__(self, message: str | None = None, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ExtraMissingError(AgentKitError):
    """There is nothing here, for the server lacks a package that this needs."""

    code = "not_found"


class LeaseLostError(StoreError):
    """The step's lease is lost: another worker holds it, or the step is done."""


class UnreadableRunError(AgentKitError):
    """This process cannot read what is stored of the run. The record was not changed."""


class UnsupportedSchemaVersionError(UnreadableRunError):
    """A newer agentkit wrote the run's record: upgrade this process. The record was not changed."""

    code = "unsupported_schema_version"


class DecryptionError(UnreadableRunError):
    """This process has no key that decrypts the run. The record was not changed.

    `message` may be read by clients; `internal` names settings, is for the operator and stands in the log alone.
    """

    code = "decryption_failed"

    def __init__(self, message: str | None = None, *, internal: str | None = None) -> None:
        super().__init__(message)
        self.internal = internal

    def __str__(self) -> str:
        return f"{self.message} ({self.internal})" if self.internal else self.message


class ProviderError(AgentKitError):
    """The model provider failed.

    `retryable`: the same request may succeed later. `status`: the HTTP status, None where the
    connection failed or the stream broke. `retry_after`: seconds that the vendor asked to wait.
    `vendor`: the provider's name. `request_id`: the vendor's id of the request, for its support. `message` may be read
    by clients; `internal` is for the operator, say the name of a setting or a host, and stands in the log alone.
    `usage`: what the vendor had counted of the answer before it failed, where it had.
    """

    code = "provider_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        retryable: bool = False,
        status: int | None = None,
        retry_after: float | None = None,
        vendor: str | None = None,
        request_id: str | None = None,
        internal: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.usage = usage
        self.internal = internal
        self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        self.vendor = vendor
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} ({self.internal})" if self.internal else self.message


class ToolError(AgentKitError):
    """The tool failed.

    Raised by a tool, its text is the error result that the model reads and people see. Of any other exception they see
    the class and a reference to the worker's log.
    """

    code = "tool_error"
