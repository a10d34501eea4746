# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by run.sh: which runs there are, and how one of them is trained, exported and evaluated.
# shellcheck disable=SC2154 # conf, objective and the other options are run.sh's

# data/ and exp/ belong to one configuration: its corpora, its numbers.
claim_folders() {
  [ -f data/conf ] || { mkdir -p data exp && echo "$conf" >data/conf; }
  [ "$(cat data/conf)" = "$conf" ] ||
    die "data/ and exp/ here belong to --conf $(cat data/conf); move both away before you run --conf $conf"
}

# once NAME OUTPUT INPUT... -- COMMAND...: run unless done with the same inputs.
once() {
  local name=$1 output=$2 inputs=()
  shift 2
  while [ "$1" != -- ]; do
    inputs+=("$1")
    shift
  done
  run run_once.py --done "data/done/$name.json" --outputs "$output" --inputs "${inputs[@]}" "$@"
}

# The pretraining runs, a line each: those of runs.txt that --objective and --init leave, or the one they name.
selected_runs() {
  if [ -n "$objective" ] && [ -n "$init" ]; then
    [ -f "zipformer/train_$objective.py" ] && [ -f "$conf/init_$init.yaml" ] ||
      die "no zipformer/train_$objective.py or no $conf/init_$init.yaml; there are: $(echo zipformer/train_*.py "$conf"/init_*)"
    echo "$objective $init"
  else
    awk -v o="$objective" -v i="$init" \
      '!/^#/ && NF == 2 && (o == "" || $1 == o) && (i == "" || $2 == i) { print; n++ } END { exit !n }' "$conf/runs.txt" ||
      die "no run of $conf/runs.txt has --objective '$objective' --init '$init'; name both to run another"
  fi
}

# The encoders that are evaluated: the selected runs and, unless a run is named, the supervised and two baselines.
encoders() {
  local own
  read -ra own <<<"$supervised"
  [ -n "$objective$init$subset" ] || printf '%s\n' log_mel untrained tagging "${own[@]/#/supervised_}"
  selected_runs | tr -s ' ' _ | sed "s/\$/${subset:+_$subset}/"
}

# train RUN INIT OBJECTIVE CONFIG...: train, then export the averaged encoder.
train() {
  local name=$1 start=exp/$2/encoder script=zipformer/train_$3.py
  shift 3
  once "train_$name" "exp/$name/checkpoints" "$conf/encoder.yaml" "$@" "$start" data/fbank data/tokenizer -- \
    launch.sh "$num_processes" "$script" --exp-dir "exp/$name" --config "$conf/encoder.yaml" "$@"
  once "export_$name" "exp/$name/encoder" "exp/$name/checkpoints" -- export_encoder.py --exp-dir "exp/$name"
}

# pretrain OBJECTIVE INIT: one run of stage 5.
pretrain() {
  train "$1_$2${subset:+_$subset}" "$2" "$1" "$conf/train_$1.yaml" "$conf/init_$2.yaml" \
    ${subset:+"$conf/subsets/$subset.yaml"}
}

# train_first NAME: one model of stage 4: text_decoder, tagging or supervised_<corpus>, an encoder of that corpus alone.
train_first() {
  local config="$conf/pretrain_text_decoder.yaml"
  case $1 in
    text_decoder) once "$1" "data/pretrained/$1" data/tokenizer "$config" -- "local/pretrain_$1.py" --config "$config" ;;
    tagging) train "$1" scratch tagging "$conf/train_tagging.yaml" ;;
    *) train "$1" scratch tagging "$conf/train_tagging.yaml" "$conf/$1.yaml" ;;
  esac
}

# runs_at_a_time COUNT: so many side by side, if COUNT is all there is. A small model on a CPU keeps one core busy,
# hardly two; stage 4 and stage 5 of one call share the cores.
runs_at_a_time() {
  local count=$1
  if [ -z "$parallel_runs" ]; then
    [ "$conf" = conf/mini ] && parallel_runs=2 || parallel_runs=1
  fi
  [[ $parallel_runs =~ ^[1-9][0-9]*$ ]] || die "--parallel-runs takes a number from 1 on, not '$parallel_runs'"
  if [ "$stage" -le 4 ] && [ "$stop_stage" -gt 4 ] || [ "$parallel_runs" -le "$count" ]; then
    echo "$parallel_runs"
  else
    echo "$count"
  fi
}

# evaluate PROTOCOL: every task of the protocol on every encoder; numbers that are there are left alone.
evaluate() {
  local protocol=$1 names folders
  names=$(encoders)
  mapfile -t folders <<<"$names"
  folders=("${folders[@]/#/exp/}")
  once untrained_encoder exp/untrained/encoder "$conf/encoder.yaml" -- \
    init_encoder.py --exp-dir exp/untrained --config "$conf/encoder.yaml"
  once "$protocol${objective:+_$objective}${init:+_$init}${subset:+_$subset}" "${folders[-1]}/results/$protocol" \
    "$conf/tasks/$protocol"* "${folders[@]/%//encoder}" data/fbank data/tokenizer data/pretrained -- \
    launch.sh 1 "zipformer/evaluate_$protocol.py" --num-jobs "$num_jobs" \
    --exp-dir "${folders[@]}" --task "$conf/tasks/$protocol"/*.yaml
}
