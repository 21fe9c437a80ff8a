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
    complete -c hostcertd -n "__hostcertd_at $at" -a run -d 'run the daemon in the foreground'
    complete -c hostcertd -n "__hostcertd_at $at" -a renew -d 'make one pass now'
    complete -c hostcertd -n "__hostcertd_at $at" -a needs-renewal -d 'exit status 0 if renewal is due'
    complete -c hostcertd -n "__hostcertd_at $at" -a status -d 'show one line per host key'
    complete -c hostcertd -n "__hostcertd_at $at" -a check -d 'run as a monitoring plugin'
    complete -c hostcertd -n "__hostcertd_at $at" -a inspect -d 'show what is in a certificate'
    complete -c hostcertd -n "__hostcertd_at $at" -a wait -d 'wait until sshd serves every certificate'
    complete -c hostcertd -n "__hostcertd_at $at" -a doctor -d 'check every step, and say how to fix what fails'
    complete -c hostcertd -n "__hostcertd_at $at" -a config -d 'check the configuration'
    complete -c hostcertd -n "__hostcertd_at $at" -a metrics -d 'export the metrics'
    complete -c hostcertd -n "__hostcertd_at $at" -a version -d 'show the version'
end
complete -c hostcertd -n "__hostcertd_at ''" -a help -d 'show help for a verb'
complete -c hostcertd -n "__hostcertd_at config 'help config'" -a validate -d 'list every problem in the configuration'
complete -c hostcertd -n "__hostcertd_at metrics 'help metrics'" -a write -d 'write the metrics for a textfile collector'
complete -c hostcertd -n "__hostcertd_at inspect 'metrics write'" -F

set -l leaves run renew needs-renewal status check inspect wait doctor "'config validate'" "'metrics write'" version
set -l print_json renew needs-renewal status check inspect doctor "'config validate'" version
complete -c hostcertd -n "__hostcertd_at '' config metrics help $leaves" -s h -l help -d 'print help'
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
complete -c hostcertd -n '__hostcertd_at doctor' -l sshd-config -r -F -d "sshd's configuration file"
