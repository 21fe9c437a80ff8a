import { lstat, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  type Document,
  type ErrorCode,
  isScalar,
  LineCounter,
  parseDocument,
  visit,
  type YAMLError,
} from 'yaml'
import { messageOf } from '../cert/errors.ts'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import { readBoundedFile } from '../host/files.ts'
import { type KeyPath, pathText, type Problem, type Tree, type TreeValue } from './problem.ts'

/** A configuration is a page of text; more than this is another file by mistake. */
const MAX_FILE_BYTES = 64 * 1024

export interface ConfigFile {
  readonly file: string
  readonly tree: Tree
}

interface ConfigFiles {
  /** Those that there are, the main one first; each is laid over those before it. */
  readonly files: readonly ConfigFile[]
  /** False when something is there that could not be read, or is no map in YAML; the problems say why. */
  readonly complete: boolean
  readonly problems: readonly Problem[]
  readonly warnings: readonly string[]
}

/**
 * Read the main file and `conf.d/*.yaml` beside it, in name order. Never throws.
 *
 * @param mainText instead of what the main file holds
 */
export async function readConfigFiles(mainFile: string, mainText?: string): Promise<ConfigFiles> {
  const folder = join(dirname(mainFile), 'conf.d')
  const listing = await listFolder(folder)
  const files: ConfigFile[] = []
  const problems: Problem[] = [...listing.problems]
  let complete = problems.length === 0
  for (const file of [mainFile, ...listing.names.map((name) => join(folder, name))]) {
    const text = file === mainFile && mainText !== undefined ? { text: mainText } : await readText(file)
    if (text === null) continue
    const parsed = 'problem' in text ? { tree: null, problems: [text.problem] } : parseYaml(text.text, file)
    problems.push(...parsed.problems)
    if (parsed.tree === null) complete = false
    else files.push({ file, tree: parsed.tree })
  }
  return { files, complete, problems, warnings: listing.warnings }
}

interface Listing {
  readonly names: readonly string[]
  readonly problems: readonly Problem[]
  readonly warnings: readonly string[]
}

async function listFolder(folder: string): Promise<Listing> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    const problems =
      systemCodeOf(error) === 'ENOENT' && !(await isThere(folder)) ? [] : [unreadable(folder, error)]
    return { names: [], problems, warnings: [] }
  }
  // As a shell's *.yaml: no dot files, which editors and package managers leave behind.
  const visible = names.filter((name) => !name.startsWith('.')).sort()
  return {
    names: visible.filter((name) => name.endsWith('.yaml')),
    problems: [],
    warnings: visible
      .filter((name) => name.endsWith('.yml'))
      .map((name) => `${join(folder, name)} is not read: only *.yaml is`),
  }
}

/** Null when there is nothing of that name at all; a link that leads nowhere is a problem. */
async function readText(file: string): Promise<{ text: string } | { problem: Problem } | null> {
  try {
    const text = await readBoundedFile(file, MAX_FILE_BYTES)
    // What is not UTF-8 was read as U+FFFD, which nobody writes on purpose.
    if (text.includes('\uFFFD')) return { problem: { path: file, file, message: 'is not UTF-8 text' } }
    return { text }
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT' && !(await isThere(file))) return null
    return { problem: unreadable(file, error) }
  }
}

function unreadable(file: string, error: unknown): Problem {
  return { path: file, file, message: `cannot be read: ${reasonOf(error)}` }
}

/** Asked after a read found nothing: a link that leads nowhere is there all the same. */
async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch {
    return false
  }
}

interface ParsedYaml {
  /** Null when the text is not one map in YAML. */
  readonly tree: Tree | null
  /** A key without a value is among them, and is not in the tree. */
  readonly problems: readonly Problem[]
}

/** Nothing in the configuration is nested deeper than three; this also ends an alias that contains itself. */
const MAX_DEPTH = 16
/** Far more than a configuration has; an alias that contains itself twice would be without end all the same. */
const MAX_VALUES = 10_000
/** Aliases resolved in one file: some are handy, many are an attack on the memory. */
const MAX_ALIASES = 100
/** After the first error in a file most others are its echo. */
const MAX_ERRORS = 20

/**
 * Read one configuration file's text: one YAML 1.2 document in the core schema, a map; an empty text is an empty
 * map. Never throws.
 *
 * @param file for the problems: `FILE:LINE:COLUMN`
 */
export function parseYaml(text: string, file: string): ParsedYaml {
  try {
    return parseText(text, file)
  } catch (error) {
    // An alias of nothing, too many aliases, or brackets nested by the thousand, which exhaust the parser's stack.
    const message = `is not usable YAML: ${withoutQuotation(messageOf(error))}`
    return { tree: null, problems: [{ path: file, file, message }] }
  }
}

function parseText(text: string, file: string): ParsedYaml {
  const lines = new LineCounter()
  const document = parseDocument(text, {
    schema: 'core',
    version: '1.2',
    merge: false,
    stringKeys: true,
    // The library compares each key with all others of its map; findDuplicates does not.
    uniqueKeys: false,
    resolveKnownTags: false,
    // Pretty errors repeat the line, which might hold a secret.
    prettyErrors: false,
    logLevel: 'error',
    lineCounter: lines,
  })
  // A tag that is not of the core schema is only a warning to the library.
  const faults: Fault[] = [...document.errors, ...document.warnings, ...findDuplicates(document)]
  if (faults.length > 0) {
    const problems = faults.slice(0, MAX_ERRORS).map((fault) => {
      const { line, col } = lines.linePos(fault.pos[0])
      return { path: `${file}:${line}:${col}`, file, message: explain(fault) }
    })
    return { tree: null, problems }
  }
  return readDocument(document, file)
}

type Fault = Pick<YAMLError, 'code' | 'message' | 'pos'>

/** Each key that its map has already. */
function findDuplicates(document: Document): Fault[] {
  const faults: Fault[] = []
  visit(document, {
    Map: (_, { items }) => {
      const seen = new Set<unknown>()
      for (const { key } of items) {
        if (!isScalar(key)) continue
        const [start = 0, end = 0] = key.range ?? []
        if (seen.has(key.value)) faults.push({ code: 'DUPLICATE_KEY', message: 'twice', pos: [start, end] })
        seen.add(key.value)
      }
    },
  })
  return faults
}

function readDocument(document: Document, file: string): ParsedYaml {
  const content: unknown = document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {}
  const problems: Problem[] = []
  const addProblem = (keys: KeyPath, message: string): void => {
    problems.push({ path: keys.length === 0 ? file : pathText(keys), file, message })
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    addProblem([], 'must be a map of keys at the top')
    return { tree: null, problems }
  }
  return { tree: readMap(content, [], { addProblem, values: 0 }), problems }
}

interface Reader {
  readonly addProblem: (keys: KeyPath, message: string) => void
  /** Read so far. */
  values: number
}

function readMap(map: object, keys: KeyPath, reader: Reader): Tree {
  const entries: [string, TreeValue][] = []
  for (const [key, value] of Object.entries(map)) {
    const read = readValue(value, [...keys, key], reader)
    if (read !== null) entries.push([key, read])
  }
  // Not by assignment: `__proto__` is a key like any other here.
  return Object.fromEntries(entries)
}

/** Null for what is not a value; the problem is then added. */
function readValue(value: unknown, keys: KeyPath, reader: Reader): TreeValue | null {
  if (++reader.values > MAX_VALUES) throw new Error(`it has more than ${MAX_VALUES} values`)
  if (['string', 'number', 'boolean', 'bigint'].includes(typeof value)) return value as TreeValue
  if (typeof value !== 'object' || value === null) {
    reader.addProblem(keys, 'has no value: give it one, or leave the key out')
    return null
  }
  if (keys.length >= MAX_DEPTH) {
    reader.addProblem(keys.slice(0, 4), 'is nested too deep')
    return null
  }
  if (!Array.isArray(value)) return readMap(value, keys, reader)
  const items: readonly unknown[] = value
  // What is not a value stays as an empty text, so that the others keep their place in the list.
  return items.map((item, index) => readValue(item, [...keys, index], reader) ?? '')
}

/** What people stumble over most, in our own words. */
const EXPLANATIONS: Partial<Record<ErrorCode, string>> = {
  BAD_ALIAS: 'a value that begins with * is an alias in YAML: put it in quotes',
  DUPLICATE_KEY: 'this key is there twice in the same map',
  MULTIPLE_DOCS: 'a second document begins here: a configuration file is one document',
  NON_STRING_KEY: 'a key must be a text',
  TAG_RESOLVE_FAILED: 'a value that begins with ! is a tag in YAML: put it in quotes',
}

function explain({ code, message }: Fault): string {
  return EXPLANATIONS[code] ?? `is not YAML: ${withoutQuotation(message)}`
}

/** The library's words, without what they quote of the file behind a colon: it might be a secret. */
function withoutQuotation(message: string): string {
  return message.replace(/(?<=\S): .*$/s, '')
}
