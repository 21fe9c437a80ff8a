/** The configuration of the program's interface, word for word. */
export const INTERFACE_EXAMPLE = `issuer:
  url: https://us.infisical.com        # required; or http://, for a loopback address only
  ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a   # required
  ca_file: /etc/hostcertd/tls-ca.pem   # example; TLS roots to trust besides the system's store
  timeout: 30s                         # one whole exchange
  # command: [/usr/local/bin/sign-host-key]   # instead of url, ssh_host_id and auth: see *Another CA*
auth:
  method: universal-auth               # universal-auth | token | kubernetes | aws | gcp | azure | oidc | jwt | spiffe | ldap | tls-cert | oci | alicloud
  client_id: 41ea2756-88ac-43bf-8929-42b71ec7742e     # example; or client_id_file
  client_secret_file: credential:client-secret
  # token: token_file
host_keys: /etc/ssh/ssh_host_*_key.pub # a pattern or a list; public halves only
certificates:
  directory: /var/lib/hostcertd/certs  # ssh_host_ed25519_key.pub → ssh_host_ed25519_key-cert.pub here; on a packaged host the helper copies from here, else sshd reads here
renewal:
  window: 33%        # share of the lifetime left, or a duration left (at most half the lifetime), at which renewal opens
  jitter: 50%        # share of that window over which hosts spread, fixed per host and certificate
  tick: "* * * * *"  # cron expression, seconds allowed: how often everything is looked at; gaps over 5 minutes are CONFIG_INVALID
  maintenance: "* * * * *"  # cron expression: the minutes in which a routine renewal may start; what is absent, rotated, invalid, overdue or expired does not wait for it
verify:
  host_ca_file: /etc/hostcertd/host-ca.pub  # pinned CA keys, one a line; see below for none
  principals: [web1.example.com]       # example; all of these must be in the certificate. Default: any, but never none
sshd:
  address: auto                        # where to ask what is served: what the helper says sshd listens on, else 127.0.0.1:22, [::1]:22; or host:port; or none
  reload: auto                         # auto: unless the new certificate is served already | always | never
  reload_command: [/usr/local/sbin/reload-sshd]   # example; instead of the packaged helper
health:
  listen: 127.0.0.1:9847               # or unix:/run/hostcertd/health.sock, or none
  hosts: []                            # further names by which browsers may ask for / and /status
log:
  level: info                          # trace … fatal
  format: auto                         # auto: journal lines under journald, pretty on a terminal, else json
state_directory: /var/lib/hostcertd
`
