import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { problemLine, type Config } from '../../agent/config/config.ts'
import { loadConfig, type LoadedConfig } from '../../agent/config/load.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

/** Write these files (name to content) into a folder. */
export async function writeFiles(
  folder: string,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), content)
  }
}

/**
 * Load a configuration of these files, `hostcertd.yaml` the main one.
 *
 * @param checkPinnedCas false where it pins CAs that this machine has not
 */
export async function loadFiles(
  files: Readonly<Record<string, string | Uint8Array>>,
  environment: Readonly<Record<string, string>> = {},
  checkPinnedCas = true,
): Promise<LoadedConfig> {
  await using folder = await makeTemporaryFolder()
  await writeFiles(folder.path, files)
  return await loadConfig({ path: join(folder.path, 'hostcertd.yaml'), environment, checkPinnedCas })
}

/** The problems as lines, without the name of the folder. */
export function linesOf(loaded: LoadedConfig): string[] {
  if (loaded.kind !== 'invalid') return [`kind ${loaded.kind}`]
  return loaded.problems.map((problem) =>
    problemLine(problem).replaceAll(/[^ (]*\/hostcertd-test-\w+\//g, ''),
  )
}

/** What every configuration needs; no host key pattern that looks outside of the test. */
export const LEAST = `
issuer: {url: https://us.infisical.com, ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a}
auth: {client_id: id, client_secret_file: /run/secret}
host_keys: /nowhere/ssh_host_*_key.pub
`

/** The configuration, when there is nothing wrong with it. */
export function configOf(loaded: LoadedConfig): Config {
  if (loaded.kind !== 'ok') throw new Error(linesOf(loaded).join('\n'))
  return loaded.config
}
