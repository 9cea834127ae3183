"""What model calls cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentkit.core.messages import Cost, Usage
from agentkit.errors import ConfigurationError
from agentkit.providers import prices
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.prices import priced, set_price
from agentkit.providers.protocol import Finish, TextDelta


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "_registered", {})


def usage(input: int = 0, output: int = 0, read: int = 0, write: int = 0) -> Usage:
    return Usage.of(input, output, read, write)


def test_a_price_of_ones_own_is_in_dollars_per_million_tokens() -> None:
    set_price("acme:large", input=1, output=4, cache_read=0.1, cache_write=2)
    cost = priced(usage(1_000_000, 500_000, 100_000, 10_000), "acme", "large").cost
    assert cost == Cost(1.0, 2.0, 0.01, 0.02, 3.03)


def test_cached_tokens_cost_as_much_as_new_ones_by_default() -> None:
    set_price("acme:large", input=1, output=4)
    assert priced(usage(0, 0, 500_000, 500_000), "acme", "large").cost.total == 1.0


def test_a_known_model_has_the_lists_price_and_a_price_of_ones_own_goes_before_it() -> None:
    tokens = usage(1_000_000, 1_000_000)
    cost = priced(tokens, "openai", "gpt-4o").cost
    assert (cost.input, cost.output, cost.total) == (2.5, 10.0, 12.5)
    assert tokens.cost.total == 0
    set_price("openai:gpt-4o", input=0, output=1)
    assert priced(tokens, "openai", "gpt-4o").cost.total == 1.0


def test_cached_tokens_of_a_known_model_cost_less_to_read_and_more_to_write() -> None:
    cost = priced(usage(10_000, 0, 10_000, 10_000), "anthropic", "claude-haiku-4-5").cost
    assert 0 < cost.cache_read < cost.input < cost.cache_write
    assert cost.total == pytest.approx(cost.input + cost.cache_read + cost.cache_write)


@pytest.mark.parametrize("provider", ["openai-responses", "openai-completions"])
def test_a_model_of_openai_costs_the_same_on_each_wire_unless_said_otherwise(provider: str) -> None:
    tokens = usage(1000, 1000)
    assert priced(tokens, provider, "gpt-4o").cost == priced(tokens, "openai", "gpt-4o").cost
    set_price("openai:gpt-4o", input=0, output=1000)
    assert priced(tokens, provider, "gpt-4o").cost.total == 1.0
    set_price(f"{provider}:gpt-4o", input=0, output=2000)
    assert priced(tokens, provider, "gpt-4o").cost.total == 2.0
    assert priced(tokens, "openai", "gpt-4o").cost.total == 1.0


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "my-own"), ("acme", "gpt-4o"), ("ollama", "qwen3:4b"), ("scripted", "echo")]
)
def test_an_unknown_model_costs_nothing(provider: str, model: str) -> None:
    tokens = usage(10, 10, 10, 10)
    assert priced(tokens, provider, model) == tokens
    assert priced(tokens, provider, model, "unheard-of") == tokens


def test_a_deployment_is_priced_by_the_model_that_answered() -> None:
    assert priced(usage(1_000_000), "openai", "my-deployment", "gpt-4o-2024-08-06").cost.input == 2.5


def test_no_tokens_cost_nothing_and_a_cost_that_is_known_is_kept() -> None:
    assert priced(usage(), "openai", "gpt-4o") == usage()
    known = usage(10)
    known.cost.total = 0.5
    assert priced(known, "openai", "gpt-4o") == known


def test_the_message_carries_the_cost() -> None:
    builder = MessageBuilder(api="openai-completions", provider="openai", model="gpt-4o", timestamp=0)
    builder.feed(TextDelta("hi"))
    builder.feed(Finish("stop", usage(1_000_000), "gpt-4o-2024-08-06"))
    assert builder.message().usage.cost.total == 2.5


@pytest.mark.parametrize(("name", "input"), [("large", 1.0), ("acme:large", -1.0), ("acme:large", float("nan"))])
def test_a_price_that_makes_no_sense_is_a_clear_error(name: str, input: float) -> None:
    with pytest.raises(ConfigurationError):
        set_price(name, input=input, output=1)


def test_the_list_is_not_loaded_for_models_that_nobody_charges_for() -> None:
    code = (
        "import sys; from agentkit.providers.prices import priced; from agentkit.core.messages import Usage; "
        "import agentkit.agents; priced(Usage.of(), 'scripted', 'echo'); sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
