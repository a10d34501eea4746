# SPDX-License-Identifier: Apache-2.0
"""An index finds what it holds, is not made twice, and one bad file does not stop the rest; the two tools as well."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from icefall_alp.config import TextTowerConfig, ZipformerConfig
from icefall_alp.data.recordings import list_files
from icefall_alp.evaluation import search
from icefall_alp.evaluation.windows import usable_windows
from icefall_alp.models import AudioEncoder
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective

TOOLS = Path(__file__).parents[2] / "tools"
SIZES = ZipformerConfig(
    frontend_channels=(4, 4, 8), num_encoder_layers=(1, 1), downsampling_factor=(1, 2), encoder_dim=(16, 16),
    feedforward_dim=(16, 16), encoder_unmasked_dim=(16, 16), num_heads=(2, 2), cnn_module_kernel=(5, 5),
    query_head_dim=4, value_head_dim=4, pos_dim=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_task):
    """A run's folder with untrained towers."""
    folder = tmp_path_factory.mktemp("exp") / "toy"
    torch.manual_seed(0)
    tower = TextTowerConfig(
        tokenizer=toy_task["tokenizer"],
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        feedforward_dim=32,
        max_text_tokens=24,
    )
    encoder = AudioEncoder(SIZES)
    encoder.save(folder / "encoder")
    ContrastiveObjective(encoder, TextEncoder.build(tower), 8, 0.07).save_text_side(folder / "text_tower")
    TextDecoder.build(tower, encoder.output_dim).save(folder / "text_decoder")
    return folder


def call(monkeypatch, capfd, tool, *arguments):
    monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
    try:
        runpy.run_path(str(TOOLS / tool), run_name="__main__")
        status = 0
    except SystemExit as error:
        status = error.code
    return status, *capfd.readouterr()


BAD = {
    "empty.wav": "empty file", "text.mp3": "not readable as audio", "silent.wav": "silent", "nan.wav": "NaN",
    "absent.wav": "no such file", "loud.wav": "samples up to", "link.wav": "a link to a file that is not",
}  # fmt: skip


def test_a_vector_is_that_of_the_window_alone(run, recordings):
    embedder = search.Embedder(run)
    windows = [w for own in usable_windows(list_files([recordings]), 2.0) for w in own]
    assert len(windows) == 1 + 1 + 1 + 4 + 2
    together = embedder.embed(windows)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(windows)))
    torch.testing.assert_close(torch.cat([embedder.embed([w]) for w in windows]), together, atol=1e-5, rtol=0)


def test_an_index_finds_its_windows_and_reads_only_what_is_new(run, recordings, tmp_path, capfd):
    embedder, files = search.Embedder(run), list_files([recordings])
    index = search.Index.build(tmp_path / "index", files, embedder, 2.0)
    assert "5 files, 9 windows; 11 files read now" in capfd.readouterr().err
    for row in (0, 4, 8):
        ((score, entry),) = index.search(index.vectors[row], 1)
        assert entry == index.entries[row] and score == pytest.approx(1.0, abs=1e-5)
    assert len(index.search(index.vectors[0], 100)) == 9
    soundfile.write(recordings / "a.wav", np.random.default_rng(1).normal(size=32000) * 0.1, 16000)
    (recordings / "e.wav").unlink()
    again = search.Index.build(tmp_path / "index", list_files([recordings]), embedder, 2.0)
    assert "4 files, 7 windows; 7 files read now" in capfd.readouterr().err  # a.wav and the six bad ones
    names = {Path(entry.file).name for entry in again.entries}
    assert names == {"a.wav", "b.flac", "c.ogg", "d d.wav"}
    kept = [i for i, entry in enumerate(again.entries) if entry in index.entries]
    assert len(kept) == 6
    for i in kept:
        assert again.vectors[i].equal(index.vectors[index.entries.index(again.entries[i])])


def test_an_index_of_other_windows_or_damaged_is_made_again(run, recordings, tmp_path, capfd):
    embedder, files = search.Embedder(run), [recordings / "a.wav"]
    search.Index.build(tmp_path / "index", files, embedder, 2.0)
    search.Index.build(tmp_path / "index", files, embedder, 3.0)
    assert capfd.readouterr().err.count("1 files read now") == 2
    (tmp_path / "index" / "embeddings.safetensors").write_bytes(b"no")
    search.Index.build(tmp_path / "index", files, embedder, 3.0)
    errors = capfd.readouterr().err
    assert "damaged index" in errors and "1 files read now" in errors


def test_retrieve_ranks_what_it_can_read_and_names_what_it_cannot(run, recordings, tmp_path, monkeypatch, capfd):
    arguments = ["--encoder", run / "encoder", "--audio", recordings, recordings / "absent.wav", "--window", 5]
    arguments += ["--index", tmp_path / "index", "--top", 3, "--text", "a dog", "rain"]
    status, out, errors = call(monkeypatch, capfd, "retrieve.py", *arguments)
    assert status == 0, errors
    for name, cause in BAD.items():
        assert len([line for line in errors.splitlines() if name in line and cause in line]) == 1, name
    assert [line for line in out.splitlines() if line.startswith("#")] == ["# a dog", "# rain"]
    rows = [line.split("\t") for line in out.splitlines()[1:4]]
    assert [float(row[0]) for row in rows] == sorted((float(row[0]) for row in rows), reverse=True)
    assert "Traceback" not in errors


def test_caption_writes_a_line_per_window_and_names_what_it_cannot_read(run, recordings, monkeypatch, capfd):
    arguments = ["--model", run, recordings, recordings / "absent.wav", "--window", 5, "--max-tokens", 6]
    status, out, errors = call(monkeypatch, capfd, "caption.py", *arguments)
    assert status == 0, errors
    assert [line.split("\t")[1] for line in out.splitlines() if "d d.wav" in line] == ["0:00.0-0:05.0", "0:05.0-0:07.0"]
    assert len(out.splitlines()) == 6
    for name, cause in BAD.items():
        assert len([line for line in errors.splitlines() if name in line and cause in line]) == 1, name
    status, _, errors = call(monkeypatch, capfd, "caption.py", "--model", run, recordings / "silent.wav")
    assert status == 1 and errors.splitlines()[-1] == "error: none of the 1 files could be captioned"


def test_an_index_that_holds_nan_is_made_again(run, recordings, tmp_path, capfd):
    embedder, files = search.Embedder(run), [recordings / "a.wav"]
    index = search.Index.build(tmp_path / "index", files, embedder, 2.0)
    save_file({"embeddings": torch.full_like(index.vectors, torch.nan)}, tmp_path / "index" / search.VECTORS)
    assert search.Index.build(tmp_path / "index", files, embedder, 2.0).vectors.equal(index.vectors)


def test_every_file_is_one_row_whatever_its_name_and_however_often_it_is_named(run, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"caf\xe9.wav", b"two\nlines\tand a tab.wav"]
    for name in names:
        soundfile.write(os.fsencode(folder) + b"/" + name, np.random.default_rng(0).normal(size=16000) * 0.1, 16000)
    (folder / "bad\nname.wav").touch()
    arguments = [
        "--encoder",
        run,
        "--index",
        tmp_path / "index",
        "--text",
        "a\ndog",
        "--audio",
        folder,
        folder / "bad\nname.wav",
    ]
    for read_now in ("3 files read now", "1 files read now"):
        status, out, errors = call(monkeypatch, capfd, "retrieve.py", *arguments)
        assert status == 0 and len(out.splitlines()) == 3 and len(errors.splitlines()) == 2, errors
        assert read_now in errors and r"bad\nname.wav: empty file" in errors
        assert {line.split("/")[-1] for line in out.splitlines()[1:]} == {r"caf\xe9.wav", r"two\nlines\tand a tab.wav"}
    status, out, errors = call(monkeypatch, capfd, "caption.py", "--model", run, folder)
    assert status == 0 and sorted(line.count("\t") for line in out.splitlines()) == [2, 2]


def test_a_text_that_is_longer_than_the_tower_reads_is_named(run, recordings, tmp_path, monkeypatch, capfd):
    arguments = ["--encoder", run, "--audio", recordings / "a.wav", "--index", tmp_path / "index"]
    _, _, errors = call(monkeypatch, capfd, "retrieve.py", *arguments, "--text", "a dog", "a dog barks " * 30)
    assert [line for line in errors.splitlines() if "a dog" in line and "only the first 24 of its" in line]
    assert errors.count("searched for") == 1


def test_captions_that_are_stopped_are_counted(run, recordings, monkeypatch, capfd):
    _, _, errors = call(monkeypatch, capfd, "caption.py", "--model", run, recordings / "e.wav", "--max-tokens", 2)
    assert errors.splitlines()[-1] == "note: 1 of 1 captions were stopped at 2 tokens, unended"


def test_a_run_without_the_tower_is_named(run, tmp_path, monkeypatch, capfd):
    (tmp_path / "encoder").mkdir()
    arguments = ["--encoder", tmp_path, "--audio", tmp_path, "--text", "a dog"]
    status, _, errors = call(monkeypatch, capfd, "retrieve.py", *arguments)
    assert status == 1 and "no text_tower/ in it; name a run" in errors
