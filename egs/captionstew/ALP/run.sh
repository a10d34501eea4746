#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Audio-language pretraining on CaptionStew: from corpora on disk to the results table.
#
#   ./run.sh                                        embedded recordings, every stage, about 20 minutes on 2 cores
#   ./run.sh --stage 5 --stop-stage 5 --objective captioning      one stage, one run
#   ./run.sh --conf conf --num-processes 8          the paper's corpora (local/corpora.sh says where they lie)
#
# What is done is skipped as long as nothing it was made from has changed; a training run goes on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

stage=0          # first stage
stop_stage=9     # last stage
conf=conf/mini   # conf/mini (embedded recordings) or conf (the paper)
objective=       # only runs of this objective: contrastive or captioning
init=            # only runs that start from this: scratch or tagging
subset=          # pretrain on this part of the data (conf/subsets/*.yaml): 400k, leave_one_out_clotho, ...
corpora=         # only these corpora in stage 0 ("a b"); absent ones are then an error
num_processes=1  # training processes, one per GPU
num_jobs=2       # processes of stages 0, 2, 6 and 7
dry_run=false    # true prints the commands without running them
. ./path.sh
. parse_options.sh
. stages.sh

# data/ and exp/ belong to one configuration: its corpora, its numbers.
claim_folders() {
  mkdir -p data exp
  [ -f data/conf ] || echo "$conf" >data/conf
  [ "$(cat data/conf)" = "$conf" ] ||
    die "data/ and exp/ here belong to --conf $(cat data/conf); move both away before you run --conf $conf"
}

# once NAME OUTPUT INPUT... -- COMMAND...: run unless done with the same inputs.
once() {
  local name=$1 output=$2 inputs=()
  shift 2
  while [ "$1" != -- ]; do
    inputs+=("$1") && shift
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

# The encoders that are evaluated: the selected runs and, unless a run is named, the tagger and two baselines.
encoders() {
  if [ -z "$objective$init$subset" ]; then
    printf '%s\n' log_mel untrained tagging
  fi
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

# evaluate PROTOCOL: every task of the protocol on every encoder; numbers that are there are left alone.
evaluate() {
  local protocol=$1 names folders
  names=$(encoders)
  mapfile -t folders <<<"$names"
  folders=("${folders[@]/#/exp/}")
  once untrained_encoder exp/untrained/encoder "$conf/encoder.yaml" -- \
    init_encoder.py --exp-dir exp/untrained --config "$conf/encoder.yaml"
  once "$protocol${objective:+_$objective}${init:+_$init}${subset:+_$subset}" "${folders[-1]}/results/$protocol" \
    "$conf/tasks/$protocol" "${folders[@]/%//encoder}" data/fbank data/tokenizer data/pretrained -- \
    launch.sh 1 "zipformer/evaluate_$protocol.py" --num-jobs "$num_jobs" --exp-dir "${folders[@]}" --task "$conf/tasks/$protocol"/*.yaml
}

stage_0() { # Prepare one cutset per corpus, benchmarks too
  # shellcheck source=conf/mini/corpora.sh
  . "$conf/corpora.sh"
  . "$ALP_ROOT/local/cmd.sh"
  run local/prepare.py --corpora "$conf/corpora.yaml" --roots "${corpus_roots[@]}" --only "$corpora" \
    --num-jobs "$num_jobs" --cmd "$cpu_cmd" --scan-parts "$scan_parts"
}

stage_1() { # Merge the sources: one cut per piece of audio, at most 60 s, no benchmark audio; choose subsets and splits
  once merge data/captionstew/summary.json data/manifests "$conf/corpora.yaml" "$conf/evaluated_names" -- \
    local/merge_captionstew.py --corpora "$conf/corpora.yaml"
  once subsets data/captionstew/subsets.json data/captionstew/captionstew_train_cuts.jsonl.gz "$conf/subsets.yaml" -- \
    local/make_subsets.py --subsets "$conf/subsets.yaml"
  once splits data/splits data/manifests "$conf/splits.yaml" -- local/draw_splits.py --splits "$conf/splits.yaml"
}

stage_2() { # Compute fbank of every set that a configuration names
  local sets name cuts found=()
  sets=$(grep -rhoE 'data/fbank/[a-z0-9_]+' "$conf"/*.yaml "$conf"/tasks | sort -u)
  for name in $sets; do
    cuts=(data/*/"${name##*/}_cuts.jsonl.gz")
    if [ "$dry_run" = false ] && [ ! -f "${cuts[0]}" ]; then
      echo "left out: $name has no cuts; its corpus was not prepared"
      continue
    fi
    found+=("${cuts[0]}")
  done
  once fbank data/fbank "${found[@]}" -- \
    local/compute_fbank.py --cuts "${found[@]}" --output-dir data/fbank --num-jobs "$num_jobs"
}

stage_3() { # Check and describe the cuts, train the tokenizer and, where none is public, a text decoder
  once describe data/captionstew/report.md data/captionstew/{summary,subsets}.json data/manifests conf/paper.yaml -- \
    local/describe_cuts.py --paper conf/paper.yaml
  once tokenizer data/tokenizer/bpe.model data/captionstew/captionstew_train_cuts.jsonl.gz -- local/train_tokenizer.py
  [ ! -f "$conf/pretrain_text_decoder.yaml" ] || once text_decoder data/pretrained/text_decoder data/tokenizer \
    "$conf/pretrain_text_decoder.yaml" -- local/pretrain_text_decoder.py --config "$conf/pretrain_text_decoder.yaml"
}

stage_4() { # Train the supervised tagger that -init runs start from
  train tagging scratch tagging "$conf/train_tagging.yaml"
}

stage_5() { # Pretrain the audio encoder by each objective
  local runs objective_ init_
  runs=$(selected_runs)
  while read -r objective_ init_ <&3; do
    train "${objective_}_$init_${subset:+_$subset}" "$init_" "$objective_" "$conf/train_$objective_.yaml" \
      "$conf/init_$init_.yaml" ${subset:+"$conf/subsets/$subset.yaml"}
  done 3<<<"$runs"
}

stage_6() { # Evaluate the frozen encoders: linear probes (detection is not in this recipe yet)
  evaluate linear_probe
}

stage_7() { # Evaluate the frozen encoders: retrieval, captioning, classes by their names
  for protocol in retrieval captioning zero_shot; do evaluate "$protocol"; done
}

stage_8() { # Evaluate the frozen encoders: question answering (not in this recipe yet)
  not_here_yet "question answering with a frozen language model"
}

stage_9() { # Collect the results into exp/RESULTS.md
  run collect_results.py --exp-dir exp --paper conf/paper.yaml --provenance data/corpora/provenance.json
}

if [ "$dry_run" = false ]; then
  install.sh
  claim_folders
fi
run_stages
