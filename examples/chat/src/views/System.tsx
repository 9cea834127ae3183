/** Whether the server can carry out runs, and what somebody is to do where it cannot. */
import type { Readiness } from "@agentkit/react"
import { ExactText } from "../content/Exact"
import { Heading } from "../frame/Heading"
import { API, useServer } from "../server"
import { Trouble } from "./parts/Trouble"
import { Fact } from "./run/Facts"
import { useMetrics } from "./system/useMetrics"

const EVERY = 5000

export default function System() {
  const { data: ready, failure } = useServer<Readiness>("/readyz", EVERY)
  const metrics = useMetrics(EVERY)
  return (
    <div className="view">
      <Heading>System</Heading>
      {failure === 404 && (
        <p className="empty">
          This application does not show its health here: it was made with <code>system=False</code>. Whoever
          runs it sees it elsewhere.
        </p>
      )}
      {!!failure && failure !== 404 && <Trouble failure={failure} />}
      {!ready && failure === undefined && <p className="faint">One moment …</p>}
      {ready && (
        <>
          <p role="status">
            <span className={`dot ${ready.status === "ready" ? "completed" : "failed"}`} />{" "}
            {ready.status === "ready"
              ? "Ready: runs are carried out."
              : "Not ready: runs are accepted, but wait."}
          </p>
          {ready.warnings.length > 0 && (
            <section aria-labelledby="warnings">
              <h2 id="warnings">Warnings</h2>
              <ul className="warnings">
                {ready.warnings.map((warning) => (
                  <li key={warning}>
                    <ExactText text={warning} />
                  </li>
                ))}
              </ul>
            </section>
          )}
          <Health ready={ready} metrics={metrics} />
          <p className="faint">
            For programs: <a href={`${API}/readyz`}>readiness</a>, <a href={`${API}/metrics`}>metrics</a>.
          </p>
        </>
      )}
    </div>
  )
}

const QUEUE_HELP = "nothing was executed of it lately: start a worker with -Q"

function Health({ ready, metrics }: { ready: Readiness; metrics: ReadonlyMap<string, number> }) {
  const { store, broker } = ready.checks
  const overdue = metrics.get("agentkit_runs_overdue")
  return (
    <dl className="facts">
      <Fact name="Store">{store ? "reachable" : "not reachable: nothing can be read or started"}</Fact>
      <Fact name="Broker">
        {broker ? "reachable" : "not reachable: what is accepted is carried out when it is back"}
      </Fact>
      <Fact name="Workers">{metrics.get("agentkit_workers") ?? "unknown"}</Fact>
      {Object.entries(ready.queues).map(([queue, isServed]) => (
        <Fact key={queue} name={`Queue ${queue}`}>
          <span className={`dot ${isServed ? "completed" : "failed"}`} /> {isServed ? "served" : QUEUE_HELP}
        </Fact>
      ))}
      <Fact name="Runs that are not done">{metrics.get("agentkit_runs_due") ?? "unknown"}</Fact>
      <Fact name="Runs that are overdue">
        {overdue ?? "unknown"}
        {!!overdue && ": no worker has taken them yet. Where this does not fall, start more workers"}
      </Fact>
      <Fact name="Event streams">{metrics.get("agentkit_event_streams") ?? "unknown"}</Fact>
    </dl>
  )
}
