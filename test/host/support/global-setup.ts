import { mkdir } from 'node:fs/promises'
import type { TestProject } from 'vitest/node'
import { makeTemporaryFolder } from '../../support/temporary-folder.ts'
import { makeBaseRoots, openSshOf, type BaseRoots } from './base-roots.ts'
import { Janitor } from './janitor.ts'
import { dependenciesOf, findPackages, type Packages } from './packages.ts'
import { RELEASES_VARIABLE, selectedSuites } from './selection.ts'

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
    const suites = selectedSuites(process.env[RELEASES_VARIABLE])
    const roots = await makeBaseRoots(folder, suites, await dependenciesOf(packages.deb))
    for (const [suite, root] of Object.entries(roots)) console.log(`${suite}: ${await openSshOf(root)}`)
    project.provide('hostTestRoots', roots)
    project.provide('hostTestPackages', packages)
  } catch (error) {
    await tearDown()
    throw error
  }
  return tearDown
}
