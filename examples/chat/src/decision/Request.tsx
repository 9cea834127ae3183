/** What is asked for: the tool, by whom it was called and why a person is asked, and what would be executed, in full. */
import type { JsonObject, PendingItem } from "@agentkit/react"
import { Exact, ExactText } from "../content/Exact"
import type { Tool } from "../server"

interface Props {
  item: PendingItem
  tool: Tool | undefined
  /** The agent that called the tool, and the principal for whom it works. */
  agent: string | undefined
  owner: string | undefined
}

export function Request({ item, tool, agent, owner }: Props) {
  return (
    <>
      <p>
        <b>
          <ExactText text={tool?.label || item.toolName} />
        </b>
        {tool?.label && tool.label !== item.toolName && <code className="faint"> {item.toolName}</code>}
        {tool?.description && <span className="about">{tool.description}</span>}
      </p>
      <p className="faint">
        Asked by <ExactText text={agent ? `the agent ${agent}` : "an agent"} />
        {owner && (
          <>
            {" for "}
            <ExactText text={owner} />
          </>
        )}
        {item.reason && (
          <>
            {": "}
            <ExactText text={item.reason} />
          </>
        )}
      </p>
    </>
  )
}

/** All arguments of a call. */
export function Arguments({ input }: { input: JsonObject }) {
  const entries = Object.entries(input)
  if (!entries.length) return <p className="faint">It is executed without arguments.</p>
  return (
    <figure aria-label="What will be executed">
      <dl className="values">
        {entries.map(([name, value]) => (
          <div key={name}>
            <dt>
              <ExactText text={name} />
            </dt>
            <dd>
              <Exact value={value} />
            </dd>
          </div>
        ))}
      </dl>
    </figure>
  )
}
