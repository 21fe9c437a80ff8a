import type { Login } from '../../config/config.ts'
import type { LoginMethod, LoginTools } from './login.ts'

/** A file for each method; none is loaded before it is needed. */
const FILES = {
  'universal-auth': async () => import('./universal-auth.ts'),
  kubernetes: async () => import('./kubernetes.ts'),
  aws: async () => import('./aws.ts'),
  gcp: async () => import('./gcp.ts'),
  azure: async () => import('./azure.ts'),
  oidc: async () => import('./oidc.ts'),
  jwt: async () => import('./jwt.ts'),
  spiffe: async () => import('./spiffe.ts'),
  ldap: async () => import('./ldap.ts'),
  'tls-cert': async () => import('./tls-cert.ts'),
  oci: async () => import('./oci.ts'),
  alicloud: async () => import('./alicloud.ts'),
} as const

/** Load the file of a method, for a process that cannot read it later. */
export async function loadMethod({ method }: Login): Promise<void> {
  if (method !== 'token') await FILES[method]()
}

/** Loads the file of the configured method and no other. */
export async function methodOf(
  auth: Exclude<Login, { readonly method: 'token' }>,
  tools: LoginTools,
): Promise<LoginMethod> {
  switch (auth.method) {
    case 'universal-auth':
      return (await FILES['universal-auth']()).universalAuth(auth, tools)
    case 'kubernetes':
      return (await FILES.kubernetes()).kubernetes(auth, tools)
    case 'aws':
      return (await FILES.aws()).aws(auth, tools)
    case 'gcp':
      return (await FILES.gcp()).gcp(auth, tools)
    case 'azure':
      return (await FILES.azure()).azure(auth, tools)
    case 'oidc':
      return (await FILES.oidc()).oidc(auth, tools)
    case 'jwt':
      return (await FILES.jwt()).jwt(auth, tools)
    case 'spiffe':
      return (await FILES.spiffe()).spiffe(auth, tools)
    case 'ldap':
      return (await FILES.ldap()).ldap(auth, tools)
    case 'tls-cert':
      return (await FILES['tls-cert']()).tlsCert(auth, tools)
    case 'oci':
      return (await FILES.oci()).oci(auth, tools)
    case 'alicloud':
      return (await FILES.alicloud()).alicloud(auth, tools)
  }
}
