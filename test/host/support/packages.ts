import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { command } from './commands.ts'

/** The packages under test, by absolute path. */
export interface Packages {
  readonly deb: string
  readonly rpm: string
}

const CHECKOUT = fileURLToPath(new URL('../../..', import.meta.url))
const FOLDER = process.env['HOSTCERTD_HOST_TEST_PACKAGES'] ?? join(CHECKOUT, 'dist/packages')
const TEN_MINUTES = 600_000

/**
 * The packages for amd64 in `dist/packages`, made first if they are not there, or in the folder that
 * `HOSTCERTD_HOST_TEST_PACKAGES` names.
 *
 * @throws when there is not exactly one of each kind
 */
export async function findPackages(): Promise<Packages> {
  if ((await named(/_amd64\.deb$/)).length === 0) {
    await command(packageCommand(), { timeout: TEN_MINUTES })
  }
  return { deb: await only(/_amd64\.deb$/), rpm: await only(/\.x86_64\.rpm$/) }
}

/** `npm run package`, wherever this is run. */
export function packageCommand(...options: readonly string[]): readonly string[] {
  return ['npm', '--prefix', CHECKOUT, 'run', '--silent', 'package', '--', ...options]
}

/** The packages that a .deb depends on, without versions; of alternatives the first. */
export async function dependenciesOf(deb: string): Promise<readonly string[]> {
  const fields = await command(['dpkg-deb', '--field', deb, 'Pre-Depends', 'Depends'])
  const wishes = fields.replace(/^(?:Pre-)?Depends:/gm, ',').split(',')
  return wishes.map((wish) => wish.replace(/[|(:].*/s, '').trim()).filter((name) => name !== '')
}

async function only(pattern: RegExp): Promise<string> {
  const found = await named(pattern)
  const [first] = found
  if (first === undefined || found.length > 1)
    throw new Error(`${FOLDER}: ${found.length} files match ${pattern}`)
  return first
}

async function named(pattern: RegExp): Promise<readonly string[]> {
  const names = await readdir(FOLDER).catch((): string[] => [])
  return names.filter((name) => pattern.test(name)).map((name) => join(FOLDER, name))
}
