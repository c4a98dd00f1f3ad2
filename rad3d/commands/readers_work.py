"""The work behind ``rad3d readers``."""

from __future__ import annotations

import argparse

from rad3d.commands import print_json, print_table, say
from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.metrics.scorecard import MAX_RESAMPLES
from rad3d.readers.store import RatingStore
from rad3d.readers.types import Design


def _store() -> RatingStore:
    return RatingStore(Settings.from_env().ratings_path)


def new(args: argparse.Namespace) -> int:
    """Store a study and print its link."""
    options = {
        "cases": args.cases, "ids": args.ids, "per_case": args.per_case, "seed": args.seed,
        "title": args.title,
    }  # fmt: skip
    design = _design_of_files(args, options) if args.predictions else _design_of_run(args, options)
    study, secret = _store().create(design)
    say(
        f"study {study.id}: {study.cases} cases, {', '.join(study.systems)}; each reader rates "
        f"{study.total} reports"
    )
    say("The link is not shown again. It opens the study to whoever has it:")
    print(reader_link(args.address, secret))
    return 0


def _design_of_run(args: argparse.Namespace, options: dict[str, object]) -> Design:
    from rad3d.commands.eval_study import load_run, open_evaluations
    from rad3d.readers.make import design_of_run

    if not args.systems:
        raise BadRequest(
            "Name the systems to compare.",
            "Such as --systems phantom-l/v1 phantom-l/v3.",
            code="bad_systems",
        )
    run = load_run(open_evaluations(), args.source_run)
    return design_of_run(run, args.systems, args.set, **options)


def _design_of_files(args: argparse.Namespace, options: dict[str, object]) -> Design:
    from rad3d.data.sample_sets import load_sets
    from rad3d.data.spec import SetSpec
    from rad3d.readers.make import make_design

    specs = [SetSpec.parse(f"predictions:{text}") for text in args.predictions]
    sets, files = load_sets(specs)
    if len(sets) > 1:
        raise BadRequest(
            "The files have references of their own, so that each is a set of its own.",
            "Name one file of references behind each: ours.csv#references.csv.",
            code="bad_sets",
        )
    return make_design(next(iter(sets.values())), files, **options)  # type: ignore[arg-type]


def reader_link(address: str, secret: str) -> str:
    """Return the link that readers open; the address is that of the settings by default."""
    settings = Settings.from_env()
    if not address:
        root = settings.root_path
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        address = root if "://" in root else f"http://{host}:{settings.port}{root}"
    return f"{address.rstrip('/')}/read#{secret}"


def list_studies(args: argparse.Namespace) -> int:
    """Print the studies."""
    from rad3d.readers.report import title_of

    studies = _store().studies()
    if args.json:
        from rad3d.core.plain import to_plain

        print_json([to_plain(study) for study in studies])
        return 0
    rows = [
        (s.id, s.created[:10], str(s.cases), str(s.readers), f"{s.rated} of {s.readers * s.total}",
         " ".join(s.systems), title_of(s))
        for s in studies
    ]  # fmt: skip
    print_table(rows, ("study", "created", "cases", "readers", "rated", "systems", "title"))
    return 0


def link(args: argparse.Namespace) -> int:
    """Print a new link."""
    print(reader_link(args.address, _store().new_link(args.study)))
    say("The link before it opens nothing any more; readers go on with their codes.")
    return 0


def backup(args: argparse.Namespace) -> int:
    """Write the copy and print its path."""
    _store().backup(args.target)
    print(args.target)
    return 0


def delete(args: argparse.Namespace) -> int:
    """Delete a study, where the person has said so."""
    store = _store()
    study = store.study(args.study)
    held = f"{study.title} ({study.id}) with {study.rated} ratings"
    if not args.yes:
        raise BadRequest(f"This would delete {held}.", "Give --yes to do it.", code="unconfirmed")
    store.delete(study.id)
    say(f"deleted {held}")
    return 0


def results(args: argparse.Namespace) -> int:
    """Print the results of a study, and write them where the person wants them."""
    _check_resamples(args)
    return _print_results(_store(), args.study, args)


def simulate(args: argparse.Namespace) -> int:
    """Make a simulated study and print its results."""
    from rad3d.readers import simulate as simulation

    _check_resamples(args)
    store = _store()
    study = simulation.simulate(store, args.readers, args.cases, args.step, args.seed)
    say(f"study {study.id}, simulated: {store.path}")
    return _print_results(store, study.id, args)


def _check_resamples(args: argparse.Namespace) -> None:
    if not 1 <= args.resamples <= MAX_RESAMPLES:
        raise BadRequest(f"--resamples must lie between 1 and {MAX_RESAMPLES}.", code="bad_option")


def _print_results(store: RatingStore, study_id: str, args: argparse.Namespace) -> int:
    from rad3d.core.plain import to_plain
    from rad3d.readers import report
    from rad3d.readers.statistics import results_of

    study = store.study(study_id)
    ratings = store.ratings(study)
    found = results_of(study, ratings, args.resamples)
    if args.csv:
        args.csv.write_bytes(report.ratings_csv(found, ratings))
        say(f"ratings written to {args.csv}")
    if args.html:
        args.html.write_bytes(report.page(found))
        say(f"page written to {args.html}")
    if args.json:
        print_json(to_plain(found))
        return 0
    print("\n".join([report.title_of(study), *report.sentences(found)]))
    for table in report.tables(found):
        print(f"\n{table.title}")
        print_table(table.rows, table.head)
        print(table.note)
    return 0
