# SPDX-License-Identifier: Apache-2.0
"""run.sh: options, help, dry run, the order of stages, and what a failing stage does."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from icefall_alp.config.loader import read_yaml
from icefall_alp.data.manifests import load_corpora
from icefall_alp.data.subsets import load_plan

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs/captionstew/ALP"
STAGES_4_AND_5 = re.search(r"^stage_4\(\) .*?^stage_5\(\) .*?^}$", (RECIPE / "run.sh").read_text(), re.M | re.S)[0]


def call(*arguments, script=RECIPE / "run.sh", cwd=ROOT):
    return subprocess.run(["bash", script, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def small_recipe(tmp_path):
    """A recipe of three stages whose second one fails half-way."""
    for name in ("path.sh", "tools/stages.sh", "tools/parse_options.sh"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, target)
    script = tmp_path / "run.sh"
    script.write_text(
        '#!/usr/bin/env bash\n# Three stages.\nset -euo pipefail\ncd "$(dirname "${BASH_SOURCE[0]}")"\n'
        "stage=0  # first stage\nstop_stage=2  # last stage\ndry_run=false  # only print\nsecret=1\n"
        ". ./path.sh\n. parse_options.sh\n. stages.sh\n"
        "stage_0() { # Zero\n  run echo from zero\n}\n"
        "stage_1() { # One\n  run bash -c 'exit 7'\n  run echo after the failure\n}\n"
        'stage_2() { # Two\n  not_here_yet "the second"\n}\nrun_stages\n'
    )
    return script


def test_failing_stage_stops_with_its_status(small_recipe):
    result = call(script=small_recipe)
    assert result.returncode == 7
    assert "from zero" in result.stdout and "after the failure" not in result.stdout and "stage 2" not in result.stdout


def test_stage_of_the_future_is_an_error_alone_and_passed_over_in_a_range(small_recipe):
    alone = call("--stage", "2", "--stop-stage", "2", script=small_recipe)
    assert alone.returncode == 2 and alone.stderr == "stage 2 is not in this recipe yet: the second\n"
    small_recipe.write_text(small_recipe.read_text().replace("exit 7", "exit 0"))
    assert call(script=small_recipe).returncode == 0


@pytest.fixture
def parallel_recipe(small_recipe):
    """Three jobs, two at a time; each waits until its file says how to end."""
    job = "(echo begins; until [ -s $0 ]; do sleep 0.05; done; read -r code <$0; echo ends; exit $code)"
    text = small_recipe.read_text()
    text = text.replace(
        "  run echo from zero\n", f"  for n in a b c; do side_by_side 2 $n bash -c '{job}' $n; done; all_done\n"
    )
    small_recipe.write_text(text)
    return small_recipe


def test_jobs_run_side_by_side_and_the_first_failure_is_the_status(parallel_recipe):
    command = ["bash", parallel_recipe, "--stop-stage", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = (line for line in process.stdout if line[1:3] == ": ")
        assert {next(lines), next(lines)} == {"a: begins\n", "b: begins\n"}
        (parallel_recipe.parent / "a").write_text("3\n")
        assert [next(lines), next(lines)] == ["a: ends\n", "c: begins\n"]
        for name, code in (("b", 4), ("c", 0)):
            (parallel_recipe.parent / name).write_text(f"{code}\n")
        assert {*lines} == {"b: ends\n", "c: ends\n"}
    assert process.returncode == 3


def train_stand_ins(folder, first, last, runs, tagger="sleep 1"):
    """Lines of stages `first` to `last` on 4 cores: each run says when it starts, on how many threads, and its end."""
    script = f"""
        set -euo pipefail
        unset OMP_NUM_THREADS
        dry_run=false conf=conf/mini parallel_runs=2 supervised= stage={first} stop_stage={last}
        nproc() {{ echo 4; }}
        . {ROOT}/tools/stages.sh
        . {RECIPE}/local/runs.sh
        selected_runs() {{ printf '%s\n' {" ".join(f"'{run}'" for run in runs)}; }}
        train_first() {{ echo "starts ${{OMP_NUM_THREADS:-$(nproc)}}"; {tagger}; echo ends; }}
        pretrain() {{ echo "starts ${{OMP_NUM_THREADS:-$(nproc)}}"; sleep 0.3; echo ends; }}
        {STAGES_4_AND_5}
        for number in {{{first}..{last}}}; do stage_$number; done
    """
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=folder, timeout=60)


RUNS = ("contrastive scratch", "captioning scratch", "contrastive tagging")


def test_what_needs_no_tagger_is_trained_beside_it_and_what_does_waits(tmp_path):
    lines = train_stand_ins(tmp_path, 4, 5, RUNS).stdout.splitlines()
    place = {line: number for number, line in enumerate(lines)}
    assert place["contrastive_scratch: starts 2"] < place["tagging: ends"] < place["contrastive_tagging: starts 2"]
    running = [sum(1 if "starts" in line else -1 for line in lines[: end + 1]) for end in range(len(lines))]
    assert max(running) == 2 and running[-1] == 0 and len(lines) == 8


def test_a_text_decoder_is_trained_in_stage_4_where_the_configuration_has_one(tmp_path):
    (tmp_path / "conf/mini").mkdir(parents=True)
    (tmp_path / "conf/mini/pretrain_text_decoder.yaml").touch()
    lines = train_stand_ins(tmp_path, 4, 4, ()).stdout.splitlines()
    assert {line for line in lines if "starts" in line} == {"text_decoder: starts 2", "tagging: starts 2"}


def test_nothing_starts_from_a_tagger_that_failed(tmp_path):
    result = train_stand_ins(tmp_path, 4, 5, RUNS, tagger="sleep 0.5; exit 3")
    assert result.returncode == 3
    assert "contrastive_scratch: starts 2" in result.stdout and "contrastive_tagging" not in result.stdout


@pytest.mark.parametrize(("first", "runs", "threads"), [(4, RUNS, [4]), (5, RUNS[:1], [4]), (5, RUNS, [2, 2, 2])])
def test_a_run_alone_has_all_cores(tmp_path, first, runs, threads):
    lines = train_stand_ins(tmp_path, first, first, runs).stdout.splitlines()
    assert [int(line.split()[-1]) for line in lines if "starts" in line] == threads


def test_jobs_side_by_side_stop_with_the_recipe(parallel_recipe):
    command = ["bash", parallel_recipe, "--stop-stage", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = (line for line in process.stdout if line[1:3] == ": ")
        assert {next(lines), next(lines)} == {"a: begins\n", "b: begins\n"}
        process.terminate()
        assert list(lines) == []  # ends only when no job holds the pipe any more
    assert process.returncode == 143


def test_dry_run_prints_and_does_nothing(small_recipe):
    result = call("--dry-run", "true", script=small_recipe)
    assert result.returncode == 0 and "$ bash -c exit\\ 7" in result.stdout and "\nfrom zero" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus", "1"], "unknown option --bogus"),
        (["--secret", "1"], "unknown option --secret"),
        (["--PATH", "x"], "unknown option --PATH"),
        (["--stage.*", "x"], "unknown option --stage.*"),
        (["--stage"], "option --stage needs a value"),
        (["3"], "unexpected argument '3'"),
        (["--stage", "x"], "whole numbers, not 'x'"),
        (["--stage", "2", "--stop-stage", "1"], "--stage 2 comes after --stop-stage 1"),
        (["--stage", "0", "--stop-stage", "3"], "there is no stage 3"),
        (["--dry-run", "yes"], "--dry-run takes true or false"),
    ],
)
def test_bad_option_exits_2_and_is_named(small_recipe, arguments, message):
    result = call(*arguments, script=small_recipe)
    assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1


def test_value_is_never_run_as_a_command(small_recipe):
    call("--stage", "$(touch canary)", "--dry-run", "`touch canary`", script=small_recipe)
    assert not (small_recipe.parent / "canary").exists()


def test_recipe_refuses_unknown_options_by_name():
    result = call("--bogus", "1")
    assert result.returncode == 2 and "unknown option --bogus" in result.stderr


def test_help_lists_ten_stages_and_every_option():
    result = call("--help")
    assert result.returncode == 0
    assert re.findall(r"^  (\d)  \S", result.stdout, re.MULTILINE) == list("0123456789")
    for option in ("stage", "stop-stage", "conf", "objective", "init", "num-processes", "num-jobs", "dry-run"):
        assert f"--{option} " in result.stdout


def test_dry_run_of_the_whole_recipe_names_every_script_that_exists():
    result = call("--dry-run", "true")
    assert result.returncode == 0, result.stderr
    for script in re.findall(r" ((?:local|zipformer)/\w+\.py)", result.stdout):
        assert (RECIPE / script).is_file(), script


def test_damage_that_was_found_lets_stage_2_run_again():
    inputs, _, _ = call("--stage", "2", "--stop-stage", "2", "--dry-run", "true").stdout.rpartition(" -- ")
    assert "damaged.jsonl" in inputs


def test_strict_and_the_sentence_encoder_reach_their_commands():
    plain, chosen = (
        call("--stage", "1", "--stop-stage", "3", "--dry-run", "true", *options).stdout
        for options in ((), ("--strict", "true", "--sentence-encoder", "data/pretrained/my encoder"))
    )
    assert "--strict" not in plain and "--sentence-encoder" not in plain
    assert re.search(r"merge_captionstew\.py --corpora \S+ --strict$", chosen, re.M)
    (describe,) = re.findall(r"^.*describe_cuts\.py.*$", chosen, re.M)
    assert describe.endswith(r" --sentence-encoder data/pretrained/my\ encoder")
    assert describe.count(r"data/pretrained/my\ encoder") == 2  # an input too: another one is described anew


def test_strict_is_true_or_false():
    result = call("--stage", "1", "--dry-run", "true", "--strict", "yes")
    assert result.returncode == 2 and result.stderr == "error: --strict takes true or false, not 'yes'\n"


def test_question_answering_names_every_run_and_task_and_depends_on_what_the_tasks_share():
    commands = call("--stage", "8", "--stop-stage", "8", "--dry-run", "true").stdout
    assert "evaluate_question_answering.py --num-jobs 2 --exp-dir exp/log_mel exp/untrained exp/tagging" in commands
    inputs, _, command = commands.rpartition(" -- ")
    assert "tasks/question_answering.yaml" in inputs and "question_answering.yaml" not in command
    assert "air_bench_chat.yaml" in command and "air_bench_foundation.yaml" in command


def test_objective_and_init_choose_the_runs():
    commands = call("--stage", "5", "--stop-stage", "5", "--dry-run", "true", "--objective", "captioning").stdout
    assert "exp/captioning_scratch" in commands and "contrastive" not in commands
    named = call(
        "--stage", "5", "--stop-stage", "5", "--dry-run", "true", "--objective", "captioning", "--init", "tagging"
    )
    assert "exp/captioning_tagging" in named.stdout and "captioning_scratch" not in named.stdout
    unknown = call("--stage", "5", "--stop-stage", "5", "--dry-run", "true", "--objective", "capton")
    assert unknown.returncode == 2 and "no run of conf/mini/runs.txt has --objective 'capton'" in unknown.stderr


def test_a_subset_is_an_overlay_with_its_own_run():
    commands = call("--stage", "5", "--stop-stage", "7", "--dry-run", "true", "--subset", "small").stdout
    assert "exp/contrastive_scratch_small/checkpoints" in commands and "conf/mini/subsets/small.yaml" in commands
    assert "--exp-dir exp/captioning_scratch_small exp/contrastive_scratch_small" in commands
    assert "exp/log_mel" not in commands and "exp/tagging_small" not in commands


@pytest.mark.parametrize("conf", ["conf", "conf/mini"])
def test_every_subset_overlay_names_a_subset_that_stage_1_makes(conf):
    plan = load_plan(RECIPE / conf / "subsets.yaml")
    sources = [name for name, row in load_corpora(RECIPE / conf / "corpora.yaml").items() if row.role == "source"]
    made = {*plan.pairs, *(f"leave_one_out_{source}" for source in sources)}
    overlays = {path.stem: read_yaml(path) for path in (RECIPE / conf / "subsets").glob("*.yaml")}
    assert overlays == {name: {"data": {"train_cuts": f"data/fbank/captionstew_{name}"}} for name in overlays}
    assert set(plan.pairs) <= set(overlays) <= made and (conf != "conf" or set(overlays) == made)
