import { command } from './commands.ts'

const FIELDS = ['Created-By: Packages', 'Origin: Debian', 'Label: Debian']

/**
 * Where this machine's own apt gets Debian from.
 *
 * @throws when it gets it from nowhere: not Debian, or `apt-get update` never ran
 */
export async function debianMirror(): Promise<string> {
  const said = await command(['apt-get', 'indextargets', '--format', '$(REPO_URI)', ...FIELDS])
  const [first = ''] = said.split('\n')
  if (first === '') throw new Error('apt knows no Debian archive on this machine: run apt-get update')
  return first
}
