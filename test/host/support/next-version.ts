import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command } from './commands.ts'
import { packageCommand } from './packages.ts'

/**
 * The same package with a later version: what an upgrade installs.
 *
 * @param folder an existing folder for it
 * @returns its path
 */
export async function makeNextVersion(deb: string, folder: string): Promise<string> {
  const content = join(folder, 'content')
  await command(['dpkg-deb', '--raw-extract', deb, content])
  const control = join(content, 'DEBIAN/control')
  await writeFile(control, (await readFile(control, 'utf8')).replace(/^Version: .*$/m, '$&+next'))
  const next = join(folder, 'next.deb')
  // What it says, not how it is compressed, is under test.
  await command(['dpkg-deb', '--build', '--root-owner-group', '-Zgzip', '-z1', content, next])
  return next
}

/** Of {@link makeNextRpm}. */
export const NEXT_RPM_VERSION = '99.0.0'
const TEN_MINUTES = 600_000

/**
 * The rpm with a later version, built as it is for a release: it cannot be taken apart and put together again.
 *
 * @param folder an existing folder for it
 * @returns its path
 */
export async function makeNextRpm(folder: string): Promise<string> {
  const argv = packageCommand('--only', 'rpm', '--fast', '--version', NEXT_RPM_VERSION, '--out', folder)
  await command(argv, { timeout: TEN_MINUTES })
  return join(folder, `hostcertd-${NEXT_RPM_VERSION}-1.x86_64.rpm`)
}
