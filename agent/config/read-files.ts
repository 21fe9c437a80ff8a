import { lstat, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { readBoundedFile } from '../system/bounded-file.ts'
import { reasonOf, systemCodeOf } from '../system/one-line.ts'
import { parseYaml } from './parse-yaml.ts'
import type { Problem } from './problem.ts'
import type { Tree } from './tree.ts'

/** A configuration is a page of text; more than this is another file by mistake. */
const MAX_FILE_BYTES = 1024 * 1024

export interface ConfigFile {
  readonly file: string
  readonly tree: Tree
}

export interface ConfigFiles {
  /** Those that there are, the main one first; each is laid over those before it. */
  readonly files: readonly ConfigFile[]
  /** False when something is there that could not be read, or is no map in YAML; the problems say why. */
  readonly complete: boolean
  readonly problems: readonly Problem[]
  readonly warnings: readonly string[]
}

/** Read the main file and `conf.d/*.yaml` beside it, in name order. Never throws. */
export async function readConfigFiles(mainFile: string): Promise<ConfigFiles> {
  const folder = join(dirname(mainFile), 'conf.d')
  const listing = await listFolder(folder)
  const files: ConfigFile[] = []
  const problems: Problem[] = [...listing.problems]
  let complete = problems.length === 0
  for (const file of [mainFile, ...listing.names.map((name) => join(folder, name))]) {
    const text = await readText(file)
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
