/** The state of one form, and how its fields reach it. */
import { createContext, use, useCallback, useMemo, useState } from "react"
import type { Schema } from "./merge"
import { type Choices, completed } from "./schema"
import { type Problem, problemsOf } from "./validator"

export interface FormStore {
  root: Schema
  /** The beginning of all ids of elements. */
  id: string
  choices: Choices
  /** What is wrong, as far as it is to be shown, by the place's JSON Pointer. */
  problems: ReadonlyMap<string, string>
  /** Notes which branch a person has chosen at a place. */
  choose: (path: string, branch: number | undefined) => void
}

export const FormContext = createContext<FormStore | undefined>(undefined)

export function useFormStore(): FormStore {
  const store = use(FormContext)
  if (!store) throw new Error("a field needs a form around it")
  return store
}

const NO_PROBLEMS: readonly Problem[] = []

/** Makes a form's state. `first`: its first value. */
export function useForm(id: string, root: Schema, first: unknown) {
  const [value, setPlainValue] = useState(first)
  const [choices, setChoices] = useState<Choices>({})
  const [isChecked, setChecked] = useState(false)
  const [refused, setRefused] = useState(NO_PROBLEMS)
  const answer = completed(root, value, choices)
  const found = isChecked ? problemsOf(root, answer.value, answer.choices) : NO_PROBLEMS
  const problems = found.length ? found : refused

  const setValue = useCallback((next: unknown) => {
    setRefused(NO_PROBLEMS) // what the server has said is about another value
    setPlainValue(() => next)
  }, [])
  const choose = useCallback((path: string, branch: number | undefined) => {
    setChoices(({ [path]: _, ...others }) => ({
      // The choices within another branch go with it.
      ...Object.fromEntries(Object.entries(others).filter(([inner]) => !inner.startsWith(`${path}/`))),
      ...(branch !== undefined && { [path]: branch }),
    }))
  }, [])
  const store = useMemo(
    () => ({ root, id, choices, choose, problems: new Map(problems.map((one) => [one.path, one.message])) }),
    [root, id, choices, choose, problems],
  )
  /** Returns the answer, or undefined while something is wrong with it, which the form then shows. */
  const read = () => {
    setChecked(true)
    return problemsOf(root, answer.value, answer.choices).length ? undefined : { value: answer.value ?? null }
  }
  return { store, value, setValue, problems, read, refuse: setRefused }
}
