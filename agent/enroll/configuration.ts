import { isDeepStrictEqual } from 'node:util'
import { type Document, isMap, isScalar, isSeq, type Pair, parseDocument, type YAMLMap } from 'yaml'
import { AgentError } from '../cert/errors.ts'
import { hasPath, isTree, ownValue, type Tree, type TreeValue } from '../config/problem.ts'
import type { ConfigFile } from '../config/read-files.ts'

/** A value of the configuration, by the names of the file; null takes the key out. */
type Setting = string | readonly string[] | boolean | null
type Path = readonly [string, ...string[]]

/** What `enroll` sets, `['issuer', 'url']` each; what is not named stays as it is. */
export type Settings = readonly (readonly [path: Path, setting: Setting])[]

const HEAD = 'Written by `hostcertd enroll`; `man hostcertd.yaml` explains every setting.'
const FORMAT = { lineWidth: 0, flowCollectionPadding: false } as const

/**
 * The configuration file with settings changed. Every line but those of these settings stays, byte for byte; only where
 * a setting has no line of its own (a section in braces, an alias) is the file formatted anew, with its comments.
 *
 * @param text of the file, valid YAML; null when there is none
 */
export function withSettings(text: string | null, settings: Settings): string {
  if (text === null || text.trim() === '') {
    const document = parse('')
    setAll(document, settings)
    document.commentBefore = ` ${HEAD}`
    return document.toString(FORMAT)
  }
  const wanted = parse(text)
  const changed = settings.filter(([path, setting]) => !isSet(wanted, path, setting))
  if (changed.length === 0) return text
  setAll(wanted, changed)
  const edited = changed.reduce<string | null>(
    (before, [path, setting]) => before && editedText(before, path, setting),
    text,
  )
  const isRight = edited !== null && isDeepStrictEqual(valueOf(parse(edited)), valueOf(wanted))
  return isRight ? edited : wanted.toString(FORMAT)
}

/**
 * Compare settings with what other files, which are laid over the main one, set.
 *
 * @returns `missing`: those that none of them sets. `lines`: a sentence for each that is set otherwise, with its file
 */
export function comparedWith(
  files: readonly { readonly file: string; readonly tree: Tree }[],
  settings: Settings,
): { readonly missing: Settings; readonly lines: readonly string[] } {
  const missing: Settings[number][] = []
  const lines: string[] = []
  for (const [path, setting] of settings) {
    const last = files.findLast(({ tree }) => hasPath(tree, path))
    if (last === undefined || setting === null) missing.push([path, setting])
    else if (!isDeepStrictEqual(valueAt(last.tree, path), setting))
      lines.push(
        `${path.join('.')} is set to something else in ${last.file}, which counts: change or remove it there`,
      )
  }
  return { missing, lines }
}

/** What a file sets at a path; undefined: nothing. */
function valueAt(tree: Tree, path: readonly string[]): TreeValue | undefined {
  return path.reduce<TreeValue | undefined>(
    (value, key) => (isTree(value) ? ownValue(value, key) : undefined),
    tree,
  )
}

/** What counts of a setting: of several files, the last that sets it. @returns null when none does */
export function settingIn(
  files: readonly ConfigFile[],
  path: readonly string[],
): { readonly file: string; readonly value: TreeValue } | null {
  const settings = files.flatMap(({ file, tree }) => {
    const value = valueAt(tree, path)
    return value === undefined ? [] : [{ file, value }]
  })
  return settings.at(-1) ?? null
}

function parse(text: string): Document {
  return parseDocument(text, { schema: 'core', version: '1.2' })
}

/** For comparison; damaged when an alias names nothing. */
function valueOf(document: Document): unknown {
  return document.errors.length > 0 ? document.errors : document.toJS()
}

function setAll(document: Document, settings: Settings): void {
  // Nothing but comments or `---`; who calls this has seen that it is no list.
  if (!isMap(document.contents))
    document.contents = document.createNode({}) as unknown as typeof document.contents
  for (const [path, setting] of settings) {
    const [section] = path
    const there = document.get(section)
    // Also `auth:` with nothing behind it.
    if (there === undefined) document.delete(section)
    else if (!isMap(there))
      throw new AgentError('CONFIG_INVALID', `${section} is not a map of settings: correct or remove it`)
    if (setting !== null) document.setIn(path, document.createNode(setting))
    else if (document.hasIn(path)) document.deleteIn(path)
  }
  removeEmptySections(document)
}

function isSet(document: Document, path: readonly string[], setting: Setting): boolean {
  const node: unknown = document.getIn(path)
  const there: unknown =
    isMap(node) || typeof node !== 'object' ? node : (node as { toJSON(): unknown } | null)?.toJSON()
  return setting === null ? !document.hasIn(path) : isDeepStrictEqual(there, setting)
}

/** `auth: {}` is what is left when the last setting of a section goes. */
function removeEmptySections({ contents }: Document): void {
  if (isMap(contents))
    contents.items = contents.items.filter(({ value }) => !isMap(value) || value.items.length > 0)
}

/**
 * One setting changed in the text itself; null when it has no lines of its own there. Only a proposal: whoever calls
 * this looks at what it means.
 */
function editedText(text: string, [section, key]: Path, setting: Setting): string | null {
  const { contents } = parse(text)
  if (!isMap(contents) || contents.flow === true || key === undefined) return null
  const end = text.includes('\r\n') ? '\r\n' : '\n'
  const line = setting === null ? '' : lineOf(key, setting)
  const there = pairOf(contents, section)
  if (there === undefined) {
    const gap = text.endsWith('\n') ? '' : end
    return `${text}${gap}${section}:${end}  ${line}${end}`
  }
  const map = there.value
  if (isScalar(map) && map.value === null && map.source === '' && setting !== null) {
    const head = text.slice(0, endOfLine(text, rangeOf(there, text)?.[0] ?? text.length))
    return `${head}${head.endsWith('\n') ? '' : end}  ${line}${end}${text.slice(head.length)}`
  }
  if (!isMap(map) || map.flow === true) return null
  const pair = pairOf(map, key)
  const [start, stop] = rangeOf(pair ?? map.items.at(-1), text) ?? [-1, -1]
  if (start === -1) return null
  const indent = /^ */.exec(text.slice(text.lastIndexOf('\n', start - 1) + 1))?.[0] ?? ''
  const [from, to] = [text.lastIndexOf('\n', start - 1) + 1, endOfLine(text, stop)]
  if (text.slice(from, start).trim() !== '') return null
  if (pair === undefined) {
    const head = text.slice(0, to)
    return `${head}${head.endsWith('\n') ? '' : end}${indent}${line}${end}${text.slice(to)}`
  }
  if (setting !== null) return `${text.slice(0, start)}${line}${text.slice(stop)}`
  // The last of its section takes the section with it.
  if (map.items.length > 1) return text.slice(0, from) + text.slice(to)
  const head = rangeOf(there, text)?.[0] ?? from
  return text.slice(0, text.lastIndexOf('\n', head - 1) + 1) + text.slice(to)
}

function pairOf(map: YAMLMap, key: string): Pair | undefined {
  return map.items.find((item) => isScalar(item.key) && item.key.value === key)
}

/** Of a key and its value, without a comment behind it and without what follows. */
function rangeOf(pair: Pair | undefined, text: string): readonly [start: number, end: number] | null {
  if (pair === undefined || !isScalar(pair.key)) return null
  const start = pair.key.range?.[0]
  const { value } = pair
  const isSimple = isScalar(value) || isSeq(value) || isMap(value)
  const stop = isSimple ? value.range?.[1] : undefined
  if (start === undefined || stop === undefined) return null
  // A block ends behind its last line feed.
  return [start, start + text.slice(start, stop).trimEnd().length]
}

/** The index behind the line feed of the line that a position is in. */
function endOfLine(text: string, position: number): number {
  const feed = text.indexOf('\n', position)
  return feed === -1 ? text.length : feed + 1
}

/** `key: value` in one line. */
function lineOf(key: string, setting: Exclude<Setting, null>): string {
  const document = parse('')
  const value = document.createNode(setting, { flow: true })
  document.contents = document.createNode({ [key]: value })
  return document.toString(FORMAT).trimEnd()
}
