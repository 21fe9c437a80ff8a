# Completion for hostcertd(8), for fish 3.1 and later.
# test/cli/completions.test.ts compares it with the command line.

# Whether one of these verbs has been typed so far; '' means none yet.
function __hostcertd_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb
    set -l is_value no
    for word in $words
        if test $is_value = yes
            set is_value no
            continue
        end
        switch $word
            case --config --host-key --sshd-config --timeout -w --warning -c --critical --url --host-id --auth \
                --admin-token-file --ca-file --project --hostname --ttl --alias --ca-fingerprint --user-ca-fingerprint --on-copy \
                --wait --organization --client-id --client-id-file --client-secret-file --token-file --identity-id --identity-id-file --region \
                --access-key-id-file --secret-access-key-file --session-token-file --key-file --resource \
                --jwt-file --jwt-command --issuer --subject --audience --username --username-file --password-file \
                --certificate-file --login-url --user --tenancy --fingerprint --access-key-id \
                --access-key-secret-file --format --hosts
                set is_value yes
            case '-*'
            case '*'
                switch "$verb"
                    case '' ca config metrics help 'help ca' 'help config' 'help metrics'
                        set -a verb $word
                end
        end
    end
    contains -- "$verb" $argv
end

complete -c hostcertd -f

for at in "''" help
    complete -c hostcertd -n "__hostcertd_at $at" -a run -d 'run the daemon in the foreground'
    complete -c hostcertd -n "__hostcertd_at $at" -a enroll -d 'make this host a member'
    complete -c hostcertd -n "__hostcertd_at $at" -a unenroll -d 'take back what enroll did'
    complete -c hostcertd -n "__hostcertd_at $at" -a renew -d 'make one pass now'
    complete -c hostcertd -n "__hostcertd_at $at" -a needs-renewal -d 'exit status 0 if renewal is due'
    complete -c hostcertd -n "__hostcertd_at $at" -a status -d 'show one line per host key'
    complete -c hostcertd -n "__hostcertd_at $at" -a check -d 'run as a monitoring plugin'
    complete -c hostcertd -n "__hostcertd_at $at" -a inspect -d 'show what is in a certificate'
    complete -c hostcertd -n "__hostcertd_at $at" -a wait -d 'wait until sshd serves every certificate'
    complete -c hostcertd -n "__hostcertd_at $at" -a doctor -d 'check every step, and say how to fix what fails'
    complete -c hostcertd -n "__hostcertd_at $at" -a ca -d 'what clients and logins trust'
    complete -c hostcertd -n "__hostcertd_at $at" -a krl -d 'write a revocation list'
    complete -c hostcertd -n "__hostcertd_at $at" -a config -d 'check the configuration'
    complete -c hostcertd -n "__hostcertd_at $at" -a metrics -d 'export the metrics'
    complete -c hostcertd -n "__hostcertd_at $at" -a version -d 'show the version'
end
complete -c hostcertd -n "__hostcertd_at ''" -a help -d 'show help for a verb'
complete -c hostcertd -n "__hostcertd_at ca 'help ca'" -a show -d 'show the host CAs, as clients need them'
complete -c hostcertd -n "__hostcertd_at ca 'help ca'" -a refresh -d 'bring the user CAs up to date'
complete -c hostcertd -n "__hostcertd_at config 'help config'" -a validate -d 'list every problem in the configuration'
complete -c hostcertd -n "__hostcertd_at metrics 'help metrics'" -a write -d 'write the metrics for a textfile collector'
complete -c hostcertd -n "__hostcertd_at inspect krl 'metrics write'" -F

set -l leaves run enroll unenroll renew needs-renewal status check inspect wait doctor "'ca show'" "'ca refresh'" krl "'config validate'" "'metrics write'" version
set -l print_json enroll unenroll renew needs-renewal status check inspect doctor "'ca show'" "'config validate'" version
complete -c hostcertd -n "__hostcertd_at '' ca config metrics help $leaves" -s h -l help -d 'print help'
complete -c hostcertd -n "__hostcertd_at $leaves" -l config -r -F -d 'configuration file'
complete -c hostcertd -n "__hostcertd_at $print_json" -l json -d 'print JSON'
complete -c hostcertd -n "__hostcertd_at ''" -s V -l version -d 'print the version'
complete -c hostcertd -n '__hostcertd_at renew needs-renewal' -l host-key -r -F -d 'only this host key'
complete -c hostcertd -n '__hostcertd_at renew' -l force -d 'issue for every host key, whether due or not'
complete -c hostcertd -n '__hostcertd_at renew' -l dry-run -d 'issue and verify, but write nothing'
complete -c hostcertd -n '__hostcertd_at check' -s w -l warning -r -f -d 'WARNING if less than this is left'
complete -c hostcertd -n '__hostcertd_at check' -s c -l critical -r -f -d 'CRITICAL if less than this is left'
complete -c hostcertd -n '__hostcertd_at wait' -l timeout -r -f -d 'give up after this time'
complete -c hostcertd -n '__hostcertd_at doctor' -l issue -d 'also issue and verify a certificate for each host key'
complete -c hostcertd -n "__hostcertd_at 'ca refresh'" -l now -d 'do not wait when the issuer says that it is busy: fail at once'
complete -c hostcertd -n '__hostcertd_at doctor' -l sshd-config -r -F -d "sshd's configuration file"
complete -c hostcertd -n "__hostcertd_at 'ca show'" -l format -x -a 'known-hosts ssh-config known-hosts-command ansible json' -d 'what clients read'
complete -c hostcertd -n "__hostcertd_at 'ca show'" -l hosts -r -f -d 'hosts that the CA is trusted for'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l yes -d 'make the changes without asking'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l dry-run -d 'only show what would change'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l check -d 'show what would change, and exit with 2 if anything would'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l url -r -f -d 'URL of the issuer'
complete -c hostcertd -n '__hostcertd_at enroll unenroll krl' -l host-id -r -f -d 'id of the host at the issuer'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l auth -x -a 'universal-auth token kubernetes aws gcp azure oidc jwt spiffe ldap tls-cert oci alicloud' -d 'login method'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l admin-token-file -r -F -d 'access token of an administrator, used once'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l ca-file -r -F -d 'TLS roots to trust besides those of the system'
complete -c hostcertd -n '__hostcertd_at enroll' -l project -r -f -d 'find the host by its name in this project'
complete -c hostcertd -n '__hostcertd_at enroll' -l from-certificate -d 'the host that a certificate on this machine is for'
complete -c hostcertd -n '__hostcertd_at enroll' -l hostname -r -f -d 'name of the host, as clients connect to it'
complete -c hostcertd -n '__hostcertd_at enroll' -l register -d 'register the host if it is not there'
complete -c hostcertd -n '__hostcertd_at enroll' -l ttl -r -f -d 'lifetime of its certificates'
complete -c hostcertd -n '__hostcertd_at enroll' -l alias -r -f -d 'a second name'
complete -c hostcertd -n '__hostcertd_at enroll' -l ca-fingerprint -r -f -d 'fingerprint of the host CA'
complete -c hostcertd -n '__hostcertd_at enroll' -l user-ca -d 'trust the CA that signs the certificates of users'
complete -c hostcertd -n '__hostcertd_at enroll' -l user-ca-fingerprint -r -f -d 'fingerprint of a user CA that may be trusted'
complete -c hostcertd -n '__hostcertd_at enroll' -l take-over -d 'take over a registered name, and what other agents configured'
complete -c hostcertd -n '__hostcertd_at enroll' -l on-copy -x -a 'warn stop' -d 'what a copy of this machine does'
complete -c hostcertd -n '__hostcertd_at enroll' -l wait -r -f -d 'how long to wait until sshd serves'
complete -c hostcertd -n '__hostcertd_at enroll' -l template -d 'for an image: enroll each copy at its first boot'
complete -c hostcertd -n '__hostcertd_at enroll' -l shared-secret -d 'with --template: secrets may be in the image'
complete -c hostcertd -n '__hostcertd_at enroll' -l ephemeral -d 'delete the host at the issuer at power-off'
complete -c hostcertd -n '__hostcertd_at enroll' -l jitter -r -f -d 'spread machines that boot together over this time'
complete -c hostcertd -n '__hostcertd_at unenroll' -l delete-host -d 'delete the host at the issuer, in the end'
complete -c hostcertd -n '__hostcertd_at unenroll' -l keep-user-ca -d 'keep logins by user certificate'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l organization -r -f -d 'slug of the organization'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l client-id -r -f -d 'client id'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l client-id-file -r -F -d 'file of the client id'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l client-secret-file -r -F -d 'client secret'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l token-file -r -F -d 'access token'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l identity-id -r -f -d 'id of the machine identity'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l identity-id-file -r -F -d 'file of that id'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l region -r -f -d 'region'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l access-key-id-file -r -F -d 'access key id'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l secret-access-key-file -r -F -d 'secret access key'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l session-token-file -r -F -d 'session token'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l key-file -r -F -d 'private key'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l resource -r -f -d 'resource'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l jwt-file -r -F -d 'file of the JWT'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l jwt-command -r -F -d 'program that prints the JWT'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l issuer -r -f -d 'issuer of the JWT'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l subject -r -f -d 'subject of the JWT'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l audience -r -f -d 'audience of the JWT'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l username -r -f -d 'user name'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l username-file -r -F -d 'file of the user name'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l password-file -r -F -d 'password'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l certificate-file -r -F -d 'client certificate'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l login-url -r -f -d 'URL of the login'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l user -r -f -d 'OCID of the user'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l tenancy -r -f -d 'OCID of the tenancy'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l fingerprint -r -f -d 'fingerprint of the key'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l access-key-id -r -f -d 'access key id'
complete -c hostcertd -n '__hostcertd_at enroll unenroll' -l access-key-secret-file -r -F -d 'access key secret'
