import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A library that is part of the bundle. */
export interface BundledPackage {
  readonly name: string
  readonly version: string
  /** SPDX expression, as the package states it. */
  readonly license: string
  /** Where it lies, relative to the checkout. */
  readonly folder: string
  /** Subresource integrity of what npm fetched; null when the lock file has none. */
  readonly integrity: string | null
  /** Folders of the packages that it asks for and that are in the bundle too. */
  readonly dependsOn: readonly string[]
}

interface LockEntry {
  readonly version?: string
  readonly license?: string
  readonly integrity?: string
  readonly dependencies?: Readonly<Record<string, string>>
}

/**
 * What the bundle is made of: the packages whose files the bundler took, by its source map, with what the lock file
 * says of them. Run at the top of the checkout, after the build.
 *
 * @throws when a package in the bundle is not in the lock file, or has no licence
 */
export function bundledPackages(): BundledPackage[] {
  const maps = readdirSync('dist').filter((name) => name.endsWith('.js.map'))
  const sources = maps.flatMap(
    (name) => (readJson(join('dist', name)) as { sources: readonly string[] }).sources,
  )
  const folders = [...new Set(sources.map(folderOf).filter((folder) => folder !== null))].sort()
  const lock = (readJson('package-lock.json') as { packages: Readonly<Record<string, LockEntry>> }).packages
  return folders.map((folder) => {
    const entry = lock[folder]
    const { version, integrity = null, dependencies = {} } = entry ?? {}
    if (version === undefined) throw new Error(`package-lock.json does not tell the version of ${folder}`)
    const license = entry?.license ?? licenseOf(folder)
    const dependsOn = Object.keys(dependencies)
      .map((name) => resolve(folder, name, folders))
      .filter((found) => found !== null)
    return { name: nameOf(folder), version, license, folder, integrity, dependsOn }
  })
}

/** Folders, in the bundle, of the program's own dependencies. */
export function directDependencies(packages: readonly BundledPackage[]): string[] {
  const { dependencies } = readJson('package.json') as { dependencies: Readonly<Record<string, string>> }
  return packages
    .map(({ folder }) => folder)
    .filter((folder) => folder.slice('node_modules/'.length) in dependencies)
}

export function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'))
}

/** `node_modules/NAME`, or `node_modules/OUTER/node_modules/NAME`, of a source file; null for our own. */
function folderOf(source: string): string | null {
  return /(node_modules\/.*(?<=node_modules\/)(?:@[^/]+\/)?[^/]+)\//.exec(source)?.[1] ?? null
}

function nameOf(folder: string): string {
  return folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length)
}

/** By the package's own word: old ones have a list of `licenses`, which the lock file does not take over. */
function licenseOf(folder: string): string {
  const { licenses = [] } = readJson(`${folder}/package.json`) as { licenses?: readonly { type: string }[] }
  if (licenses.length === 0) throw new Error(`${folder}/package.json does not tell its licence`)
  return licenses.map(({ type }) => type).join(' OR ')
}

/** As Node looks a package up: beside the one that asks for it, then further out. */
function resolve(from: string, name: string, folders: readonly string[]): string | null {
  for (
    let at = from;
    at !== '';
    at = at.includes('/node_modules/') ? at.slice(0, at.lastIndexOf('/node_modules/')) : ''
  ) {
    const inner = `${at}/node_modules/${name}`
    if (folders.includes(inner)) return inner
  }
  const outer = `node_modules/${name}`
  return folders.includes(outer) ? outer : null
}
