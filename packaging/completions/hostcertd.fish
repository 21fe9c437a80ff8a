# Completion for hostcertd(8). Made by packaging/completions/generate.ts: changes are lost.

# Whether this verb, '' for none yet, is what has been typed so far.
function __hostcertd_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb ''
    set -l is_value no
    for word in $words
        if test $is_value = yes
            set is_value no
            continue
        end
        switch "$verb:$word"
            case 'run:--config' 'renew:--config' 'renew:--host-key' 'needs-renewal:--config' 'needs-renewal:--host-key' 'status:--config' 'check:--config' 'check:-w' 'check:--warning' 'check:-c' 'check:--critical' 'inspect:--config' 'wait:--config' 'wait:--timeout' 'doctor:--config' 'doctor:--sshd-config' 'config validate:--config' 'metrics write:--config' 'version:--config'
                set is_value yes
            case '*:-*'
            case '*'
                set -l longer (string trim -- "$verb $word")
                switch $longer
                    case 'run' 'renew' 'needs-renewal' 'status' 'check' 'inspect' 'wait' 'doctor' 'config' 'config validate' 'metrics' 'metrics write' 'version' 'help' 'help run' 'help renew' 'help needs-renewal' 'help status' 'help check' 'help inspect' 'help wait' 'help doctor' 'help config' 'help config validate' 'help metrics' 'help metrics write' 'help version'
                        set verb $longer
                end
        end
    end
    test "$verb" = "$argv[1]"
end

complete -c hostcertd -f
complete -c hostcertd -n '__hostcertd_at \'\'' -a run -d 'the daemon, in the foreground'
complete -c hostcertd -n '__hostcertd_at \'\'' -a renew -d 'one pass now: issue what is due, verify, swap, reload, confirm'
complete -c hostcertd -n '__hostcertd_at \'\'' -a needs-renewal -d 'exit status 0 when something is due, 1 when not, 2 without a certificate or key, 255 on error'
complete -c hostcertd -n '__hostcertd_at \'\'' -a status -d 'a line per host key: state, lifetime, due, served, last error'
complete -c hostcertd -n '__hostcertd_at \'\'' -a check -d 'a monitoring plugin: exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN'
complete -c hostcertd -n '__hostcertd_at \'\'' -a inspect -d 'what is in a certificate, and whether its signature holds'
complete -c hostcertd -n '__hostcertd_at \'\'' -a wait -d 'until every host key\'s certificate is served'
complete -c hostcertd -n '__hostcertd_at \'\'' -a doctor -d 'checks the whole way to a served certificate, and says how to fix what fails'
complete -c hostcertd -n '__hostcertd_at \'\'' -a config -d 'the configuration'
complete -c hostcertd -n '__hostcertd_at \'\'' -a metrics -d 'the metrics'
complete -c hostcertd -n '__hostcertd_at \'\'' -a version -d 'version, Node, commit'
complete -c hostcertd -n '__hostcertd_at \'\'' -a help -d 'help for a verb'
complete -c hostcertd -n '__hostcertd_at \'\'' -s V -l version -d 'print the version'
complete -c hostcertd -n '__hostcertd_at \'\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'run\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'run\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'renew\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'renew\'' -l force -d 'issue for all host keys, due or not'
complete -c hostcertd -n '__hostcertd_at \'renew\'' -l dry-run -d 'issue and verify, but write nothing'
complete -c hostcertd -n '__hostcertd_at \'renew\'' -l host-key -r -F -d 'only this host key: its path, with or without .pub, or its name'
complete -c hostcertd -n '__hostcertd_at \'renew\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'renew\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'needs-renewal\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'needs-renewal\'' -l host-key -r -F -d 'only this host key: its path, with or without .pub, or its name'
complete -c hostcertd -n '__hostcertd_at \'needs-renewal\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'needs-renewal\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'status\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'status\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'status\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'check\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'check\'' -s w -l warning -r -f -d 'WARNING below this much left: 15% of the lifetime, or 3d (default: overdue)'
complete -c hostcertd -n '__hostcertd_at \'check\'' -s c -l critical -r -f -d 'CRITICAL below this much left: 15% of the lifetime, or 3d (default: a third of overdue)'
complete -c hostcertd -n '__hostcertd_at \'check\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'check\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'inspect\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'inspect\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'inspect\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'inspect\'' -F
complete -c hostcertd -n '__hostcertd_at \'wait\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'wait\'' -l timeout -r -f -d 'give up after this time, 90s or 5m for example'
complete -c hostcertd -n '__hostcertd_at \'wait\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'doctor\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'doctor\'' -l issue -d 'also have a certificate issued and verified for each host key; nothing is written'
complete -c hostcertd -n '__hostcertd_at \'doctor\'' -l sshd-config -r -F -d 'sshd\'s configuration file (default: /etc/ssh/sshd_config)'
complete -c hostcertd -n '__hostcertd_at \'doctor\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'doctor\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'config\'' -a validate -d 'every problem of the configuration, each with its path'
complete -c hostcertd -n '__hostcertd_at \'config\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'config validate\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'config validate\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'config validate\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'metrics\'' -a write -d 'the metrics in a file for a textfile collector'
complete -c hostcertd -n '__hostcertd_at \'metrics\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'metrics write\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'metrics write\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'metrics write\'' -F
complete -c hostcertd -n '__hostcertd_at \'version\'' -l config -r -F -d 'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)'
complete -c hostcertd -n '__hostcertd_at \'version\'' -l json -d 'print JSON'
complete -c hostcertd -n '__hostcertd_at \'version\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a run -d 'the daemon, in the foreground'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a renew -d 'one pass now: issue what is due, verify, swap, reload, confirm'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a needs-renewal -d 'exit status 0 when something is due, 1 when not, 2 without a certificate or key, 255 on error'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a status -d 'a line per host key: state, lifetime, due, served, last error'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a check -d 'a monitoring plugin: exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a inspect -d 'what is in a certificate, and whether its signature holds'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a wait -d 'until every host key\'s certificate is served'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a doctor -d 'checks the whole way to a served certificate, and says how to fix what fails'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a config -d 'the configuration'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a metrics -d 'the metrics'
complete -c hostcertd -n '__hostcertd_at \'help\'' -a version -d 'version, Node, commit'
complete -c hostcertd -n '__hostcertd_at \'help\'' -s h -l help -d 'print this help'
complete -c hostcertd -n '__hostcertd_at \'help config\'' -a validate -d 'every problem of the configuration, each with its path'
complete -c hostcertd -n '__hostcertd_at \'help metrics\'' -a write -d 'the metrics in a file for a textfile collector'
