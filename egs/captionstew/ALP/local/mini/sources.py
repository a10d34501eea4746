# SPDX-License-Identifier: Apache-2.0
"""Real recordings from three Debian packages, fetched and unpacked without root.

`apt-get download` and `dpkg-deb -x` work for any user when apt keeps its package lists in a folder of its own.
Where a package cannot be had, one line says so and the two engines installed with pip carry on alone
(`speech.py`, `music.py`); `Recordings.packages` names what was used. Licences: tuxpaint-stamps-default GPL-2,
scratch CC-BY-SA-3.0, sonic-pi-samples CC0. The audio is unpacked on the user's machine and never redistributed.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from icefall_alp.utils.digests import sha256_file
from icefall_alp.utils.errors import UserError

SAMPLE_RATE = 16000
AUDIO_SUFFIXES = (".wav", ".mp3", ".ogg", ".flac")
APT_TIMEOUT = 600
# prefix of a recording's key -> (Debian package, folder inside it)
PACKAGES = {
    "tuxpaint": ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps"),
    "scratch": ("scratch", "usr/share/scratch/Media/Sounds"),
    "sonicpi": ("sonic-pi-samples", "usr/share/sonic-pi/samples"),
}


@dataclass(frozen=True)
class Recordings:
    """Unpacked recordings.

    Attributes:
        root: folder that holds one folder per key prefix.
        packages: Debian package name -> version, for those that are there.
    """

    root: Path
    packages: dict[str, str] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        """Whether `prefix:path` is there."""
        return PACKAGES[key.partition(":")[0]][0] in self.packages and self.path(key).is_file()

    def path(self, key: str) -> Path:
        """File of `prefix:path`."""
        prefix, _, name = key.partition(":")
        return self.root / prefix / name

    def spoken(self, language: str) -> list[str]:
        """Keys of the spoken item descriptions in one language, sorted; of equal files the first, no letter names."""
        folder = self.root / "tuxpaint"
        if "tuxpaint-stamps-default" not in self.packages:
            return []
        unique: dict[str, str] = {}
        for path in sorted(folder.rglob(f"*_desc_{language}.ogg")):
            name = path.relative_to(folder)
            if name.parts[0] != "symbols":
                unique.setdefault(sha256_file(path), f"tuxpaint:{name}")
        return list(unique.values())


def fetch_recordings(work_dir: Path, mode: str) -> Recordings:
    """Download and unpack what is not there yet.

    Args:
        work_dir: keeps `recordings/<prefix>/` and its `<prefix>.version`.
        mode: "apt" (fail without), "auto" (fall back to the engines) or "pip" (engines only).

    Returns:
        What is there. With "pip" nothing is used, whatever the folder holds.

    Raises:
        UserError: mode "apt" and a package cannot be had.
    """
    root = work_dir / "recordings"
    if mode == "pip":
        return Recordings(root)
    missing = [prefix for prefix in PACKAGES if not (root / f"{prefix}.version").is_file()]
    if missing:
        try:
            _download(work_dir, root, missing)
        except (UserError, OSError, subprocess.SubprocessError) as error:
            if mode == "apt":
                raise UserError(f"real recordings: {error}; try --recordings auto") from error
            reason = " ".join(str(error).split())
            print(
                f"WARNING: REAL RECORDINGS ARE MISSING ({reason}); the speech and music engines stand in",
                file=sys.stderr,
            )
    done = {prefix: root / f"{prefix}.version" for prefix in PACKAGES}
    return Recordings(root, {PACKAGES[p][0]: v.read_text().strip() for p, v in done.items() if v.is_file()})


def _download(work_dir: Path, root: Path, prefixes: list[str]) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UserError(f"{tool} is not on this machine")
    root.mkdir(parents=True, exist_ok=True)
    lists = work_dir / "apt" / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-q", "-o", f"Dir::State::Lists={lists.resolve()}", "-o", f"Dir::Cache={lists.parent.resolve()}"]
    options += ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"]
    _apt([*options, "update"], work_dir)
    for prefix in prefixes:
        package, folder = PACKAGES[prefix]
        with tempfile.TemporaryDirectory(dir=work_dir) as temporary:
            _apt([*options, "download", package], Path(temporary))
            archive = next(Path(temporary).glob(f"{package}_*.deb"), None)
            if archive is None:
                raise UserError(f"apt-get download {package} delivered no file")
            _unpack(archive, folder, root / prefix)
        (root / f"{prefix}.version").write_text(archive.name.split("_")[1].replace("%3a", ":") + "\n")


def _apt(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(
        ["apt-get", *arguments], cwd=folder, capture_output=True, text=True, timeout=APT_TIMEOUT, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise UserError(f"apt-get {arguments[-1]}: {lines[-1]}")


def _unpack(archive: Path, folder: str, target: Path) -> None:
    """Keep the audio files of one folder of a package."""
    unpacked = archive.parent / "unpacked"
    subprocess.run(
        ["dpkg-deb", "-x", str(archive), str(unpacked)], check=True, capture_output=True, timeout=APT_TIMEOUT
    )
    partial = target.with_name(f"{target.name}.partial")
    for stale in (partial, target):
        shutil.rmtree(stale, ignore_errors=True)
    for path in sorted((unpacked / folder).rglob("*")):
        if path.suffix in AUDIO_SUFFIXES and path.is_file():
            kept = partial / path.relative_to(unpacked / folder)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, kept)
    partial.rename(target)


@functools.lru_cache(maxsize=512)
def load_recording(path: Path) -> np.ndarray:
    """Read one recording.

    Args:
        path: wav, mp3, ogg or flac.

    Returns:
        (samples,) float32 mono at 16 kHz, silence at both ends removed.
    """
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = resample_poly(mono, SAMPLE_RATE, rate).astype(np.float32)
    return trim(mono)


def trim(samples: np.ndarray, floor_db: float = -45.0) -> np.ndarray:
    """Remove what lies `floor_db` under the loudest sample at both ends; (samples,) in and out."""
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max(initial=0.0) * 10 ** (floor_db / 20))
    return samples[loud[0] : loud[-1] + 1] if loud.size else samples[:0]
