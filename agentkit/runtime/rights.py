"""Who may do what: the application's `authenticate` and `may`, asked in one place.

It does not know how a request reaches the process, and what is called from Python is never asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, cast

from agentkit.core.messages import Json
from agentkit.core.options import is_coroutine_function
from agentkit.core.run import Run
from agentkit.errors import ConfigurationError

__all__ = ["Authenticate", "May", "Rights"]

Authenticate = Callable[[Any], str | None]
"""The principal, a string, that a Flask request comes from; None where it says nobody that is known."""

May = Callable[[str, str, Run, Json | None], bool] | Callable[[str, str, Run], bool]
"""Whether a principal may "start", "read", "resume", "extend", "abort", "message" or "delete" a run.

The run is shown without messages; for "start" it is the one that would begin. Of four parameters, the last is the
pending item for "resume" and "extend", else None. It must return True or False.
"""

_ACTIONS = ("start", "read", "resume", "extend", "abort", "message", "delete")

_Ask = Callable[[str, str, Run, Json | None], object]


class Rights:
    """An application's rules. Without `authenticate` everything is allowed; without `may`, a run's owner everything.

    Raises ConfigurationError for one that cannot be asked.
    """

    def __init__(
        self, authenticate: Authenticate | None, may: May | None, operator: Callable[[str], bool] | None = None
    ) -> None:
        if may is not None and authenticate is None:
            raise ConfigurationError("may needs authenticate: without it nobody is known, and everything would be open")
        if authenticate is not None and is_coroutine_function(authenticate):
            raise ConfigurationError(
                "authenticate must be a plain function: it returns a principal or None, no coroutine"
            )
        if operator is not None and is_coroutine_function(operator):
            raise ConfigurationError("operator must be a plain function: a coroutine is always true")
        self._is_open = authenticate is None
        self._operator = operator
        self._ask = None if may is None else _of_four(may)

    def permit(self, principal: str | None, action: str, run: Run, item: Json | None = None) -> bool:
        """Ask whether a principal may do something to a run, or to its pending item.

        Raises ValueError for an action that there is not, and TypeError where `may` returns neither True nor False, so
        that nothing is allowed by mistake.
        """
        if action not in _ACTIONS:
            raise ValueError(f"there is no action {action!r}: expected one of {', '.join(_ACTIONS)}")
        if self._is_open or principal is None:
            return self._is_open
        if self._ask is None:
            return run.owner == principal
        verdict = self._ask(principal, action, run, item)
        if verdict is True or verdict is False:
            return verdict
        if inspect.iscoroutine(verdict):
            verdict.close()
        raise TypeError(f"may must return True or False, not a {type(verdict).__name__}: {action!r} is refused")

    def is_operator(self, principal: str | None) -> bool:
        """Whether a principal may see what is of no run; raises TypeError where `operator` returns no truth value."""
        if self._is_open or principal is None or self._operator is None:
            return self._is_open
        verdict: object = self._operator(principal)
        if verdict is True or verdict is False:
            return verdict
        raise TypeError(f"operator must return True or False, not a {type(verdict).__name__}")

    @property
    def answered_by(self) -> Literal["anyone", "owner", "may"]:
        """Who may answer what a run waits for."""
        return "anyone" if self._is_open else "owner" if self._ask is None else "may"

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything: nobody is asked who they are."""
        return self._is_open

    def only_owner(self, principal: str | None) -> str | None:
        """Return the owner whose runs alone a principal may read; None where that is not known without asking `may`."""
        return principal if self._ask is None and not self._is_open else None


def _of_four(may: May) -> _Ask:
    """Give a `may` of three parameters the form of one of four."""
    if is_coroutine_function(may):
        raise ConfigurationError("may must be a plain function: what a coroutine function returns is always true")
    signature = inspect.signature(may)
    if _takes(signature, 4):
        return cast(_Ask, may)
    if not _takes(signature, 3):
        raise ConfigurationError(f"may must take (principal, action, run, item), not {signature}")
    of_three = cast(Callable[[str, str, Run], object], may)
    return lambda principal, action, run, item: of_three(principal, action, run)


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
