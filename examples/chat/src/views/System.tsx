/** Whether the server can carry out runs. */
import { Heading } from "../frame/Heading"
import { type Readiness, useServer } from "../server"

export default function System() {
  const { data } = useServer<Readiness>("/readyz", 8000)
  return (
    <div className="view">
      <Heading>System</Heading>
      <dl className="facts">
        {Object.entries(data?.checks ?? {}).map(([name, isUp]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{isUp ? "reachable" : "not reachable"}</dd>
          </div>
        ))}
      </dl>
    </div>
  )
}
