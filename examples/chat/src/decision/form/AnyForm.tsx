/**
 * The form of any schema. Its code is loaded with the first form; where that fails, or it cannot render the schema, a
 * field for JSON takes its place, so that the page stays.
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
    const { schema, ...props } = this.props
    return this.state.hasFailed ? <AnyJson {...props} /> : <SchemaForm schema={schema} {...props} />
  }
}
