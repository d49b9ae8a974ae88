"""Finished records from disk, and which of them are the same but for the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.experiments import records
from hyperverify.experiments.arrays import read_arrays
from hyperverify.experiments.claims.claim import rank
from hyperverify.experiments.claims.criteria import Source
from hyperverify.experiments.records import Experiment
from hyperverify.experiments.registry import EXPERIMENTS


@dataclass(frozen=True)
class Group:
    """Records that differ in the seed only.

    Attributes:
        experiment, preset: of all.
        data: what they were run on, in words.
        readings: those that are not the default, name and value.
        sources: the records, by seed.
    """

    experiment: str
    preset: str
    data: str
    readings: tuple[tuple[str, str], ...]
    sources: tuple[Source, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(source.record.seed for source in self.sources)

    @property
    def seed_words(self) -> str:
        """``seed 0``, ``2 seeds (0, 1)``."""
        seeds = ", ".join(map(str, self.seeds))
        return f"{len(self.seeds)} seeds ({seeds})" if len(self.seeds) > 1 else f"seed {seeds}"

    @property
    def words(self) -> str:
        """What was run: scale, data, seeds, readings."""
        words = f"{self.experiment}, preset {self.preset}, {self.seed_words}; {self.data}"
        if self.readings:
            words += "; reading " + ", ".join(f"{name}={value}" for name, value in self.readings)
        return words


def read_source(folder: str) -> Source:
    """A finished record with its arrays.

    Args:
        folder: that holds ``experiment.json`` and ``arrays.npz``, or the first of the two.

    Raises:
        HyperverifyError: one is missing, cut off, altered, or they do not belong together.
    """
    if not folder.strip():
        raise BadArgument("FOLDER", folder, "the folder of a finished experiment")
    home = Path(folder)
    record = records.read_record(home)
    if not home.is_dir():
        home = home.parent
    path = home / records.ARRAYS_NAME  # not what the record names: that may lead anywhere
    arrays = read_arrays(path)
    seen = hashlib.sha256(path.read_bytes()).hexdigest()
    if seen != record.arrays.sha256:
        raise HyperverifyError(
            f"{path} has SHA-256 {seen[:12]}...; allowed: {record.arrays.sha256[:12]}..., which its "
            f"{records.FILE_NAME} names"
        )
    if record.experiment not in EXPERIMENTS:
        allowed = "a record of " + ", ".join(EXPERIMENTS)
        raise BadArgument("FOLDER", f"{folder} of {record.experiment}", allowed)
    return Source(folder, record, arrays)


def read_sources(folders: Sequence[str]) -> list[Source]:
    """All of them.

    Raises:
        HyperverifyError: one cannot be used, or two are of the same run.
    """
    found = [read_source(folder) for folder in folders]
    seen: dict[object, str] = {}
    for source in found:
        key = (_key(source.record), source.record.seed)
        if key in seen:
            allowed = f"each run once ({seen[key]} has the same settings and seed)"
            raise BadArgument("FOLDER", source.name, allowed)
        seen[key] = source.name
    return found


def chosen_readings(record: Experiment) -> tuple[tuple[str, str], ...]:
    """The readings that are not the default."""
    known = EXPERIMENTS[record.experiment].readings
    return tuple(
        (reading.name, reading.value)
        for reading in record.readings
        if reading.name and known.get(reading.name, ("",))[0] != reading.value
    )


def _key(record: Experiment) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    return record.experiment, record.preset, record.data.description, chosen_readings(record)


def grouped(sources: Sequence[Source]) -> list[Group]:
    """The records by what they share but for the seed: default readings first, then the largest scale,
    then the most seeds.
    """
    found: dict[tuple[str, str, str, tuple[tuple[str, str], ...]], list[Source]] = {}
    for source in sources:
        found.setdefault(_key(source.record), []).append(source)
    groups = [
        Group(*key, tuple(sorted(members, key=lambda source: source.record.seed)))
        for key, members in found.items()
    ]
    return sorted(groups, key=lambda g: (bool(g.readings), -rank(g.preset), -len(g.sources)))
