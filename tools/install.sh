#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make .venv from requirements.txt, with uv when it is there and pip otherwise. Does nothing when all is there.
# ALP_PYTHON names another interpreter than python3. k2 is not needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${ALP_PYTHON:-python3}
venv=.venv
stamp=$venv/installed.sha256
# Its only dependency is a live audio output, which needs a C library to build and is never used here.
synthesizer='tinysoundfont==0.3.7'

wanted=$( (cat requirements.txt; echo "$synthesizer") | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi

if ! "$python" -c 'import sys; raise SystemExit(not (3, 10) <= sys.version_info < (3, 13))'; then
  echo "error: tools/install.sh: $("$python" --version 2>&1) is not Python 3.10, 3.11 or 3.12; set ALP_PYTHON to one that is" >&2
  exit 1
fi

echo "install: packages of requirements.txt into $venv (about 5 GB, one to five minutes)" >&2
if command -v uv >/dev/null; then
  uv venv --quiet --allow-existing --python "$python" "$venv"
  uv pip install --quiet --python "$venv/bin/python" -r requirements.txt
  uv pip install --quiet --python "$venv/bin/python" --no-deps "$synthesizer"
else
  "$python" -m venv "$venv"
  # what is never imported need not be compiled
  pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile)
  "${pip[@]}" -r requirements.txt
  "${pip[@]}" --no-deps "$synthesizer"
fi
# the first import compiles, here also where the user's shell forbids it, so that later ones are quick
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -c '
import lhotse, matplotlib.pyplot, pyarrow, rouge_score.rouge_scorer, scipy.signal, sentencepiece, sklearn.manifold
import soundfile, tinysoundfont, torch, torch.utils.tensorboard, torchaudio, torchaudio.compliance.kaldi
from transformers import AutoModelForCausalLM, BartModel, PreTrainedTokenizerFast, Qwen2ForCausalLM'
echo "$wanted" >"$stamp"
echo "install: done" >&2
