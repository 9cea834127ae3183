"""agentkit: durable agent runs on Celery, Redis and Flask.

    from agentkit import Agent, AgentKit, tool

Everything that an application needs is importable from here; the modules below are agentkit's own.
"""

from agentkit.agents import Agent, RetryPolicy
from agentkit.codec import Codec, FernetCodec
from agentkit.core.json_log import JsonFormatter
from agentkit.core.quotas import Quota
from agentkit.core.rates import Rate
from agentkit.errors import (
    AgentKitError,
    AgentNotFoundError,
    ConfigurationError,
    ConflictError,
    DecisionAmbiguousError,
    DecisionConflictError,
    DecisionExpiredError,
    DecisionNotFoundError,
    DecisionValidationError,
    DecryptionError,
    ForbiddenError,
    IdempotencyConflictError,
    InputValidationError,
    InvalidLastEventIdError,
    InvalidRequestError,
    LeaseLostError,
    PayloadTooLargeError,
    ProviderError,
    QuotaExceededError,
    RunNotFoundError,
    RunNotPausedError,
    RunNotTerminalError,
    StoreError,
    StoreUnavailableError,
    ToolError,
    ToolNotRegisteredError,
    TooManyWatchersError,
    UnauthenticatedError,
    UnknownKeywordError,
    UnreadableRunError,
    UnsupportedSchemaVersionError,
    ValidationError,
)
from agentkit.hooks import Middleware, ModelCall, RunInfo, StepInfo, ToolCall
from agentkit.kit import AgentKit
from agentkit.mcp import MCPServer
from agentkit.providers import register_provider
from agentkit.providers.choice import Model
from agentkit.providers.models import register_model
from agentkit.providers.prices import set_price
from agentkit.providers.scripted import ScriptedModel
from agentkit.results import ToolResult
from agentkit.runs import Run, RunHandle
from agentkit.settings import Settings
from agentkit.tools import Tool, ToolContext, tool

__version__ = "0.2.0"

__all__ = [
    # an application
    "Agent",
    "AgentKit",
    "Codec",
    "FernetCodec",
    "MCPServer",
    "Model",
    "Quota",
    "Rate",
    "RetryPolicy",
    "ScriptedModel",
    "Settings",
    "register_model",
    "register_provider",
    "set_price",
    # tools
    "Tool",
    "ToolContext",
    "ToolResult",
    "tool",
    # hooks, logs
    "JsonFormatter",
    "Middleware",
    "ModelCall",
    "RunInfo",
    "StepInfo",
    "ToolCall",
    # runs
    "Run",
    "RunHandle",
    # errors
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
