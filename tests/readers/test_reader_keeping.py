"""Ratings of a server whose disk is lost: fetched from a dataset, copied to it, never overwritten.

The hub is a stand-in for the calls that the real client would make; no request leaves here.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError
from study_of_readers import answer_to, small_design

from rad3d.core.settings import Settings
from rad3d.readers.keeping import NAME, NOT_KEPT, kept_ratings
from rad3d.readers.store import RatingStore

DATASET = "owner/ratings"


class FakeDataset(HfApi):
    """A dataset in a folder.

    Attributes:
        commits: how many there were.
        down: what every call raises, if anything.
        private: as which the dataset was made.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.commits = folder, 0
        self.down: Exception | None = None
        self.private: bool | None = None
        folder.mkdir()

    def _check(self) -> None:
        if self.down is not None:
            raise self.down

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        """Make the dataset, if need be."""
        self._check()
        assert options["repo_type"] == "dataset"
        self.private = options["private"]
        return SimpleNamespace(repo_id=repo_id)

    def hf_hub_download(self, repo_id: str, filename: str, **options: Any) -> str:  # type: ignore[override]
        """Copy the file to where it is wanted."""
        self._check()
        if not (self.folder / filename).is_file():
            raise EntryNotFoundError("none")
        return str(shutil.copy(self.folder / filename, options["local_dir"]))

    def create_commit(self, repo_id: str, operations: Any, **options: Any) -> Any:  # type: ignore[override]
        """Take what is committed."""
        self._check()
        for each in operations:
            with each.as_file() as stream:
                (self.folder / each.path_in_repo).write_bytes(stream.read())
        self.commits += 1


@pytest.fixture
def hub(tmp_path: Path) -> FakeDataset:
    return FakeDataset(tmp_path / "hub")


def space(folder: Path) -> Settings:
    """Settings of a Space with a disk of its own."""
    return replace(Settings(), runs_dir=folder, space="owner/app", ratings_dataset=DATASET)


def never() -> None:
    raise AssertionError("a copy failed")


def rate(store: RatingStore) -> None:
    study, _ = store.create(small_design())
    reader = store.reader(study, store.join(study))
    store.save(study, reader, 0, answer_to(store.screens(study, reader)[0]), 0)


def test_ratings_outlive_the_disk_of_a_space(hub: FakeDataset, tmp_path: Path) -> None:
    first, second = space(tmp_path / "one"), space(tmp_path / "two")
    with kept_ratings(first, never, hub) as trouble:
        assert trouble == ""
        rate(RatingStore(first.ratings_path))
    assert hub.private is True
    shutil.rmtree(tmp_path / "one")
    with kept_ratings(second, never, hub) as trouble:
        assert trouble == ""
        store = RatingStore(second.ratings_path)
        assert store.study("latest").rated == 1
        rate(store)
    kept = RatingStore(hub.folder / NAME)
    assert [study.rated for study in kept.studies()] == [1, 1]


def test_what_did_not_change_is_not_committed_again(hub: FakeDataset, tmp_path: Path) -> None:
    settings = space(tmp_path / "runs")
    rate(RatingStore(settings.ratings_path))
    with kept_ratings(settings, never, hub):
        pass
    once = hub.commits
    with kept_ratings(settings, never, hub):
        pass
    assert (once, hub.commits) == (1, 2), "one at each start, none at an end without a change"


@pytest.mark.parametrize(
    "down",
    [
        HTTPError("no route"),
        LocalEntryNotFoundError("the hub was not reached"),
        OSError("offline"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_told_and_not_written_over(
    hub: FakeDataset, tmp_path: Path, down: Exception
) -> None:
    (hub.folder / NAME).write_bytes(b"ratings of months")
    hub.down = down
    settings = space(tmp_path / "runs")
    with kept_ratings(settings, never, hub) as trouble:
        assert "cannot keep ratings" in trouble
        assert "RAD3D_RATINGS_DATASET" in trouble
        hub.down = None
    assert hub.commits == 0
    assert (hub.folder / NAME).read_bytes() == b"ratings of months"


def test_a_damaged_copy_is_told_and_stays(hub: FakeDataset, tmp_path: Path) -> None:
    (hub.folder / NAME).write_bytes(b"no database" * 1000)
    settings = space(tmp_path / "runs")
    with kept_ratings(settings, never, hub) as trouble:
        assert "cannot keep ratings" in trouble
    assert not settings.ratings_path.exists()
    assert hub.commits == 0


def test_a_copy_that_fails_is_reported_and_tried_again(hub: FakeDataset, tmp_path: Path) -> None:
    settings = space(tmp_path / "runs")
    failures: list[int] = []
    with kept_ratings(settings, lambda: failures.append(1), hub):
        rate(RatingStore(settings.ratings_path))
        hub.down = HTTPError("no route")
    assert failures, "the copy at the end"
    hub.down = None
    with kept_ratings(settings, never, hub):
        pass
    assert RatingStore(hub.folder / NAME).study("latest").rated == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [(Settings(), ""), (Settings(space="owner/app"), NOT_KEPT)],
)
def test_without_a_dataset_no_hub_is_asked(settings: Settings, told: str) -> None:
    with kept_ratings(settings, never) as trouble:
        assert trouble == told
