#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Audio-language pretraining on CaptionStew: from corpora on disk to the results table.
#
#   ./run.sh                                        embedded recordings, every stage, 20 to 25 minutes on 2 cores
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
supervised=      # also train and probe encoders of these corpora alone ("nsynth vggsound", Table 7)
corpora=         # only these corpora in stage 0 ("a b"); absent ones are then an error
features=stored  # stored (fbank on disk) or on_the_fly (FLAC on disk, fbank on the device that trains)
strict=false     # true also leaves out all of a video or sound of which a part is evaluated (stage 1)
sentence_encoder= # Hugging Face folder for the map of captions in stage 3; TF-IDF without one
num_processes=1  # training processes, one per GPU
num_jobs=2       # processes of stages 0, 2, 6, 7 and 8; of 8 at most one for each GPU
parallel_runs=   # pretraining runs at a time, sharing the machine; without a number 2 for conf/mini, else 1
dry_run=false    # true prints the commands without running them
. ./path.sh
. parse_options.sh
. stages.sh
. local/runs.sh


stage_0() { # Prepare one cutset per corpus, benchmarks too
  # shellcheck source=conf/mini/corpora.sh
  . "$conf/corpora.sh"
  . "$ALP_ROOT/local/cmd.sh"
  run local/prepare.py --corpora "$conf/corpora.yaml" --roots "${corpus_roots[@]}" --only "$corpora" \
    --num-jobs "$num_jobs" --cmd "$cpu_cmd" --scan-parts "$scan_parts"
}

stage_1() { # Merge the sources: one cut per piece of audio, at most 60 s, no benchmark audio; subsets, splits, SpeechQA
  local options=(--corpora "$conf/corpora.yaml")
  [[ $strict =~ ^(true|false)$ ]] || die "--strict takes true or false, not '$strict'"
  [ "$strict" = false ] || options+=(--strict)
  once merge data/captionstew/summary.json data/manifests "$conf/corpora.yaml" "$conf/evaluated_names" -- \
    local/merge_captionstew.py "${options[@]}"
  once subsets data/captionstew/subsets.json data/captionstew/captionstew_train_cuts.jsonl.gz "$conf/subsets.yaml" -- \
    local/make_subsets.py --subsets "$conf/subsets.yaml"
  once splits data/splits data/manifests "$conf/splits.yaml" "$conf/corpora.yaml" -- \
    local/draw_splits.py --splits "$conf/splits.yaml" --corpora "$conf/corpora.yaml"
  once speechqa data/speechqa data/manifests "$conf/speechqa.yaml" -- \
    local/make_speechqa.py --config "$conf/speechqa.yaml" --output-dir data/speechqa
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
  once fbank data/fbank "${found[@]}" data/fbank/*/damaged.jsonl -- \
    local/compute_fbank.py --cuts "${found[@]}" --output-dir data/fbank --num-jobs "$num_jobs" --features "$features"
}

stage_3() { # Check and describe the cuts, train the tokenizer
  once describe data/captionstew/report.md data/captionstew/{summary,subsets}.json data/manifests conf/paper.yaml \
    ${sentence_encoder:+"$sentence_encoder"} -- \
    local/describe_cuts.py --paper conf/paper.yaml ${sentence_encoder:+--sentence-encoder "$sentence_encoder"}
  once tokenizer data/tokenizer/bpe.model data/captionstew/captionstew_train_cuts.jsonl.gz -- local/train_tokenizer.py
}

stage_4() { # Train what later stages begin with: the supervised tagger and, where none is public, a text decoder
  local name limit names=(tagging)
  for name in $supervised; do names+=("supervised_$name"); done
  [ ! -f "$conf/pretrain_text_decoder.yaml" ] || names=(text_decoder "${names[@]}")
  limit=$(runs_at_a_time "${#names[@]}")
  for name in "${names[@]}"; do
    side_by_side "$limit" "$name" train_first "$name"
  done
  [ "$stop_stage" -gt 4 ] || all_done
}

stage_5() { # Pretrain the audio encoder by each objective; what needs nothing of stage 4 begins beside it
  local limit runs objective_ init_
  runs=$(selected_runs)
  limit=$(runs_at_a_time "$(wc -l <<<"$runs")")
  while read -r objective_ init_ <&3; do
    [ "$init_" = scratch ] || await "$init_"
    side_by_side "$limit" "${objective_}_$init_" pretrain "$objective_" "$init_"
  done 3<<<"$runs"
  all_done
}

stage_6() { # Evaluate the frozen encoders: linear probes and detection
  evaluate linear_probe
  evaluate detection
}

stage_7() { # Evaluate the frozen encoders: captioning, retrieval, classes by their names
  for protocol in captioning retrieval zero_shot; do evaluate "$protocol"; done
}

stage_8() { # Evaluate the frozen encoders: question answering
  evaluate question_answering
}

stage_9() { # Collect the results into exp/RESULTS.md
  run collect_results.py --exp-dir exp --paper conf/paper.yaml --provenance data/corpora/provenance.json
}

if [ "$dry_run" = false ]; then
  install.sh
  claim_folders
fi
run_stages
