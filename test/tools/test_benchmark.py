# SPDX-License-Identifier: Apache-2.0
"""The benchmark command runs, names what is wrong, and its baseline computes what it is compared with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from faults.workbench import ENCODER

import benchmark
from benchmarks import _workload, caption_step, generate, timing, traffic
from benchmarks import optimizer as optimizer_benchmark
from icefall_alp.config import ZipformerConfig
from icefall_alp.models.kernels import chains
from icefall_alp.objectives.captioning import CaptioningObjective
from icefall_alp.training import recording
from icefall_alp.training.scaled_adam import ScaledAdam
from icefall_alp.utils.errors import UserError

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "benchmark.py"


def call(*arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_optimizer_prints_machine_medians_and_ratios(tmp_path):
    shapes = tmp_path / "shapes.json"
    shapes.write_text(json.dumps({"shapes": {"weight": [30, 20], "bias": [30], "scale": []}}))
    done = call("optimizer", "--shapes", shapes, "--rounds", 5)
    assert done.returncode == 0, done.stderr
    assert "1 threads" in done.stdout
    assert "3 tensors, 631 elements" in done.stdout
    for contender in ("AdamW foreach", "ScaledAdam", "loop"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(contender + "  ")]
        assert "x AdamW foreach (" in line
        assert "5 rounds)" in line


@pytest.fixture
def tiny_encoder(tmp_path):
    path = tmp_path / "encoder.yaml"
    path.write_text(
        "audio_encoder: {frontend_channels: [2, 2, 4], num_encoder_layers: [1, 1], downsampling_factor: [1, 2],"
        " encoder_dim: [8, 12], feedforward_dim: [16, 16], encoder_unmasked_dim: [8, 8], num_heads: [2, 2],"
        " cnn_module_kernel: [5, 5], query_head_dim: 4, value_head_dim: 4, pos_dim: 8}\n"
    )
    return path


SMALL_TEXT = ["--text-width", "64", "--text-layers", "1"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("encode", []), ("step", SMALL_TEXT), ("caption_step", [*SMALL_TEXT, "--vocabulary", "1100"])],
)
def test_the_encoder_is_timed_against_its_definition(monkeypatch, capsys, tiny_encoder, name, options):
    arguments = [name, "--encoder", str(tiny_encoder), "--max-duration", "2", "--clip-seconds", "1", "--rounds", "5"]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments, *options])
    benchmark.main()
    printed = capsys.readouterr().out
    assert "x plain eager (" in printed and "audio-s/s" in printed and "GFLOP per call" in printed
    assert "Self CPU" not in printed
    assert (os.environ.get("ICEFALL_ALP_FUSED") != "0") == chains.FUSED  # left as it was


def test_a_profile_names_operations_by_the_time_they_take(monkeypatch, capsys, tiny_encoder):
    arguments = [
        "encode",
        "--encoder",
        str(tiny_encoder),
        "--max-duration",
        "1",
        "--clip-seconds",
        "1",
        "--rounds",
        "5",
    ]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments, "--profile"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert "Self CPU" in printed and "aten::add" in printed


def test_limits_are_shares_of_a_large_product_and_a_large_copy(capsys, monkeypatch):
    taken = {"product": [0.5] * 5, "copy": [0.25] * 5}
    monkeypatch.setattr(timing, "take_turns", lambda *_, **__: taken)
    work = timing.Work(seconds=8.0, flops=2**30, bytes=2**25)
    timing.report_limits([1.0, 2.0, 3.0], work, torch.device("cpu"), torch.bfloat16)
    printed = capsys.readouterr().out  # a product of 2 ** 31 in half a second, a copy of 2 ** 26 in a quarter
    assert "4 audio-s/s" in printed and "= 12% of a large bfloat16 product's 4" in printed
    assert "= 6% of a large copy's 0.3" in printed
    timing.report_limits([1.0], replace(work, bytes=None), torch.device("cpu"), torch.float32)
    assert "bytes are not counted: Triton is not installed" in capsys.readouterr().out


LOSS = "loss --clips 60 --dim 8 --held 600 --rounds 5"
RANKS = "ranks --clips 40 --captions 3 --dim 4 --rounds 5"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (LOSS, ("60 clips, at most 600 of 3,600 similarities at a time", "x all at once (")),
        (RANKS, ("text to audio: 120 captions, 40 clips", "audio to text: 120 captions", "x sorting all (")),
    ],
)
def test_what_is_timed_gives_what_its_baseline_gives(monkeypatch, capsys, command, told):
    monkeypatch.setattr(sys, "argv", [str(TOOL), *command.split()])
    benchmark.main()  # ends in an error where they differ
    printed = capsys.readouterr().out
    assert all(words in printed for words in told)


@pytest.mark.parametrize("max_tokens", [40, 64])
def test_the_plain_captioning_step_computes_the_same_loss(tiny_encoder, max_tokens):
    arguments = SimpleNamespace(
        encoder=tiny_encoder, layers=None, device=torch.device("cpu"), text_width=64, text_layers=2, vocabulary=1100,
        max_duration=3.0, clip_seconds=1.0, max_tokens=max_tokens,
    )  # fmt: skip
    batch = replace(_workload.make_batch(arguments), cut_ids=["a", "b", "c"])
    losses, gradients = [], []
    for kind in (CaptioningObjective, caption_step._Plain):
        objective = caption_step._objective(kind, arguments).eval()
        objective.training = True  # modes are drawn and labels smoothed; no part of it has dropout
        torch.manual_seed(0)
        assert len(set(objective._draw_modes(batch.cut_ids).tolist())) == 2
        torch.manual_seed(0)
        out = objective(batch)
        losses.append(getattr(out, "total", out))
        losses[-1].backward()
        decoder = getattr(objective.text_decoder, "decoder", objective.text_decoder)
        gradients.append({name: p.grad for name, p in decoder.named_parameters() if not name.startswith("bridge.")})
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["warp"], 2, "invalid choice: 'warp'"),
        (["optimizer", "--rounds", "3"], 2, "--rounds must be at least 5"),
        (["optimizer", "--shapes", "none.json"], 1, "error: none.json: no such file"),
    ],
)
def test_mistakes_are_named(monkeypatch, capsys, tmp_path, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments])
    with pytest.raises(SystemExit) as stopped:
        benchmark.main()
    assert stopped.value.code == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("resume", {"clips": 3000, "lhotse_clips": 300}, "times as long"),
        ("batches", {"clips": 3000, "lhotse_clips": 2000, "ranks": 8}, "padding Lhotse"),
        ("fbank", {"clips": 2, "seconds": 1.0}, "ours against Kaldi's"),
        ("fbank", {"clips": 48, "seconds": 0.1}, "all but ours: timed on 32 of the 48 clips, times 1.5"),
        ("loader", {"clips": 12, "num_workers": 0}, "audio: ours"),
        ("checkpoint", {"preset": "tiny"}, "training stands still for"),
    ],
)
def test_the_benchmarks_of_data_and_training_compare_with_their_baselines(capsys, monkeypatch, name, options, said):
    monkeypatch.setattr(ZipformerConfig, "presets", staticmethod(lambda: {"tiny": ENCODER}))
    module = import_module(f"benchmarks.{name}")
    module.run(SimpleNamespace(**options, rounds=1, threads=1, device=torch.device("cpu")))
    assert said in capsys.readouterr().out


def test_probes_prints_encoder_seconds_of_both():
    arguments = ("--tasks", 1, "--clips", 40, "--seconds", 0.5, "--rates", 2, "--steps", 4, "--rounds", 5)
    done = call("probes", *arguments)
    assert done.returncode == 0, done.stderr
    assert "1 tasks x 2 poolings x 2 rates, 4 steps" in done.stdout and "times 16" in done.stdout
    assert "with all 20 heads (5 seeds each)" in done.stdout
    assert "ratio of encoder seconds" in done.stdout.splitlines()[-1]


def _numbers(line):
    """Behind the kernel's name and types, which are words: registers, bytes spilt, calls, ..."""
    return [word for word in line if word.isdigit()]


def test_every_kernel_compiles_for_a_gpu_without_spilling_and_dividing_indices(tiny_encoder, monkeypatch):
    kernels = pytest.importorskip("icefall_alp.models.kernels.triton_kernels")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = call("kernels", "--encoder", tiny_encoder, "--layers", 1, 1)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[2:]]
    launched = {name for name in vars(kernels) if name.split("_")[-1] in ("forward", "backward")}
    launched |= {"moments", "line_from_moments", "add_line"}
    products = {"scatter", "correct", "convolve", "filter_gradients"}  # whose instructions nobody counts
    assert {line[0] for line in lines} == launched | products and len(launched) == 15
    assert {tuple(_numbers(line)[1:3]) for line in lines} == {("0", "0")}  # bytes spilt, calls
    assert all(float(line[-2]) < 200 for line in lines if line[0] not in {"line_from_moments", *products})
    taps = [float(line[-4]) for line in lines if line[-3:] == ["for", "each", "tap"]]
    assert {line[0] for line in lines if line[-1] == "tap"} == {"convolve", "filter_gradients"} and max(taps) < 20
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    refused = call("kernels", "--encoder", tiny_encoder, "--layers", 1, 1)
    assert refused.returncode == 1 and "TRITON_INTERPRET is set" in refused.stderr.splitlines()[-1]


def test_traffic_counts_what_each_form_moves_and_launches(tiny_encoder, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = call("traffic", "--encoder", tiny_encoder, "--clip-seconds", 2)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    launches, moved = zip(*((int(line[-2]), float(line[-1])) for line in lines if line[0] == "together"), strict=True)
    assert launches[0] < launches[1] and 0.0 < moved[0] < moved[1]
    assert float(lines[-1][-4]) == pytest.approx(moved[1] / moved[0], rel=0.1)


def test_traffic_of_a_recorded_step_is_that_of_one_where_all_regularisers_look(tiny_encoder, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    moved = []
    for options in ((), ("--recorded",)):
        done = call("traffic", "--encoder", tiny_encoder, "--clip-seconds", 2, *options)
        assert done.returncode == 0, done.stderr
        line = next(line for line in done.stdout.splitlines() if "together" in line)
        moved.append(float(line.split()[-1]))
    assert moved[0] < moved[1]


def test_a_cpu_records_no_steps(tiny_encoder):
    sizes = ("--text-width", 8, "--text-layers", 1, "--max-duration", 1, "--clip-seconds", 1)
    done = call("step", "--encoder", tiny_encoder, *sizes, "--recorded", "--rounds", 5)
    assert done.returncode == 1 and "cpu records no graphs" in done.stderr.splitlines()[-1]


def test_step_takes_recorded_steps_in_turn(tiny_encoder, monkeypatch, capsys):
    """On a machine that records; here a replay calls the function again."""
    recorded = []
    monkeypatch.setattr(recording, "graphs_on", lambda device: lambda function: recorded.append(function) or function)
    command = ["step", "--encoder", tiny_encoder, "--text-width", 8, "--text-layers", 1, "--rounds", 5, "--recorded"]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, command), "--max-duration", "1", "--clip-seconds", "1"])
    benchmark.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {"plain", "ours", "recorded"} <= {line[0] for line in lines if line} and len(recorded) == 2


def test_traffic_counts_every_byte_once():
    x, row = torch.ones(3, 4, 5), torch.ones(5)
    with traffic.Traffic() as counted:
        x.add(row.expand(3, 4, 5)).view(12, 5).t()
        torch.mm(x.view(12, 5), row.expand(2, 5).t())
    assert counted.bytes == {traffic.ELEMENTWISE: 4 * (60 + 5 + 60), traffic.MULTIPLIED: 4 * (60 + 5 + 24)}
    assert counted.launches == {traffic.ELEMENTWISE: 1, traffic.MULTIPLIED: 1}


def test_contenders_take_turns():
    order = []
    contenders = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = timing.take_turns(contenders, torch.device("cpu"), rounds=5, repeats=2)
    assert order == ["a", "b"] + ["a", "a", "b", "b"] * 5
    assert [len(seconds) for seconds in times.values()] == [5, 5]


def test_a_contender_without_enough_memory_is_named_and_left_out(capsys):
    def greedy():
        raise torch.OutOfMemoryError

    def recorded():
        raise UserError("no memory for a recording")

    contenders = {"plain": greedy, "recorded": recorded, "ours": lambda: None}
    times = timing.take_turns(contenders, torch.device("cpu"), rounds=5, repeats=1)
    timing.report(times, "plain")
    printed = capsys.readouterr().out.splitlines()
    assert list(times) == ["ours"]
    assert printed[:2] == ["plain: out of memory", "recorded: no memory for a recording"]
    assert printed[2].startswith("ours ") and "x plain" not in printed[2]


def test_a_contender_that_fits_alone_but_not_beside_others_is_left_out(capsys):
    calls = []

    def greedy():
        calls.append(1)
        if len(calls) == 4:  # after the warm-up and two rounds
            raise torch.OutOfMemoryError

    times = timing.take_turns({"plain": greedy, "ours": lambda: None}, torch.device("cpu"), rounds=5, repeats=1)
    assert [(name, len(seconds)) for name, seconds in times.items()] == [("ours", 5)]
    assert capsys.readouterr().out == "plain: out of memory\n" and len(calls) == 4


def test_the_most_memory_at_a_time_is_counted(capsys):
    def call():
        first = torch.ones(1 << 20)
        second = first * 2
        del first
        return second + 1  # two of three at a time, of 4 MiB each

    timing.report_memory({"ours": call}, 2.0, torch.device("cpu"))
    assert capsys.readouterr().out == "ours: peak memory 8 MiB, 4.00 MiB for each second of audio\n"


def test_the_loop_computes_what_scaled_adam_does():
    shapes = [[6, 5], [6, 5], [300], [], [1], [4, 2, 3]]
    device = torch.device("cpu")
    here, there = (optimizer_benchmark._random_parameters(shapes, device) for _ in range(2))
    optimizer, reference = ScaledAdam(here), optimizer_benchmark.reference_scaled_adam(there)
    for step in range(130):
        for p, q in zip(here, there, strict=True):
            torch.manual_seed(step)
            p.grad = torch.randn_like(p) * (30.0 if step % 13 == 12 else 1.0)
            q.grad = p.grad.clone()
        optimizer.step()
        reference()
    for p, q in zip(here, there, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_generate_writes_the_same_tokens_with_and_without_the_cache():
    sizes = ["--tokens", 12, "--clips", 3, "--beam-size", 3, "--frames", 5, "--width", 64, "--layers", 2]
    done = call("generate", *sizes, "--rounds", 5)
    assert done.returncode == 0, done.stderr
    assert "3 clips, 3 beams, 12 tokens; the same tokens: True" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("cache  ")]
    assert "x no cache (" in line


def test_a_cache_that_forgets_is_noticed():
    decoder = generate.random_decoder(32, 1, generate.VOCABULARY)
    for weight in decoder.layers[0].self_attn.parameters():
        weight.mul_(10.0)  # at random so little depends on the past that few seeds show it
    step = decoder.step

    def forget(tokens, memory, past):
        states, present = step(tokens, memory, past)
        return states, [(keys[:, :, -1:], values[:, :, -1:]) for keys, values in present]

    decoder.step = forget
    search = torch.randn(2, 4, 32), torch.tensor([4, 2]), 2, 8
    forgetful = generate.generate(decoder, *search)
    decoder.step = step
    assert forgetful != generate.generate(generate.WithoutCache(decoder), *search)


def test_a_training_in_bfloat16_is_another_one_and_is_held_to_its_band(tiny_encoder):
    options = ("precision", "--encoder", tiny_encoder, "--steps", 30, "--text-width", 64, "--text-layers", 1)
    done = call(*options, "--band", 0.5)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("steps 1 to 30: float32 ") == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("bfloat16: at most")]
    assert call(*options, "--band", 0.0).returncode == 1  # so that the two do differ
    assert float(line.split()[3].rstrip("%")) < 5
