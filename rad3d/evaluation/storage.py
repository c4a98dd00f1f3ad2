"""Runs on disk: ``run.json``, and one compressed file with the results of each variant.

::

    <run>/run.json                  request, dates, revision, status, costs, verdicts, classifier
    <run>/sets.json.gz              cases of sets that do not ship
    <run>/systems/<group>.json.gz   scorecards and predictions of a variant with its ablations, of
                                    the baselines, or of a predictions file

Everything is written in one step, so that a half-written file is never seen.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rad3d.core.errors import BadRequest
from rad3d.core.files import write_whole
from rad3d.core.labels import LabelSet
from rad3d.core.locks import LOCK, is_locked
from rad3d.core.plain import from_plain, to_plain
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.samples import Dropped, Prediction, PredictionSet, SampleSet
from rad3d.evaluation.run_types import (
    EvaluationRequest,
    EvaluationRun,
    Key,
    RunSummary,
    Status,
    Verdict,
)
from rad3d.evaluation.shuffling import shuffled
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.classifier import ClassifierCard
from rad3d.metrics.scorecard import Scorecard, estimates_of

SCHEMA_ID = "rad3d-evaluation/1"
RUN_FILE = "run.json"
SETS_FILE = "sets.json.gz"
MAX_NAME = 80
"""Characters of a system's name in that of a file, which may have 255 with all that is added."""

_RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")


@dataclass(frozen=True)
class Outcome:
    """Scorecard and predictions of one system on one sample set."""

    predictions: PredictionSet
    card: Scorecard


def is_run_id(text: str) -> bool:
    """Return whether a text is a valid run id; keeps others out of paths."""
    return bool(_RUN_ID.fullmatch(text))


def save_group(directory: Path, group: str, outcomes: Iterable[Outcome]) -> None:
    """Write the systems of one group."""
    rows = [
        {"card": each.card.to_dict(findings=False), "predictions": _packed(each.predictions)}
        for each in outcomes
    ]
    _write_gz(_group_file(directory, group), rows)


def _group_file(directory: Path, group: str) -> Path:
    return directory / "systems" / f"{slug(group)}.json.gz"


def save_sets(directory: Path, sets: Iterable[SampleSet]) -> None:
    """Write the cases of sets that do not ship; the shipped ones follow from seeds."""
    own = [to_plain(each) for each in sets if each.id not in SAMPLE_SETS]
    if own:
        _write_gz(directory / SETS_FILE, own)


def save_run(run: EvaluationRun) -> None:
    """Write ``run.json``; groups and sets are written on their own."""
    if run.directory is None:
        return
    values = {
        "schema": SCHEMA_ID,
        "id": run.id,
        "title": run.title,
        "created": run.created,
        "revision": run.revision,
        "status": run.status,
        "request": to_plain(run.request),
        "sets": [
            {
                "id": s.id,
                "n": len(s.samples),
                "dropped": to_plain(s.dropped),
                "label_set": s.label_set.to_plain(),
            }
            for s in run.sample_sets.values()
        ],
        "systems": list(dict.fromkeys(system for system, _ in run.cards)),
        "costs": {name: dict(cost) for name, cost in run.costs.items()},
        "failed": dict(run.failed),
        "verdicts": to_plain(run.verdicts),
        "classifier": to_plain(run.classifier),
        "facts": dict(run.facts),
    }
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    # A path may hold halves of surrogate pairs.
    write_whole(run.directory / RUN_FILE, text.encode("utf-8", "surrogatepass"))


def copy_run(run: EvaluationRun, directory: Path) -> None:
    """Write a run's files into another folder, which keeps whatever else it holds."""
    if run.directory is None or run.directory.resolve() == directory.resolve():
        return
    directory.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(directory / "systems", ignore_errors=True)
    (directory / SETS_FILE).unlink(missing_ok=True)
    shutil.copytree(
        run.directory, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK)
    )


def read_summary(directory: Path) -> tuple[RunSummary, str]:
    """Read a run's row in the list, and its owner; raises BadRequest if there is none."""
    values = _read_run(directory)
    try:
        summary = RunSummary(
            id=values["id"],
            title=values["title"],
            created=values["created"],
            revision=values["revision"],
            status=_settled(values["status"], directory),
            sets=tuple(each["id"] for each in values["sets"]),
            systems=len(values["systems"]),
        )
        return summary, str(values["request"]["owner"])
    except (KeyError, TypeError) as error:
        raise _damaged(directory) from error


def read_run(directory: Path) -> EvaluationRun:
    """Read a whole run; raises BadRequest where files are damaged."""
    values = _read_run(directory)
    try:
        read = from_plain(list[SampleSet], _read_gz(directory / SETS_FILE, []))
        own = {each.id: each for each in read}
        sets = {row["id"]: _sample_set(row, own) for row in values["sets"]}
        outcomes = _read_outcomes(directory, sets)
        order = {name: i for i, name in enumerate(values["systems"])}
        keys = sorted(outcomes, key=lambda key: order.get(key[0], len(order)))
        return EvaluationRun(
            id=values["id"],
            title=values["title"],
            created=values["created"],
            revision=values["revision"],
            status=_settled(values["status"], directory),
            request=from_plain(EvaluationRequest, values["request"]),
            sample_sets=sets,
            cards={key: outcomes[key].card for key in keys},
            predictions={key: outcomes[key].predictions for key in keys},
            costs=values["costs"],
            failed=values["failed"],
            verdicts=from_plain(tuple[Verdict, ...], values["verdicts"]),
            classifier=from_plain(dict[str, ClassifierCard], values["classifier"]),
            facts=values["facts"],
            directory=directory,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(directory) from error


def read_figures(
    directory: Path, variant: str
) -> tuple[str, list[tuple[str, dict[str, Estimate], dict[str, Any]]]]:
    """Read a run's date, its figures by set and metric, and the facts of its texts.

    Only the variant's own file is read, and of that no case. Raises BadRequest where it is damaged.
    """
    created: str = _read_run(directory)["created"]
    try:
        rows = [
            (row["card"]["sample_set"], estimates_of(row["card"]), row["predictions"]["facts"])
            for row in _read_gz(_group_file(directory, variant), [])
            if row["card"]["name"] == variant
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(directory) from error
    return created, rows


def read_texts(
    directory: Path, variant: str, sample_set: str
) -> tuple[LabelSet, dict[str, PredictionSet]]:
    """Read the labels of a set, and what a variant wrote on it, also under its ablations.

    Only the variant's own file is read. Raises BadRequest where it is damaged.
    """
    values = _read_run(directory)
    try:
        labels = next(row.get("label_set") for row in values["sets"] if row["id"] == sample_set)
        texts = {
            row["card"]["name"]: PredictionSet(
                row["card"]["name"],
                sample_set,
                tuple(_prediction(*each) for each in row["predictions"].get("rows", ())),
                row["predictions"]["facts"],
            )
            for row in _read_gz(_group_file(directory, variant), [])
            if row["card"]["sample_set"] == sample_set
        }
        return LabelSet.from_plain(labels), texts
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise _damaged(directory) from error


def slug(name: str) -> str:
    """Turn a system's name into a file name: ``phantom-l/v3 -> phantom-l-v3``.

    What would lose more than that gets a hash, so that ``a b`` and ``a-b`` are two files.
    """
    plain = re.sub(r"[^A-Za-z0-9.+-]+", "-", name).strip("-.")
    if plain == name.replace("/", "-") and len(plain) <= MAX_NAME:
        return plain
    return f"{plain[:MAX_NAME] or 'system'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _damaged(directory: Path) -> BadRequest:
    return BadRequest(
        f"The files of the run {directory.name} are damaged.",
        "Delete its folder and run it again.",
        code="bad_run",
    )


def _settled(status: Status, directory: Path) -> Status:
    """Mark a run as interrupted if it is unfinished and no living process writes it."""
    return "interrupted" if status == "running" and not is_locked(directory) else status


def _read_run(directory: Path) -> dict[str, Any]:
    try:
        values = json.loads(
            (directory / RUN_FILE).read_text(encoding="utf-8", errors="surrogatepass")
        )
    except (OSError, ValueError) as error:
        raise BadRequest(f"There is no run {directory.name}.", code="no_run") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA_ID:
        raise BadRequest(f"{directory.name} is no run ({SCHEMA_ID}).", code="no_run")
    return values


def _read_outcomes(directory: Path, sets: Mapping[str, SampleSet]) -> dict[Key, Outcome]:
    outcomes: dict[Key, Outcome] = {}
    for path in sorted((directory / "systems").glob("*.json.gz")):
        for row in _read_gz(path, []):
            card = Scorecard.from_dict(row["card"])
            packed = row["predictions"]
            if "shuffled_from" in packed:  # written after the variant's own, in the same file
                source = outcomes[packed["shuffled_from"], card.sample_set].predictions
                predictions = shuffled(source, card.name, packed["facts"]["shuffle_seed"])
            else:
                ids = [sample.id for sample in sets[card.sample_set].samples]
                predictions = _unpacked(packed, card.name, card.sample_set, ids)
            outcomes[card.name, card.sample_set] = Outcome(predictions, card)
    return outcomes


def _packed(predictions: PredictionSet) -> dict[str, Any]:
    """Plain values; of shuffled predictions only what they were shuffled from."""
    facts = dict(predictions.facts)
    if facts.get("control") == "image-shuffled":
        return {"shuffled_from": predictions.name.rpartition("+")[0], "facts": facts}
    rows = [[p.id, p.text, p.failure, p.seconds, p.finish, p.seen] for p in predictions.predictions]
    return {"rows": rows, "facts": facts}


def _unpacked(
    packed: Mapping[str, Any], name: str, sample_set: str, ids: Iterable[str]
) -> PredictionSet:
    known = set(ids)
    rows = tuple(_prediction(*row) for row in packed["rows"] if row[0] in known)
    return PredictionSet(name, sample_set, rows, packed["facts"])


def _prediction(
    id_: str, text: str, failure: str, seconds: float | None, finish: str, seen: Any = None
) -> Prediction:
    """A stored row; those of earlier versions end before what the classifier saw."""
    known = None if seen is None else tuple(seen)
    return Prediction(id_, text, failure, seconds, finish, known)


def _sample_set(row: Mapping[str, Any], own: Mapping[str, SampleSet]) -> SampleSet:
    shipped = SAMPLE_SETS.get(row["id"])
    samples = shipped.sample_set(row["n"]) if shipped else own[row["id"]]
    samples = samples.labelled_by(LabelSet.from_plain(row.get("label_set")))
    return replace(samples, dropped=from_plain(tuple[Dropped, ...], row["dropped"]))


def _write_gz(path: Path, value: Any) -> None:
    """Compressed JSON; the same value gives the same bytes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    write_whole(path, gzip.compress(text.encode(), 9, mtime=0))


def _read_gz(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name} is damaged") from error
