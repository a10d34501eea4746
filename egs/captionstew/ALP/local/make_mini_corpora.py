#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the embedded corpora: small, from real recordings and two sound engines, in the published on-disk formats.

Writes <output-dir>/{audiocaps,clotho,wavcaps,paraspeechcaps,audioset,fsd50k,voxceleb2} and beside them

    provenance.json   packages and versions used, seed, counts, hours, and which recordings are held out
    sources.jsonl     for every clip the recordings in it: files, samples of the soundfont (sf2:<name>), synthetic
                      voices; training and benchmarks share none (no preparation script reads this)
    done.json         digest of code and options, and the SHA-256 of every file

The same options give the same bytes. What is there and unchanged is left alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import platform
from collections import Counter, defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mini.benchmark_formats import BENCHMARK_WRITERS
from mini.events import FSD50K_TAGS, SIDES, side_of
from mini.formats import FIRST_WRITERS
from mini.mixing import Rendered, mix_down, perform, spans, write_audio
from mini.planned import plan_corpora
from mini.planning import Item, Planner
from mini.source_formats import SOURCE_WRITERS
from mini.sources import SAMPLE_RATE, Recordings, fetch_recordings
from tqdm import tqdm

from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.digests import sha256_file, sha256_text
from icefall_alp.utils.errors import UserError, clean_exit

ENGINES = ("espeakng-loader", "pretty_midi", "tinysoundfont")
WRITERS = FIRST_WRITERS | SOURCE_WRITERS | BENCHMARK_WRITERS
FROM_AUDIOSET = ("AudioSet_SL", "AudioSet")  # parts of WavCaps and AudioSetCaps
ALL_TRAINING = ("wavcaps", "audiosetcaps", "fusionaudio", "jamendomaxcaps", "musan")
TRAINING = ("train", "development", "balanced_train", "train_base", "train_scaled")


def render_group(group: list[Item], recordings: Recordings, root: Path) -> list[Rendered]:
    """Render one piece of audio and write it wherever it belongs."""
    scene = group[0].scene
    sounds = perform(scene, recordings)
    samples = mix_down(sounds, scene, group[0].key)
    seconds = round(len(samples) / SAMPLE_RATE, 4)
    rms = 20 * np.log10(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    for item in group:
        write_audio(samples, root / item.corpus / item.path, item.rate, item.channels)
    timed = {item.corpus: spans(sounds, scene) for item in group if item.corpus == "audioset_strong"}
    return [
        Rendered(item.corpus, item.path, seconds, round(float(rms), 2), timed.get(item.corpus, [])) for item in group
    ]


def render_all(items: list[Item], recordings: Recordings, root: Path, num_jobs: int) -> list[Rendered]:
    """Render all audio, each piece once."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.key].append(item)
    work = functools.partial(render_group, recordings=recordings, root=root)
    ordered = [groups[key] for key in sorted(groups)]
    if num_jobs == 1:
        results = [work(group) for group in tqdm(ordered, desc="rendering", unit="clip", disable=None)]
    else:
        with multiprocessing.get_context("fork").Pool(num_jobs) as pool:
            done = pool.imap(work, ordered, chunksize=16)
            results = list(tqdm(done, total=len(ordered), desc="rendering", unit="clip", disable=None))
    return [row for rows in results for row in rows]


def write_lists(items: list[Item], results: list[Rendered], root: Path) -> None:
    """Write the lists of every corpus; AudioSet's also name what others took from there."""
    rendered: dict[str, dict[str, Rendered]] = defaultdict(dict)
    for result in results:
        rendered[result.corpus][result.path] = result
    listed = {item.ident: item for item in items if item.corpus == "audioset"}
    for item in items:
        if item.split in FROM_AUDIOSET or (item.corpus, item.split) == ("audioset_strong", "train"):
            ident = item.ident.removeprefix("Y") if item.corpus == "wavcaps" else item.ident
            named = replace(item, corpus="audioset", split="unbalanced_train", ident=ident)
            listed.setdefault(ident, named)
    for corpus, write in WRITERS.items():
        mine = [item for item in items if item.corpus == corpus]
        write(list(listed.values()) if corpus == "audioset" else mine, root / corpus, rendered[corpus])


def is_training(item: Item) -> bool:
    """Whether a clip may be trained on; VoxCeleb is neither, as its speakers are in all splits."""
    return item.salt != "leak" and (item.corpus in ALL_TRAINING or item.split in TRAINING)


def write_sources(items: list[Item], path: Path) -> None:
    """One line for each clip: its side and the recordings and renderings in it."""
    lines = []
    for item in items:
        side = "speaker" if item.corpus in ("voxceleb1", "voxceleb2") else "train" if is_training(item) else "heldout"
        row = {"corpus": item.corpus, "path": item.path, "split": item.split, "key": item.key, "side": side}
        lines.append(json.dumps({**row, "salt": item.salt, "sources": item.scene.sources}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def provenance(planner: Planner, recordings: Recordings, items: list[Item], results: list[Rendered]) -> dict:
    """What was used and what came of it."""
    hours: Counter = Counter()
    for result in results:
        hours[result.corpus] += result.seconds / 3600
    clips = Counter(f"{item.corpus}/{item.split}" for item in items)
    sides = {
        event.name: {side: side_of(event.material, side) for side in SIDES}
        for event in planner.events
        if event.maker == "recording"
    }
    used = {source for item in items for source in item.scene.sources if not source.startswith(("sf2:", "espeak:"))}
    return {
        "recordings": {**recordings.packages, **{name: version(name) for name in ENGINES}},
        "real_recordings_used": len(used),
        "seed": planner.seed,
        "scale": planner.scale,
        "event_types": len(planner.events),
        "fsd50k_tags": planner.tags(FSD50K_TAGS),
        "clips": dict(sorted(clips.items())),
        "hours": {corpus: round(total, 3) for corpus, total in sorted(hours.items())},
        "salt": dict(Counter(item.salt for item in items if item.salt)),
        "recordings_by_side": sides,
    }


def check(results: list[Rendered]) -> None:
    """Refuse silence and odd lengths."""
    for corpus, path, seconds, rms, _ in results:
        if not (0.2 < seconds < 120 and -70 < rms < 0):
            raise UserError(f"{corpus}/{path}: {seconds} s at {rms} dB, which no clip should be; change --seed")


def options_digest(options: argparse.Namespace) -> str:
    """Digest of this code, the options and the interpreter's line."""
    code = [Path(__file__), *sorted((Path(__file__).parent / "mini").glob("*.py"))]
    parts = [*map(sha256_file, code), options.seed, options.scale, options.recordings, platform.python_version()]
    parts += [f"{name} {version(name)}" for name in (*ENGINES, "numpy", "scipy", "soundfile")]
    return sha256_text("\n".join(map(str, parts)))


def is_done(output_dir: Path, digest: str) -> bool:
    """Whether the corpora of these options are there, complete in names and sizes."""
    done = output_dir / "done.json"
    if not done.is_file():
        return False
    marker = json.loads(done.read_text())
    sizes = {name: size for name, (size, _) in marker["files"].items()}
    there = {name: (output_dir / name).stat().st_size for name in sizes if (output_dir / name).is_file()}
    return marker["digest"] == digest and there == sizes


@clean_exit
def main() -> None:
    """Read the command line, then fetch, plan, render and list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, default=Path("data/corpora"))
    parser.add_argument("--work-dir", type=Path, default=Path("data/downloads"), help="keeps the recordings")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--num-jobs", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 makes a tenth of every corpus")
    parser.add_argument("--recordings", choices=("auto", "apt", "pip"), default="auto", help="pip: engines only")
    options = parser.parse_args()
    digest = options_digest(options)
    if is_done(options.output_dir, digest):
        print(f"{options.output_dir}: made already with this code and these options")
        return
    recordings = fetch_recordings(options.work_dir, options.recordings)
    planner = Planner(recordings, options.seed, options.scale)
    items = plan_corpora(planner)
    with atomic_folder(options.output_dir) as root:
        results = render_all(items, recordings, root, options.num_jobs)
        check(results)
        write_lists(items, results, root)
        write_sources(items, root / "sources.jsonl")
        report = provenance(planner, recordings, items, results)
        (root / "provenance.json").write_text(json.dumps(report, indent=1) + "\n")
        files = sorted(path for path in root.rglob("*") if path.is_file())
        listed = {str(path.relative_to(root)): (path.stat().st_size, sha256_file(path)) for path in files}
        (root / "done.json").write_text(json.dumps({"digest": digest, "files": listed}, indent=0) + "\n")
    hours = sum(report["hours"].values())
    print(f"{options.output_dir}: {len(items):,} clips, {hours:.2f} h, made of {', '.join(report['recordings'])}")


if __name__ == "__main__":
    main()
