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

# side_by_side LIMIT NAME COMMAND...: run it in the background, at most LIMIT at a time, each line marked with NAME; the
# cores are shared. LIMIT 1 runs it plainly. Afterwards call all_done, whose status is the first that was not 0.
side_by_side() {
  local limit=$1 name=$2
  shift 2
  if [ "$limit" = 1 ] || [ "$dry_run" = true ]; then
    "$@"
    return
  fi
  [ "${#_jobs[@]}" -lt "$limit" ] || _await_oldest
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap _stop_jobs EXIT
  set -m # a process group each, which can be stopped as a whole
  { OMP_NUM_THREADS=$(($(nproc) > limit ? $(nproc) / limit : 1)) "$@" 2>&1 | sed -u "s/^/$name: /"; } &
  set +m
  _jobs+=($!)
  _names+=("$name")
}

# await NAME: until the job of that name has ended, if there is one; fails if one has failed.
await() {
  while [[ " ${_names[*]-} " == *" $1 "* ]]; do
    _await_oldest
  done
  return "$_first_failure"
}

all_done() {
  while [ "${#_jobs[@]}" -gt 0 ]; do
    _await_oldest
  done
  return "$_first_failure"
}

_jobs=()
_names=()
_first_failure=0

_await_oldest() {
  local status=0
  wait "${_jobs[0]}" || status=$?
  _jobs=("${_jobs[@]:1}")
  _names=("${_names[@]:1}")
  [ "$_first_failure" != 0 ] || _first_failure=$status
}

_stop_jobs() {
  local job
  for job in "${_jobs[@]}"; do
    kill -TERM -- "-$job" 2>/dev/null || true
  done
  wait
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
