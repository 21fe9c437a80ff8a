import { expect, test } from 'vitest'
import { hostPatternsOf } from '../../agent/cert/known-hosts.ts'

test.each([
  { names: ['web1.example.com'], want: ['*.example.com'] },
  { names: ['WEB1.Example.com', 'www.example.com'], want: ['*.example.com'] },
  { names: ['web1.dc1.example.com'], want: ['*.dc1.example.com'] },
  { names: ['web1.example.co.uk'], want: ['*.example.co.uk'] },
  // Others have hosts in that domain.
  { names: ['example.com'], want: ['example.com'] },
  { names: ['example.co.uk'], want: ['example.co.uk'] },
  { names: ['example.com.au'], want: ['example.com.au'] },
  { names: ['example.or.jp', 'example.gov.br'], want: ['example.or.jp', 'example.gov.br'] },
  { names: ['mine.duckdns.org'], want: ['mine.duckdns.org'] },
  {
    names: ['vps-1.vps.ovh.net', 'vmi1.contaboserver.net'],
    want: ['vps-1.vps.ovh.net', 'vmi1.contaboserver.net'],
  },
  {
    names: ['ec2-192-0-2-7.eu-west-1.compute.amazonaws.com'],
    want: ['ec2-192-0-2-7.eu-west-1.compute.amazonaws.com'],
  },
  { names: ['web1', '192.0.2.7'], want: ['web1', '192.0.2.7'] },
  { names: ['*', '', '.example.com'], want: ['.example.com'] },
])('$names: $want', ({ names, want }) => {
  expect(hostPatternsOf(names)).toEqual(want)
})
