import { testClientKit } from '../../e2e/client-kit.ts'
import { baseRoot, describeOnEachRelease } from '../support/releases.ts'

/** Nothing boots: ssh of each release runs by chroot. */
describeOnEachRelease('real clients', (release) => {
  testClientKit(baseRoot(release))
})
