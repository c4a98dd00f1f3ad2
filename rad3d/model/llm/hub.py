"""Find language models: in a local directory, the hub's cache, the hub or a mirror of it.

Only what a model needs is fetched: configuration, tokenizer, and weights as safetensors, or, where
a model has none, the older files, which are then read with ``weights_only``. Code is never fetched.
Whatever stands in the way ends in a sentence with the exact step to take.
"""

from __future__ import annotations

import io
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rad3d.core.errors import MissingWeights, Rad3dError
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.settings import Settings
from rad3d.core.words import byte_text
from rad3d.model.llm.folders import (
    ADAPTER_CONFIG,
    INDICES,
    PICKLED,
    SAFETENSORS,
    is_complete,
    no_model,
)

Progress = Callable[[str, float], None]
"""Called with a line of text and the fraction done in [0, 1]."""

SMALL_FILES = re.compile(r"[\w.-]+\.(json|txt|model|jinja)")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Hub:
    """The place that models are fetched from.

    Attributes:
        url: of a mirror; empty is ``HF_ENDPOINT``, or else the public hub.
        offline: True where nothing may be fetched, whatever the hub's own variables say.
    """

    url: str = ""
    offline: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Hub:
        """The hub that the operator's settings name."""
        return cls(settings.hub_url, settings.offline)

    @property
    def closed(self) -> bool:
        """True where nothing may be fetched."""
        return self.offline or offline()

    @property
    def address(self) -> str:
        """Base URL of the hub's web pages."""
        return (self.url or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def offline() -> bool:
    """True where the environment forbids downloads (the hub's own variables)."""
    flags = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(flag.upper() in {"1", "TRUE", "YES", "ON"} for flag in flags)


def pinned_revision(source: str) -> str | None:
    """The commit that the registry names for a hub id; None for others."""
    rows = (row for row in LANGUAGE_MODELS.values() if row.source == source)
    return next((row.revision for row in rows), None)


def find_local(source: str, models_dir: Path | None = None) -> Path | None:
    """The local directory that ``source`` names, or None where it must come from the hub."""
    places = [models_dir / source] if models_dir else []
    for place in (*places, Path(source).expanduser()):
        if (place / "config.json").is_file():
            return place
    return None


def find_cached(source: str, revision: str | None = None) -> Path | None:
    """A complete copy in the hub's cache; asks nobody."""
    from huggingface_hub import try_to_load_from_cache  # takes a while, not needed for local models
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(source, "config.json", revision=revision)
    except HFValidationError:
        return None
    folder = Path(path).parent if isinstance(path, str) else None
    return folder if folder and is_complete(folder) else None


def obtain(
    source: str,
    hub: Hub,
    *,
    models_dir: Path | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The directory of a language model, fetched where it is not here yet.

    Args:
        source: directory below ``models_dir``, any local directory, or a hub id.
        hub: where to fetch from.
        models_dir: shipped and trained models.
        revision: of a hub model; None is the registry's, or else the main branch.
        progress: told about a download.

    Raises:
        MissingWeights: with the step to take.
    """
    local = find_local(source, models_dir)
    if local:
        return local
    here = Path(source).expanduser()
    other = here.is_file() or (here / ADAPTER_CONFIG).is_file() or any(here.glob("*.gguf"))
    if source.startswith(("llms/", "variants/", "/", "~", ".")) or source.count("/") > 1 or other:
        raise missing(source)
    revision = revision or pinned_revision(source)
    cached = find_cached(source, revision)
    if cached:
        return cached
    if hub.closed:
        raise not_here(source)
    return _download(source, hub, revision, progress or (lambda text, fraction: None))


def not_here(source: str) -> MissingWeights:
    """The error for a source that is not on this machine while downloads are off."""
    return MissingWeights(
        f"{source} is not here, and downloads are off.",
        "Allow them (unset RAD3D_OFFLINE, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE), or put it into "
        f"a directory called {source}.",
        code="missing_weights",
    )


def missing(source: str) -> MissingWeights:
    """The error for a source that holds no language model."""
    if source.startswith(("llms/", "variants/")):
        ships = any(row.shipped and row.source == source for row in LANGUAGE_MODELS.values())
        own = f"Put its folder, or a link to it, at {source} in the models folder."
        return MissingWeights(
            f"There is no language model in {source}.",
            "Make it with: rad3d demo build" if ships or source[0] == "v" else own,
            code="missing_weights",
        )
    return no_model(source, Path(source).expanduser())


def get_command(source: str, revision: str | None = None, hub: Hub | None = None) -> str:
    """The command that fetches a model ahead of its use, from a mirror where one is set."""
    revision = revision or pinned_revision(source)
    mirror = f"HF_ENDPOINT={hub.url} " if hub and hub.url else ""
    return f"{mirror}hf download {source}" + (f" --revision {revision}" if revision else "")


def _download(source: str, hub: Hub, revision: str | None, progress: Progress) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    endpoint = hub.url or None
    try:
        info = HfApi(endpoint=endpoint).model_info(source, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = wanted_files(list(sizes))
        total = sum(sizes[name] for name in names)
        if not any(SAFETENSORS.fullmatch(n) or PICKLED.fullmatch(n) for n in names):
            what = "GGUF files" if any(name.endswith(".gguf") for name in sizes) else "an adapter"
            only = "gguf" in what.lower() or ADAPTER_CONFIG in sizes
            raise MissingWeights(
                f"{source} on {hub.address} holds no weights that can be read here"
                + (f", only {what}." if only else "."),
                "Choose the repository of the whole model, with safetensors files"
                + ("; or download a file and run: rad3d convert --gguf FILE" if only else "")
                + ".",
                code="missing_weights",
            )
        _check_disk(source, total)
        progress(f"Fetching {source} ({total / 1e9:.2f} GB)", 0.0)
        folder = snapshot_download(
            source,
            revision=revision,
            endpoint=endpoint,
            allow_patterns=names,
            tqdm_class=_bar(source, total, progress),
        )
    except Rad3dError:
        raise
    except (OSError, HTTPError, OfflineModeIsEnabled, HFValidationError) as error:
        raise explained(error, source, hub, revision) from error
    return Path(folder)


def wanted_files(names: list[str]) -> list[str]:
    """The files of a repository to download: configuration, tokenizer, and one kind of weights.

    Only the top folder is looked at: below it lie copies for other libraries.
    """
    weights = [n for n in names if SAFETENSORS.fullmatch(n)]
    weights = weights or [n for n in names if PICKLED.fullmatch(n)]
    index = INDICES[1] if weights and PICKLED.fullmatch(weights[0]) else INDICES[0]
    small = [n for n in names if SMALL_FILES.fullmatch(n) and n not in INDICES]
    return sorted({*small, *weights, *(n for n in names if n == index)})


def _check_disk(source: str, nbytes: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if nbytes > free:
        raise MissingWeights(
            f"{source} takes {byte_text(nbytes)} on disk, and {byte_text(free)} are free.",
            "Free space, or point HF_HOME to a larger disk.",
            code="disk_full",
        )


def _bar(source: str, total: int, progress: Progress) -> type[Any]:
    """A progress bar class that shows nothing and tells ``progress`` instead."""
    from huggingface_hub.utils import tqdm

    fraction_told = 0.0

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs |= {"disable": False, "file": io.StringIO()}
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal fraction_told
            shown = super().update(n)
            fraction = self.n / total if self.unit == "B" and total else 0.0
            if fraction >= fraction_told + 0.01 or fraction >= 1.0 > fraction_told:
                fraction_told = min(fraction, 1.0)
                done = f"{fraction_told * total / 1e9:.2f} of {total / 1e9:.2f} GB"
                progress(f"Fetching {source}, {done}", fraction_told)
            return shown

    return Bar


def explained(error: Exception, source: str, hub: Hub, revision: str | None) -> MissingWeights:
    """Turn an error of the hub into a sentence on its cause and the step to take."""
    from huggingface_hub import errors

    page = f"{hub.address}/{source}"
    get = get_command(source, revision, hub)
    if isinstance(error, errors.GatedRepoError):
        problem = f"{source} is gated: its owner wants its licence accepted first."
        remedy = f"Accept it at {page}, then run: hf auth login. Then: {get}"
    elif isinstance(error, errors.RevisionNotFoundError):
        problem = f"{source} on {hub.address} has no revision {revision}."
        remedy = "Check the revision, or whether the mirror is complete."
    elif isinstance(error, errors.RepositoryNotFoundError):
        problem = f"There is no model {source} on {hub.address}, or it is private."
        remedy = "Check the name; for a private one run: hf auth login"
    elif isinstance(error, errors.HFValidationError):
        problem = f"{source} is neither a local directory nor a hub id."
        remedy = "Use owner/name, or the path of a directory that has a config.json."
    elif isinstance(error, errors.HfHubHTTPError):
        problem = f"{hub.address} refused {source} ({error.response.status_code})."
        remedy = f"Try later, or: {get}"
    else:
        problem = f"{source} could not be fetched from {hub.address} ({type(error).__name__})."
        remedy = (
            "Check the connection, set RAD3D_HUB_URL to a mirror, or put the model into a "
            f"directory called {source}."
        )
    return MissingWeights(problem, remedy, code="missing_weights")


def with_progress(
    work: Callable[[Progress], Result],
) -> Generator[tuple[str, float], None, Result]:
    """Run ``work`` in a thread; yields what it tells, returns what it returns.

    Closing the generator stops the work at the next thing it tells.
    """
    steps: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    stop = threading.Event()

    def tell(text: str, fraction: float) -> None:
        if stop.is_set():
            raise InterruptedError("nobody waits for this any more")
        steps.put((text, fraction))

    pool = ThreadPoolExecutor(max_workers=1)
    running = pool.submit(work, tell)
    running.add_done_callback(lambda _: steps.put(_END))
    try:
        while (item := steps.get()) is not _END:
            yield item
    finally:
        stop.set()
        pool.shutdown(wait=False)
    return running.result()


_END = ("", 1.0)
