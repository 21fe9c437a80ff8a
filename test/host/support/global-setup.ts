import { mkdir } from 'node:fs/promises'
import type { TestProject } from 'vitest/node'
import { makeTemporaryFolder } from '../../support/temporary-folder.ts'
import { makeBaseRoots, type BaseRoots } from './base-roots.ts'
import { Janitor } from './janitor.ts'
import { dependenciesOf, findPackages, type Packages } from './packages.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Null when hosts cannot be booted. */
    hostTestRoots: BaseRoots | null
    hostTestPackages: Packages | null
  }
}

/**
 * Make the root file systems once for the whole run, and remove them at its end. `HOSTCERTD_HOST_TEST_ROOTS` names a
 * folder to keep them in from one run to the next: for working on these tests.
 */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const janitor = new Janitor()
  const tearDown = () => janitor[Symbol.asyncDispose]()
  if (process.geteuid?.() !== 0) {
    console.warn(
      'host tests skipped: booting hosts needs root (debootstrap, systemd-nspawn, network namespaces)',
    )
    project.provide('hostTestRoots', null)
    project.provide('hostTestPackages', null)
    return tearDown
  }
  try {
    const packages = await findPackages()
    const kept = process.env['HOSTCERTD_HOST_TEST_ROOTS']
    const folder = kept ?? (await makeTemporaryFolder()).path
    if (kept === undefined) janitor.remember('folder', folder)
    else await mkdir(folder, { recursive: true })
    project.provide('hostTestRoots', await makeBaseRoots(folder, await dependenciesOf(packages.deb)))
    project.provide('hostTestPackages', packages)
  } catch (error) {
    await tearDown()
    throw error
  }
  return tearDown
}
