"""Write the report of one scan.

SCAN is a NIfTI file (.nii, .nii.gz) or a zipped DICOM series. The report goes to stdout;
progress and warnings go to stderr. A file that cannot be read ends with one sentence and status 1,
and so does a scan that shows no chest, unless --force is given.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rad3d.commands import say
from rad3d.commands.options import (
    add_device_options,
    add_generation_options,
    generation_options,
    with_device_options,
)
from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.files import existing_file
from rad3d.core.language_models import language_model
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.variant_ids import variant_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rad3d.core.types import Event, Report
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session

EXAMPLE = """
rad3d report scan.nii.gz
rad3d report scan.nii.gz --variant phantom-m/v3 --json > report.json
rad3d report scan.nii.gz --set "Pleural effusion=0.9" --set Cardiomegaly=0
rad3d report scan.nii.gz --page report.html --fhir report.fhir.json
rad3d report scan.nii.gz --strategy sample --temperature 0.7 --seed 3
rad3d report train_1_a_1.nii.gz --metadata train_metadata.csv
rad3d report scan.nii.gz --llm meta-llama/Llama-3.2-1B --mode v3 --precision 8bit
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d report``."""
    parser.add_argument("scan", metavar="SCAN", type=Path, help="the scan to report on")
    parser.add_argument(
        "--variant",
        metavar="ID",
        help="LLM/mode as listed by `rad3d variants` (default: the app's default variant)",
    )
    parser.add_argument(
        "--llm", metavar="NAME", help="in place of --variant: its LLM, a hub id or a directory too"
    )
    parser.add_argument(
        "--mode", choices=list(MODES), default="v3", help="with --llm (default: %(default)s)"
    )
    parser.add_argument(
        "--metadata", metavar="CSV", type=Path,
        help="CT-RATE's metadata table with a row for the scan: its spacing and orientation count, "
        "and its slope and intercept where the values are not in HU yet",
    )  # fmt: skip
    parser.add_argument(
        "--set", metavar="FINDING=P", dest="edited", action="append", default=[],
        help="write from a diagnosis in which this finding has probability P; may be repeated",
    )  # fmt: skip
    add_device_options(parser)
    parser.add_argument(
        "--json", action="store_true", help="print text, diagnosis and provenance as JSON"
    )
    parser.add_argument(
        "--page", metavar="FILE", type=Path,
        help="also write the report as one HTML page to print, with key slices of the findings",
    )  # fmt: skip
    parser.add_argument(
        "--fhir", metavar="FILE", type=Path,
        help="also write it as a preliminary DiagnosticReport of FHIR R4",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="write a report even where it would mean nothing"
    )
    add_generation_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open, generate, print."""
    options = generation_options(args)
    settings = with_device_options(Settings.from_env(), args)
    variant = _variant(args, settings)
    existing_file(args.scan)
    for path in filter(None, (args.page, args.fhir)):
        if path.is_dir():
            raise BadRequest(f"{path} is a folder.", "Name the file to write.", code="bad_option")

    from rad3d.core.edits import parsed_edits
    from rad3d.core.types import NOT_REPORTED
    from rad3d.reports.export import report_json, report_text
    from rad3d.service.service import Service
    from rad3d.volume.ctrate import MetadataTable

    edited = parsed_edits(args.edited)
    metadata = MetadataTable(args.metadata).row(args.scan.name) if args.metadata else None
    service = Service(settings)
    session = service.sessions.new()
    cancel = threading.Event()
    try:
        volume = service.open_path(session, args.scan, args.scan.name, metadata)
        for note in volume.warnings:
            say(f"warning: {note.text}")
        events = service.generate(session, variant, options, cancel, args.force, edited)
        report = _follow(events)
        _write_files(args, service, session, report)
    except BadVolume as error:
        if error.code not in NOT_REPORTED:
            raise
        raise BadVolume(error.problem, "Add --force to write one anyway.", error.code) from None
    finally:
        cancel.set()
        service.sessions.end(session)
    early_warnings = {note.text for note in volume.warnings}
    later = (note.text for note in report.notes if note.level == "warning")
    for text in dict.fromkeys(later):
        if text not in early_warnings:
            say(f"warning: {text}")
    print(report_json(report) if args.json else report_text(report), end="")
    return 0


def _write_files(
    args: argparse.Namespace, service: Service, session: Session, report: Report
) -> None:
    """Write what ``--page`` and ``--fhir`` ask for."""
    from rad3d.core.files import write_whole
    from rad3d.reports.fhir import report_fhir
    from rad3d.ui.report.page import report_page

    if args.page:
        write_whole(args.page, report_page(service, session))
    if args.fhir:
        write_whole(args.fhir, report_fhir(report).encode())


def _variant(args: argparse.Namespace, settings: Settings) -> str:
    if args.llm and args.variant:
        raise BadRequest("--llm and --variant exclude each other.", code="bad_option")
    if args.llm:
        return variant_id(language_model(args.llm).id, args.mode)
    return str(args.variant or settings.default_variant)


def _follow(events: Iterator[Event]) -> Report:
    """Tell the stages on stderr until the report is done."""
    from rad3d.core.types import DoneEvent, StageEvent

    report: Report | None = None
    for event in events:
        if isinstance(event, StageEvent):
            say(f"{event.fraction:4.0%} {event.stage}")
        elif isinstance(event, DoneEvent):
            report = event.report
    if report is None:
        raise BadRequest("The run ended without a report.", "Try again.", code="no_report")
    return report
