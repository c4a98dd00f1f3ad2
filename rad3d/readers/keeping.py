"""Keeps ratings beyond the life of a server: a copy of their file in a private dataset on the hub.

At the start the file is fetched from the dataset where it is absent here, as on a Space that has
restarted. From then on it is copied there every few minutes if it has changed, and at the end.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as TookTooLong
from pathlib import Path
from typing import Any

from huggingface_hub import CommitScheduler, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from rad3d.core.errors import Rad3dError
from rad3d.core.settings import Settings
from rad3d.readers.store import RatingStore

NAME = "readers.sqlite"
"""Of the file in the dataset."""

MINUTES = 5.0
"""Between two copies; what a Space loses at most when it crashes."""

SECONDS_AT_THE_END = 30.0

NOT_KEPT = (
    "This Space cannot keep ratings: its disk is lost when it restarts. Its operator can name a "
    "dataset for them: RAD3D_RATINGS_DATASET."
)

FAILURES = (HTTPError, HFValidationError, OSError, Rad3dError)
"""What may go wrong between here and the hub."""


@contextlib.contextmanager
def kept_ratings(
    settings: Settings, on_failure: Callable[[], None], api: HfApi | None = None
) -> Iterator[str]:
    """Keep the ratings while this is open, and give the sentence why that is not possible.

    Args:
        settings: file and dataset.
        on_failure: called when a copy could not be made; the next one is tried all the same.
        api: of the hub.

    Yields:
        An empty text where ratings are kept. Where the dataset cannot be read, nothing is copied
        over what it may hold.
    """
    if not settings.keeps_ratings:
        yield NOT_KEPT
        return
    if not settings.ratings_dataset:
        yield ""
        return
    store, copies, trouble = RatingStore(settings.ratings_path), None, ""
    try:
        copies = _begin(store, settings.ratings_dataset, on_failure, api or HfApi())
    except FAILURES as error:
        trouble = (
            "This server cannot keep ratings: its dataset for them cannot be used "
            f"({type(error).__name__}). Its operator must check RAD3D_RATINGS_DATASET, and that "
            "HF_TOKEN may write there."
        )
    try:
        yield trouble
    finally:
        if copies is not None:
            copies.end()


def _begin(store: RatingStore, dataset: str, on_failure: Callable[[], None], api: HfApi) -> Copies:
    if not store.path.exists():
        _fetch(store.path, dataset, api)
    return Copies(store, dataset, on_failure, api)


def _fetch(path: Path, dataset: str, api: HfApi) -> None:
    """Fetch the file; a dataset that does not exist yet, or does not hold it, gives none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            found = api.hf_hub_download(dataset, NAME, repo_type="dataset", local_dir=folder)
        except LocalEntryNotFoundError:  # an EntryNotFoundError, but the hub was not reached
            raise
        except (EntryNotFoundError, RepositoryNotFoundError):
            return
        RatingStore(Path(found)).studies()  # a damaged file is told, and does not replace anything
        Path(found).chmod(0o600)
        Path(found).replace(path)


class Copies(CommitScheduler):
    """Commits a copy of the store to a dataset at regular intervals, where it has changed."""

    def __init__(
        self, store: RatingStore, dataset: str, on_failure: Callable[[], None], api: HfApi
    ) -> None:
        self._store, self._on_failure = store, on_failure
        self._copied = -1
        self._folder = tempfile.TemporaryDirectory(prefix="rad3d-ratings-")
        super().__init__(
            repo_id=dataset,
            repo_type="dataset",
            private=True,
            folder_path=self._folder.name,
            every=MINUTES,
            hf_api=api,
        )

    def push_to_hub(self) -> Any:
        """Copy the file as a whole and commit it; called by the scheduler."""
        changed = self._changed()
        try:
            if changed != self._copied:
                self._store.backup(Path(self._folder.name) / NAME)
            commit = super().push_to_hub()
        except FAILURES:
            self._on_failure()
            raise
        self._copied = changed
        return commit

    def end(self) -> None:
        """Copy once more and stop; a hub that does not answer is not waited for."""
        with contextlib.suppress(*FAILURES, TookTooLong):
            self.trigger().result(SECONDS_AT_THE_END)
        self.stop()
        self._folder.cleanup()

    def _changed(self) -> int:
        """Time of the last change; -1 where there is no file yet."""
        with contextlib.suppress(FileNotFoundError):
            return self._store.path.stat().st_mtime_ns
        return -1
