# Completion of fish 3.1 and later for hostcertd(8).
# test/cli/completions.test.ts compares it with the command line.

# Whether one of these verbs is what has been typed so far; '' is none yet.
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
            case --config --host-key --sshd-config --timeout -w --warning -c --critical
                set is_value yes
            case '-*'
            case '*'
                switch "$verb"
                    case '' config metrics help 'help config' 'help metrics'
                        set -a verb $word
                end
        end
    end
    contains -- "$verb" $argv
end

complete -c hostcertd -f

for at in "''" help
    complete -c hostcertd -n "__hostcertd_at $at" -a run -d 'the daemon, in the foreground'
    complete -c hostcertd -n "__hostcertd_at $at" -a renew -d 'one pass now'
    complete -c hostcertd -n "__hostcertd_at $at" -a needs-renewal -d 'whether anything is due, by the exit status'
    complete -c hostcertd -n "__hostcertd_at $at" -a status -d 'a line per host key'
    complete -c hostcertd -n "__hostcertd_at $at" -a check -d 'a monitoring plugin'
    complete -c hostcertd -n "__hostcertd_at $at" -a inspect -d 'what is in a certificate'
    complete -c hostcertd -n "__hostcertd_at $at" -a wait -d 'until every certificate is served'
    complete -c hostcertd -n "__hostcertd_at $at" -a doctor -d 'find what is wrong, and how to fix it'
    complete -c hostcertd -n "__hostcertd_at $at" -a config -d 'the configuration'
    complete -c hostcertd -n "__hostcertd_at $at" -a metrics -d 'the metrics'
    complete -c hostcertd -n "__hostcertd_at $at" -a version -d 'version, Node, commit'
end
complete -c hostcertd -n "__hostcertd_at ''" -a help -d 'help for a verb'
complete -c hostcertd -n "__hostcertd_at config 'help config'" -a validate -d 'every problem of the configuration'
complete -c hostcertd -n "__hostcertd_at metrics 'help metrics'" -a write -d 'for a textfile collector'
complete -c hostcertd -n "__hostcertd_at inspect 'metrics write'" -F

set -l leaves run renew needs-renewal status check inspect wait doctor "'config validate'" "'metrics write'" version
set -l print_json renew needs-renewal status check inspect doctor "'config validate'" version
complete -c hostcertd -n "__hostcertd_at '' config metrics help $leaves" -s h -l help -d 'print help'
complete -c hostcertd -n "__hostcertd_at $leaves" -l config -r -F -d 'configuration file'
complete -c hostcertd -n "__hostcertd_at $print_json" -l json -d 'print JSON'
complete -c hostcertd -n "__hostcertd_at ''" -s V -l version -d 'print the version'
complete -c hostcertd -n '__hostcertd_at renew needs-renewal' -l host-key -r -F -d 'only this host key'
complete -c hostcertd -n '__hostcertd_at renew' -l force -d 'issue for all host keys, due or not'
complete -c hostcertd -n '__hostcertd_at renew' -l dry-run -d 'issue and verify, but write nothing'
complete -c hostcertd -n '__hostcertd_at check' -s w -l warning -r -f -d 'WARNING below this much left'
complete -c hostcertd -n '__hostcertd_at check' -s c -l critical -r -f -d 'CRITICAL below this much left'
complete -c hostcertd -n '__hostcertd_at wait' -l timeout -r -f -d 'give up after this time'
complete -c hostcertd -n '__hostcertd_at doctor' -l issue -d 'also have a certificate issued and verified'
complete -c hostcertd -n '__hostcertd_at doctor' -l sshd-config -r -F -d "sshd's configuration file"
