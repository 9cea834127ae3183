/**
 * The form of a schema, whatever the schema: its code comes with the first that is asked for, and where it does not
 * come, or cannot show this schema, the answer is asked for as JSON. The page around it is not to fall with it.
 */
import { Component, lazy, type ReactNode } from "react"
import { AnyJson } from "./AnyJson"
import type { Props } from "./SchemaForm"

const SchemaForm = lazy(() => import("./SchemaForm"))

export class AnyForm extends Component<Props, { hasFailed: boolean }> {
  override state = { hasFailed: false }

  static getDerivedStateFromError() {
    return { hasFailed: true }
  }

  override render(): ReactNode {
    const { schema, ...asked } = this.props
    return this.state.hasFailed ? <AnyJson {...asked} /> : <SchemaForm schema={schema} {...asked} />
  }
}
