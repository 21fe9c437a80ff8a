import { expect, test } from 'vitest'
import { parseYaml } from '../../agent/config/read-files.ts'
import { checkTree, toConfig } from '../../agent/config/schema.ts'
import { LEAST } from './config-folder.ts'

test.each([
  { name: 'nothing', over: '', found: null, want: null },
  {
    name: 'what was found in its place',
    over: '',
    found: '/etc/hostcertd/host-ca.pub',
    want: '/etc/hostcertd/host-ca.pub',
  },
  { name: 'what is configured', over: 'verify: {host_ca_file: /ca.pub}', found: '/etc/x', want: '/ca.pub' },
])('the host CA is pinned by $name', ({ over, found, want }) => {
  const checked = checkTree(parseYaml(`${LEAST}${over}`, 'F').tree ?? {})
  if (!checked.ok) throw new Error('the configuration is fine')
  const config = toConfig(checked.settings, {
    folder: '/etc/hostcertd',
    environment: {},
    defaultHostCaFile: found,
  })
  expect(config.verify.hostCaFile).toBe(want)
})
