"""What a model call costs, in US dollars: from a price list that others maintain, or as the application says.

The list is genai-prices, of the extra `[prices]`, read from the copy inside the package: no network. A model that it
does not know costs nothing, and that is no error. The list is loaded with the first call of a vendor in it.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import astuple, dataclass

import msgspec

from agentkit.core.messages import Cost, Usage
from agentkit.errors import ConfigurationError
from agentkit.providers.names import vendor_of

__all__ = ["context_window", "priced", "require_prices", "set_price"]

log = logging.getLogger(__name__)

_UNLISTED = frozenset({"ollama", "scripted"})  # nobody charges for these: spares loading the list
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class _Price:
    """Dollars per million tokens."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    long_cache_write: float


_registered: dict[str, _Price] = {}


def set_price(
    model_name: str,
    *,
    input: float,
    output: float,
    cache_read: float | None = None,
    cache_write: float | None = None,
    long_cache_write: float | None = None,
) -> None:
    """Set what `provider:model` costs in this process, in US dollars per million tokens, whatever the list says.

    `input`: of the prompt, without what was read from or written to a cache. `output`: of the answer. `cache_read` and
    `cache_write` are by default as much as `input`; `long_cache_write`, of what is cached for an hour and not for
    minutes, as much as `cache_write`. Raises ConfigurationError for a name without a colon and for a negative price.
    """
    if ":" not in model_name:
        raise ConfigurationError(f"the model {model_name!r} must be named provider:model")
    read, write = (input if price is None else price for price in (cache_read, cache_write))
    price = _Price(input, output, read, write, write if long_cache_write is None else long_cache_write)
    if not all(value >= 0 for value in astuple(price)):
        raise ConfigurationError(f"the prices of {model_name!r} must not be negative")
    _registered[model_name] = price


def priced(
    usage: Usage, provider: str, model: str, answered_by: str | None = None, *, long_cache_write: int = 0
) -> Usage:
    """Return the usage with its cost. `answered_by` is the vendor's name of the model, tried where `model` is unknown.

    `long_cache_write`: tokens of `usage.cache_write` that were written for an hour. A usage that has a cost already
    keeps it.
    """
    if usage.cost.total:
        return usage
    long = min(max(long_cache_write, 0), usage.cache_write)
    for name in filter(None, (model, answered_by)):
        price = _registered.get(f"{provider}:{name}") or _registered.get(f"{vendor_of(provider)}:{name}")
        cost = _cost_at(price, usage, long) if price else _listed_cost(usage, vendor_of(provider), name, long)
        if cost is not None:
            return msgspec.structs.replace(usage, cost=cost)
    return usage


def require_prices(provider: str, model: str) -> None:
    """Raise ConfigurationError where nothing can say what a model costs, so that no limit of dollars would hold."""
    names = {f"{provider}:{model}", f"{vendor_of(provider)}:{model}"}
    if provider in _UNLISTED or names & _registered.keys() or importlib.util.find_spec("genai_prices") is not None:
        return
    raise ConfigurationError(
        f"max_cost needs to know what {provider}:{model} costs: pip install 'agentkit-celery[prices]' or call set_price"
    )


def context_window(provider: str, model: str) -> int | None:
    """Return the tokens that a request to the model may have, where the list says so."""
    if provider in _UNLISTED:
        return None
    entry = _find(vendor_of(provider), model)
    window = getattr(entry[1], "context_window", None) if entry else None
    return window if isinstance(window, int) else None


def _cost_at(price: _Price, usage: Usage, long: int) -> Cost:
    return Cost.of(
        usage.input * price.input / _MILLION,
        usage.output * price.output / _MILLION,
        usage.cache_read * price.cache_read / _MILLION,
        ((usage.cache_write - long) * price.cache_write + long * price.long_cache_write) / _MILLION,
    )


def _listed_cost(usage: Usage, provider: str, model: str, long: int) -> Cost | None:
    """Calculate the cost by the list; None where the model is not in it.

    The list gives one price for everything in the prompt: the shares are those of each part alone.
    """
    if provider in _UNLISTED or _find(provider, model) is None:
        return None
    try:
        new = _price(provider, model, usage.input)[0]
        read = _price(provider, model, usage.cache_read, read=usage.cache_read)[0]
        write = _price(provider, model, usage.cache_write, write=usage.cache_write, long=long)[0]
        prompt = usage.input + usage.cache_read + usage.cache_write
        whole, output = _price(
            provider, model, prompt, usage.output, read=usage.cache_read, write=usage.cache_write, long=long
        )
    except (ArithmeticError, LookupError, ValueError) as error:
        log.warning("the price of %s:%s cannot be calculated, its calls count as free: %s", provider, model, error)
        return None
    parts = new + read + write
    factor = whole / parts if parts else 0.0  # more than 1 where long prompts cost more a token
    return Cost.of(new * factor, output, read * factor, write * factor)


def _price(
    provider: str, model: str, input: int, output: int = 0, *, read: int = 0, write: int = 0, long: int = 0
) -> tuple[float, float]:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    tokens = Tokens(
        input_tokens=input,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=long or None,  # among those written
    )
    price = calc_price(tokens, model, provider_id=provider)
    return float(price.input_price), float(price.output_price)


def _find(provider: str, model: str) -> tuple[object, object] | None:
    """Find the list's entry; None where the extra is not installed, too."""
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return None
    try:
        return get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
