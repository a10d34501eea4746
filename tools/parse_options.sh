# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced after a script's option variables: `--some-name value` sets `some_name`. The options are the script's own
# lines of the form `name=value  # what it is`; anything else is refused with exit code 2. `--help` prints them.
# The script has changed to its own folder before, so its name without folders finds it.
_script=$(basename "$0")

_print_help() {
  sed -n -e '/^#!/d' -e '/^# SPDX/d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$_script"
  printf '\nOptions (with their defaults):\n'
  sed -nE 's/^([a-z_]+)=([^#]*[^# ])? *# (.*)/\1@\2@\3/p' "$_script" | while IFS=@ read -r name value text; do
    printf '  --%-18s %-12s %s\n' "${name//_/-}" "${value:-\"\"}" "$text"
  done
  if grep -qE '^stage_[0-9]+\(\)' "$_script"; then
    printf '\nStages:\n'
    sed -nE 's/^stage_([0-9]+)\(\) *\{ *# (.*)/  \1  \2/p' "$_script"
  fi
}

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      _print_help
      exit 0
      ;;
    --*)
      _name=${1#--}
      _name=${_name//-/_}
      if [[ ! $_name =~ ^[a-z_]+$ ]] || ! grep -qE "^$_name=[^#]*# " "$_script"; then
        echo "error: $_script: unknown option $1; --help lists the options" >&2
        exit 2
      fi
      if [ $# -lt 2 ]; then
        echo "error: $_script: option $1 needs a value" >&2
        exit 2
      fi
      printf -v "$_name" '%s' "$2"
      shift 2
      ;;
    *)
      echo "error: $_script: unexpected argument '$1'; options are written --name value" >&2
      exit 2
      ;;
  esac
done
