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
}

/**
 * What the bundle is made of: the packages whose files the bundler took, by its source map. Run at the top of the
 * checkout, after the build.
 *
 * @throws when a package in the bundle states no licence
 */
export function bundledPackages(): BundledPackage[] {
  const maps = readdirSync('dist').filter((name) => name.endsWith('.js.map'))
  const sources = maps.flatMap(
    (name) => (readJson(join('dist', name)) as { sources: readonly string[] }).sources,
  )
  const folders = new Set(sources.map(folderOf).filter((folder) => folder !== null))
  return [...folders].sort().map((folder) => {
    const {
      name,
      version,
      license,
      licenses = [],
    } = readJson(`${folder}/package.json`) as {
      readonly name: string
      readonly version: string
      readonly license?: string
      /** Of old packages. */
      readonly licenses?: readonly { readonly type: string }[]
    }
    const stated = license ?? licenses.map(({ type }) => type).join(' OR ')
    if (stated === '') throw new Error(`${folder}/package.json states no licence`)
    return { name, version, license: stated, folder }
  })
}

export function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'))
}

/** `node_modules/NAME`, or `node_modules/OUTER/node_modules/NAME`, of a source file; null for our own. */
function folderOf(source: string): string | null {
  return /(node_modules\/.*(?<=node_modules\/)(?:@[^/]+\/)?[^/]+)\//.exec(source)?.[1] ?? null
}
