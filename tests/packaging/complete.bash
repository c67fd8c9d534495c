# What bash offers after `vpnlab WORDS...`, with Tab typed at the end: the package's own script, found as bash finds it.
source /usr/share/bash-completion/bash_completion
_completion_loader vpnlab
COMP_WORDS=(vpnlab "$@")
COMP_CWORD=$#
specification=$(complete -p vpnlab) || exit
read -r function < <(sed 's/.* -F \([^ ]*\) .*/\1/' <<<"$specification")
"$function" vpnlab "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
echo $(sort <<<"$(printf '%s\n' "${COMPREPLY[@]}")")
