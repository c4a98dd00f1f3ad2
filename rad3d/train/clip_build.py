"""The stages of ``rad3d demo build`` that make the encoder whose embedding comes from reports."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.model.encoders.noise import FILE as NOISE_FILE
from rad3d.model.encoders.phantom_clip import ClipNetwork, scan_planes
from rad3d.model.encoders.phantom_cnn import ConvEncoder
from rad3d.train.clip_finish import Features, encode_planes, finish_clip, read_out
from rad3d.train.demo_plan import DemoPlan
from rad3d.train.loop import Progress
from rad3d.train.phantoms import PhantomArrays, Split, build_split, rendered
from rad3d.train.stage import PHANTOM_SECONDS, Stage

CLIP_ENCODER = "phantom-clip"

STEP_SECONDS = 1.3
ENCODE_SECONDS = 0.2
CONTRAST_STEP_SECONDS = 0.25


class ClipBuild:
    """Stages of the second encoder.

    Args:
        plan: what to make.
        models_dir: receives the encoder.
        run_dir: receives planes, features and checkpoints.
        jobs: worker processes for phantoms.
        progress: receives lines.
        start: gives the trained network of the first encoder.
    """

    def __init__(
        self,
        plan: DemoPlan,
        models_dir: Path,
        run_dir: Path,
        jobs: int,
        progress: Progress,
        start: Callable[[], ConvEncoder],
    ) -> None:
        self.plan, self.jobs, self.progress, self._start = plan, jobs, progress, start
        self._models_dir, self._run = models_dir, run_dir / "clip"
        self.encoder_dir = models_dir / ENCODERS[CLIP_ENCODER].source

    def stages(self) -> Iterator[Stage]:
        """All stages in order."""
        plan, training = self.plan, self.plan.clip_training
        rendering = (PHANTOM_SECONDS + 0.3) / self.jobs / 60
        yield Stage(
            "clip:planes",
            lambda: (self._run / "planes.done").is_file() or self._is_there(),
            self._planes,
            plan.clip_split.n * rendering,
        )
        yield Stage(
            "clip:trunk",
            lambda: self._trunk_file.is_file() or self._is_there(),
            self._train_trunk,
            training.steps * STEP_SECONDS / 60,
        )
        yield Stage(
            "clip:cells",
            lambda: self._file(plan.clip_split).is_file() or self._is_there(),
            self._encode_planes,
            plan.clip_split.n * ENCODE_SECONDS / 60,
        )
        yield Stage(
            "clip:readout",
            lambda: self._readout_file.is_file() or self._is_there(),
            self._train_readout,
            training.contrast.steps * CONTRAST_STEP_SECONDS / 60,
        )
        for split in plan.splits[1:]:
            yield Stage(
                f"clip:features:{split.name}",
                self._file(split).is_file,
                partial(self._encode, split),
                split.n * (rendering + ENCODE_SECONDS / 60),
            )
        yield Stage("clip:calibration", self._is_there, self._finish, 0.2)

    def features(self, split: Split) -> Features:
        """The features of a split with their embeddings, as ``pooled`` (N, 1, D)."""
        with np.load(self._file(split)) as file:
            found = {name: file[name] for name in file.files}
        return found | {"pooled": read_out(self._network(), found.pop("cells"))[:, None]}

    def _is_there(self) -> bool:
        return (self.encoder_dir / "config.json").is_file()

    @property
    def _trunk_file(self) -> Path:
        return self._run / "trunk.pt"

    @property
    def _readout_file(self) -> Path:
        return self._run / "readout.pt"

    def _file(self, split: Split) -> Path:
        return self._run / "features" / f"{split.name}.npz"

    def _planes(self) -> PhantomArrays:
        grid = self.plan.clip.grid
        found = build_split(
            self.plan.clip_split, grid, self._run / "planes", self.jobs, self.progress, planes=True
        )
        (self._run / "planes.done").touch()
        return found

    def _train_trunk(self) -> None:
        from rad3d.train.clip_training import train_trunk  # with MONAI, which loads slowly

        network, facts = train_trunk(
            self._planes(), self.plan.clip, self.plan.clip_training, self._run, self._start(),
            self.progress,
        )  # fmt: skip
        torch.save({"network": network.state_dict(), "facts": facts}, self._trunk_file)

    def _network(self) -> ClipNetwork:
        network = ClipNetwork(self.plan.clip)
        network.load_state_dict(torch.load(self._trunk_file, weights_only=True)["network"])
        if self._readout_file.is_file():
            network.readout.load_state_dict(torch.load(self._readout_file, weights_only=True))
        return network.eval()

    def _encode_planes(self) -> None:
        split = self.plan.clip_split
        self._keep(split, iter(self._planes().hu))

    def _encode(self, split: Split) -> None:
        volumes = (hu for hu, _ in rendered(split, self.plan.clip.grid, self.jobs))
        scans = (torch.from_numpy(hu.astype(np.float32)) / 1000 for hu in volumes)
        self._keep(split, (scan_planes(scan).numpy() for scan in scans))

    def _keep(self, split: Split, planes: Iterator[Any]) -> None:
        network = self._network()
        rows: list[Features] = []
        for each in planes:
            rows.append(encode_planes(network, each))
            if len(rows) % 100 == 0 or len(rows) == split.n:
                self.progress(f"features {split.name}: {len(rows)}/{split.n}", len(rows) / split.n)
        path = self._file(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        np.savez(path, **arrays)  # type: ignore[arg-type]

    def _train_readout(self) -> None:
        from rad3d.train.contrast import train_readout

        network, training = self._network(), self.plan.clip_training
        split = self.plan.clip_split
        with np.load(self._file(split)) as file:
            cells = file["cells"]
        train_readout(
            network.readout, cells, split.truths, self.plan.clip.embedding_dim,
            training.contrast_batch, training.contrast, self._run / "contrast", self.progress,
        )  # fmt: skip
        torch.save(network.readout.state_dict(), self._readout_file)

    def _finish(self) -> None:
        split = self.plan.calibration_split
        encoder = finish_clip(
            CLIP_ENCODER,
            self._network(),
            self.features(self.plan.paired_split)["novelty"],
            self.features(split),
            split.truths,
            split.name,
        )
        facts = torch.load(self._trunk_file, weights_only=True)["facts"]
        encoder.save_pretrained(self.encoder_dir, facts)
        noise = self._models_dir / ENCODERS[SHIPPED_ENCODER].source / NOISE_FILE
        shutil.copy(noise, self.encoder_dir / NOISE_FILE)
