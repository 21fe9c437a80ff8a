import { describe } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { testClientKit } from './client-kit.ts'

describe('real clients', needsRoot, () => {
  testClientKit('/')
})
