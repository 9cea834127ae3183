"""An agent in one file: it pauses for a decision and finishes after it. No Redis, no Celery, no key.

python examples/quickstart.py
"""

from agentkit import Agent, AgentKit, ScriptedModel, tool

ORDERS = {"A-1001": 4999}


@tool(decision={"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]})
def refund(order_id: str, cents: int, decision: dict) -> str:
    """Refund an order."""
    if not decision["approved"]:
        return "not approved"
    ORDERS[order_id] -= cents
    return f"refunded {cents} cents for {order_id}"


model = ScriptedModel(
    [
        [{"type": "toolCall", "name": "refund", "arguments": {"order_id": "A-1001", "cents": 4999}}],
        "Your money is on its way.",
    ]
)  # a real one: model="openai:gpt-5.4-mini", with OPENAI_API_KEY set

kit = AgentKit(agents=[Agent("support", model=model, tools=[refund])])

if __name__ == "__main__":
    run = kit.run("support", "Please refund order A-1001.")
    item = run.pending[0]
    print(f"{run.status}: {item['toolName']} {item['input']} waits for {item['schema']['properties']}")

    run = kit.resume(run.id, {"approved": True}).run
    print(f"{run.status}: {run.messages[-1]['content'][0]['text']}  (left of the order: {ORDERS['A-1001']})")
