# shellcheck shell=bash disable=SC2154  # stage, stop_stage and dry_run are options of the script that sources this
# SPDX-License-Identifier: Apache-2.0
# Sourced by a recipe's run.sh: run stage_0, stage_1, ... from $stage to $stop_stage, each announced by its comment.
# The stage functions are called plainly: below `if`, `&&` or `||` bash would ignore their failures.

die() {
  echo "error: $*" >&2
  exit 2
}

# Print a command so that it can be copied, and run it unless --dry-run true.
run() {
  printf '$'
  printf ' %q' "$@"
  printf '\n'
  if [ "$dry_run" != true ]; then
    "$@"
  fi
}

# A stage that this recipe does not have yet: alone it is an error, in a longer range it is passed over.
not_here_yet() {
  echo "stage $_stage is not in this recipe yet: $1" >&2
  if [ "$stage" = "$stop_stage" ]; then
    exit 2
  fi
}

run_stages() {
  [[ $stage =~ ^[0-9]+$ && $stop_stage =~ ^[0-9]+$ ]] || die "--stage and --stop-stage take whole numbers, not '$stage' and '$stop_stage'"
  stage=$((10#$stage)) stop_stage=$((10#$stop_stage))
  [ "$stage" -le "$stop_stage" ] || die "--stage $stage comes after --stop-stage $stop_stage"
  [[ $dry_run =~ ^(true|false)$ ]] || die "--dry-run takes true or false, not '$dry_run'"
  declare -F "stage_$stop_stage" >/dev/null || die "there is no stage $stop_stage; --help lists the stages"
  local title
  for ((_stage = stage; _stage <= stop_stage; _stage++)); do
    title=$(sed -nE "s/^stage_$_stage\(\) *\{ *# (.*)/\1/p" "$(basename "$0")")
    printf '\n== %s  stage %s: %s\n' "$(date +%H:%M:%S)" "$_stage" "$title"
    "stage_$_stage"
  done
}
