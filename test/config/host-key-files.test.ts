import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../agent/config/load.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { LEAST, linesOf, writeFiles } from './config-folder.ts'

describe('host keys', () => {
  async function loadWith(files: readonly string[], patterns: (folder: string) => readonly string[]) {
    await using folder = await makeTemporaryFolder()
    const hostKeys = patterns(folder.path)
    await writeFiles(folder.path, {
      ...Object.fromEntries(files.map((name) => [name, 'key'])),
      'hostcertd.yaml': LEAST.replace(/host_keys: .*/, `host_keys: ${JSON.stringify(hostKeys)}`),
    })
    return await loadConfig({ path: join(folder.path, 'hostcertd.yaml'), environment: {} })
  }

  test('two files of the same name, by pattern', async () => {
    const loaded = await loadWith(['a/k.pub', 'b/k.pub', 'b/l.pub'], (folder) => [`${folder}/*/*.pub`])
    expect(linesOf(loaded)).toEqual([
      expect.stringMatching(/^host_keys: a\/k\.pub and b\/k\.pub have the same file name, k\.pub/),
    ])
  })

  test('two paths of the same name, whether they are there or not', async () => {
    const loaded = await loadWith([], () => ['/a/k.pub', '/b/k.pub'])
    expect(loaded.kind).toBe('invalid')
  })

  test('a path and a pattern', async () => {
    const loaded = await loadWith(['a/k.pub'], (folder) => ['/nowhere/k.pub', `${folder}/a/*.pub`])
    expect(loaded.kind).toBe('invalid')
  })

  test('the same file named twice is one file', async () => {
    const patterns = (folder: string) => [`${folder}/a/k.pub`, `${folder}/a/*.pub`, `${folder}/a/../a/k.pub`]
    const loaded = await loadWith(['a/k.pub'], patterns)
    expect(loaded).toMatchObject({ kind: 'ok', warnings: [] })
  })

  test('certificates beside them do not count', async () => {
    const loaded = await loadWith(['a/k.pub', 'a/k-cert.pub', 'b/k-cert.pub'], (folder) => [
      `${folder}/*/*.pub`,
    ])
    expect(loaded).toMatchObject({ kind: 'ok', warnings: [] })
  })

  test('nothing that matches is a warning', async () => {
    const loaded = await loadWith(['a/k-cert.pub'], (folder) => [`${folder}/a/*.pub`, '/nowhere/l.pub'])
    expect(loaded).toMatchObject({
      kind: 'ok',
      warnings: [
        expect.stringMatching(/nothing matches ".*\/a\/\*\.pub" yet/),
        expect.stringMatching(/l\.pub/),
      ],
    })
  })
})
