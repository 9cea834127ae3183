/** The page before the first message: the agent, and suggestions. */
import type { Agent } from "../server"

/** The tools of the example application that `agentkit dev` serves by default (agentkit/cli/example.py). */
const DESK = ["find_orders", "get_order", "refund"]
const PROMPTS = [
  ["Please refund order A-1001", "It waits for your decision before it pays"],
  ["Refund $5 of order A-1004", "Edit the amount before you approve"],
  ["Which orders does Ada have?", "A tool looks into the shop’s database"],
  ["Where is order A-1002?", "One look-up, one answer"],
] as const

export function Empty({ agent, onPick }: { agent: Agent; onPick: (text: string) => void }) {
  const isDesk = DESK.every((name) => agent.tools.some((tool) => tool.name === name))
  return (
    <div className="opening">
      <h1>{isDesk ? "How can the support desk help?" : `Talk to ${agent.name}`}</h1>
      {isDesk ? (
        <ul className="prompts">
          {PROMPTS.map(([text, why]) => (
            <li key={text}>
              <button type="button" onClick={() => onPick(text)}>
                {text}
                <span>{why}</span>
              </button>
            </li>
          ))}
        </ul>
      ) : (
        <ul className="tools">
          {agent.tools.map((tool) => (
            <li key={tool.name}>
              <b>{tool.label || tool.name}</b>
              <span>{tool.description}</span>
            </li>
          ))}
        </ul>
      )}
      <p className="faint">
        Close this page whenever you like: the run goes on, and its address brings you back.
      </p>
    </div>
  )
}
