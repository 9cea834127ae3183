/** All runs, newest first. */
import { Heading } from "../frame/Heading"
import { RunList } from "./RunList"

export default function Runs() {
  return (
    <div className="view">
      <Heading>Runs</Heading>
      <RunList path="/runs?limit=50" none="No runs yet." />
    </div>
  )
}
