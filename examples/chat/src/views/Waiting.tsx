/** Runs that wait for an answer. */
import { Heading } from "../frame/Heading"
import { RunList } from "./RunList"

export default function Waiting() {
  return (
    <div className="view">
      <Heading>Waiting</Heading>
      <RunList path="/runs?status=paused&limit=50" none="Nothing waits for an answer." />
    </div>
  )
}
