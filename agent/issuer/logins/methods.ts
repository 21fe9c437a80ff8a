import type { Login } from '../../config/config.ts'
import type { LoginMethod, LoginTools } from './login.ts'

/** Loads the file of the configured method and no other. */
export async function methodOf(
  auth: Exclude<Login, { readonly method: 'token' }>,
  tools: LoginTools,
): Promise<LoginMethod> {
  switch (auth.method) {
    case 'universal-auth':
      return (await import('./universal-auth.ts')).universalAuth(auth, tools)
    case 'kubernetes':
      return (await import('./kubernetes.ts')).kubernetes(auth, tools)
    case 'aws':
      return (await import('./aws.ts')).aws(auth, tools)
    case 'gcp':
      return (await import('./gcp.ts')).gcp(auth, tools)
    case 'azure':
      return (await import('./azure.ts')).azure(auth, tools)
    case 'oidc':
      return (await import('./oidc.ts')).oidc(auth, tools)
    case 'jwt':
      return (await import('./jwt.ts')).jwt(auth, tools)
    case 'spiffe':
      return (await import('./spiffe.ts')).spiffe(auth, tools)
    case 'ldap':
      return (await import('./ldap.ts')).ldap(auth, tools)
    case 'tls-cert':
      return (await import('./tls-cert.ts')).tlsCert(auth, tools)
    case 'oci':
      return (await import('./oci.ts')).oci(auth, tools)
    case 'alicloud':
      return (await import('./alicloud.ts')).alicloud(auth, tools)
  }
}
