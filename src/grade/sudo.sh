#!/bin/sh
# sudo(8), where programs have the rights that they need already: its options are read, and the command is run.
refuse() {
    echo "sudo: $1" >&2
    exit 1
}
as() {
    case $1 in
        root | '#0') ;;
        *) refuse "programs run as root here, not as $1" ;;
    esac
}
shell= alone=
while [ $# -gt 0 ]; do
    word=$1
    case $word in
        --) shift; break ;;
        --user=*) as "${word#*=}" ;;
        --*=*) ;;
        --user)
            [ $# -gt 1 ] || refuse "$word wants a value"
            as "$2"
            shift ;;
        --auth-type | --chdir | --chroot | --close-from | --command-timeout | --group | --host | --login-class | \
        --other-user | --prompt | --role | --type)
            [ $# -gt 1 ] || refuse "$word wants a value"
            shift ;;
        --login | --shell) shell=1 ;;
        --validate | --reset-timestamp | --remove-timestamp | --list | --version) alone=1 ;;
        --*) ;;
        -?*)
            # Several letters may stand behind one hyphen; the value of the last is the rest, or the next word.
            letters=${word#-}
            while [ -n "$letters" ]; do
                rest=${letters#?}
                letter=${letters%"$rest"}
                letters=$rest
                case $letter in
                    i | s) shell=1 ;;
                    v | k | K | l | V) alone=1 ;;
                    [aCcDghpRrTtUu])
                        value=$rest letters=
                        if [ -z "$rest" ]; then
                            [ $# -gt 1 ] || refuse "$word wants a value"
                            value=$2
                            shift
                        fi
                        [ "$letter" != u ] || as "$value" ;;
                esac
            done ;;
        [A-Za-z_]*=*) export "$word" || exit 1 ;;
        *) break ;;
    esac
    shift
done
if [ -n "$shell" ]; then
    [ $# -eq 0 ] && exec "${SHELL:-/bin/sh}"
    exec "${SHELL:-/bin/sh}" -c "$*"
fi
[ $# -eq 0 ] || exec "$@"
[ -n "$alone" ] || refuse 'what shall be run? usage: sudo COMMAND [ARGUMENT]...'
