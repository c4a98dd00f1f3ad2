"""Settings of an operator: environment variables named RAD3D_<FIELD>, nothing else.

``Settings.from_env()`` is read once by a front end and handed down; no module reads the environment
on its own.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from rad3d.core.errors import BadRequest

ROOT = Path(__file__).resolve().parents[2]

FOR_TESTS = ("RAD3D_SHARED", "RAD3D_TEST_")
"""Variables that begin so are read by the tests (tests/conftest.py), not by the software."""

HOSTED = {
    "RAD3D_HOST": "GRADIO_SERVER_NAME",
    "RAD3D_PORT": "GRADIO_SERVER_PORT",
    "RAD3D_ROOT_PATH": "GRADIO_ROOT_PATH",
    "RAD3D_ZERO_GPU": "SPACES_ZERO_GPU",
    "RAD3D_SPACE": "SPACE_ID",
}
"""Variables that Hugging Face Spaces and other hosts of Gradio apps set; RAD3D_* overrides them."""


@dataclass(frozen=True)
class Settings:
    """Limits and places.

    Attributes:
        models_dir: shipped and trained models.
        runs_dir: training runs, caches and evaluation results.
        work_dir: private temporary directory of the app (uploads), wiped at start.
        host, port: where the app listens.
        max_upload_mb: largest accepted upload.
        max_voxels: largest accepted volume, in voxels after decompression.
        feature_cache_mb: memory for features and volumes of the sessions.
        model_cache_mb: memory for loaded models; -1 is half of what the machine has.
        session_minutes: how long an idle session is kept.
        queue_size: how many people may wait.
        threads: CPU threads for torch; 0 is one for small language models, and for large ones and
            encoders as many as cores are free (OMP_NUM_THREADS, where it is set).
        default_variant: chosen when the app opens.
        metrics_python: interpreter with the packages of metrics that cannot live in this one's
            environment (green_score, radgraph, RaTEScore); empty for this one.
        device: of language models and encoders: ``"auto"`` (a GPU with CUDA, or else the CPU),
            ``"cpu"``, ``"cuda"``, ``"mps"``, ...
        precision: of the language models: ``"auto"`` (by memory and device), ``"float32"``,
            ``"bf16"``, ``"float16"``, ``"8bit"`` or ``"4bit"``.
        hub_url: a mirror of the hub to fetch language models from; empty is HF_ENDPOINT, or else
            the public hub.
        offline: 1 forbids downloads, as HF_HUB_OFFLINE does.
        variants: ids of the variants that are offered, separated by commas, ``*`` allowed, such as
            ``phantom-*``; empty offers all.
        root_path: where the app lies behind a reverse proxy, such as ``/rad3d``.
        owner_link: ``"auto"``, ``"on"`` or ``"off"``: whether the app prints a link with a secret,
            and who opens it may do all that the person at this machine may: see every evaluation,
            read any path, without limits. ``"auto"`` is on where the app listens on this machine
            alone, without a login and without a root path.
        login: ``name:password``, several separated by commas; empty lets everybody in.
        metrics_token: who sends it as a bearer token may read ``/metrics``; empty is nobody.
        grace_seconds: when the server is stopped, how long running reports may take to finish.
        log: ``"text"`` or ``"json"``, one line for each event on stderr.
        zero_gpu: 1 where a GPU is lent for each report, as ZeroGPU of Hugging Face Spaces, which
            says so itself.
        visitor_cases, visitor_resamples: limits of an evaluation by a visitor who is not the owner:
            cases of each sample set, and bootstrap resamples.
        data_dir: folder of data sets that visitors may evaluate by path; the owner needs none.
        space: id of the Hugging Face Space that this is, which says so itself; empty elsewhere. The
            disk of a Space is lost when it restarts.
        ratings_file: file of the reader studies; empty is ``readers.sqlite`` in ``runs_dir``.
        ratings_dataset: private dataset on the hub to which a server copies that file every few
            minutes, such as ``owner/ratings``; empty copies it nowhere.
    """

    models_dir: Path = ROOT / "assets" / "models"
    runs_dir: Path = ROOT / "runs"
    work_dir: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "rad3d")
    host: str = "127.0.0.1"
    port: int = 7860
    max_upload_mb: int = 400
    max_voxels: int = 512 * 512 * 1200
    feature_cache_mb: int = 2048
    model_cache_mb: int = -1
    session_minutes: int = 30
    queue_size: int = 32
    threads: int = 0
    default_variant: str = "phantom-l/v3"
    metrics_python: str = ""
    device: str = "auto"
    precision: str = "auto"
    hub_url: str = ""
    offline: bool = False
    variants: str = ""
    root_path: str = ""
    owner_link: str = "auto"
    login: str = field(default="", repr=False)
    metrics_token: str = field(default="", repr=False)
    grace_seconds: int = 20
    log: str = "text"
    zero_gpu: bool = False
    visitor_cases: int = 1000
    visitor_resamples: int = 2000
    data_dir: str = ""
    space: str = ""
    ratings_file: str = ""
    ratings_dataset: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings with RAD3D_* variables applied; unknown ones are told on stderr, once each."""
        env = dict(os.environ if environ is None else environ)
        for key, hosted in HOSTED.items():
            if hosted in env:
                env.setdefault(key, env[hosted])
        for problem in unknown_variables(env):
            _tell(problem)
        by_variable = {_variable(f.name): f for f in fields(cls)}
        values = {
            by_variable[key].name: _parse(key, text, str(by_variable[key].type))
            for key, text in env.items()
            if key in by_variable
        }
        return cls(**values)  # type: ignore[arg-type]

    @property
    def has_owner_link(self) -> bool:
        """Whether there is a link for the person who started the app; raises BadRequest."""
        if self.owner_link not in ("auto", "on", "off"):
            raise BadRequest(f"RAD3D_OWNER_LINK must be auto, on or off, not {self.owner_link!r}.")
        public = self.login or self.root_path or self.zero_gpu or not is_loopback(self.host)
        return self.owner_link == "on" or (self.owner_link == "auto" and not public)

    @property
    def ratings_path(self) -> Path:
        """The file of the reader studies."""
        named = self.ratings_file
        return Path(named).expanduser().resolve() if named else self.runs_dir / "readers.sqlite"

    @property
    def keeps_ratings(self) -> bool:
        """Whether ratings outlive a restart: on a Space only where the operator provides for it."""
        return not self.space or bool(self.ratings_file or self.ratings_dataset)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unknown_variables(env: Iterable[str]) -> list[str]:
    """A sentence for each RAD3D_ variable that is no setting, with the nearest that is one."""
    names = [_variable(f.name) for f in fields(Settings)]
    problems = []
    for key in env:
        if key.startswith("RAD3D_") and not key.startswith(FOR_TESTS) and key not in names:
            near = get_close_matches(key, names, n=1)
            hint = f"; {near[0]} is" if near else ""
            problems.append(f"The environment variable {key} is not a setting{hint}.")
    return problems


def _variable(field_name: str) -> str:
    return f"RAD3D_{field_name.upper()}"


@cache
def _tell(problem: str) -> None:
    sys.stderr.write(f"rad3d: {problem} It has no effect.\n")


def _parse(key: str, text: str, kind: str) -> object:
    if kind == "Path":
        return Path(text).expanduser().resolve()
    if kind == "int":
        try:
            return int(text)
        except ValueError:
            raise BadRequest(f"{key} must be a whole number, not {text!r}.") from None
    if kind == "bool":
        if text.lower() not in ("0", "1", "false", "true"):
            raise BadRequest(f"{key} must be 0 or 1, not {text!r}.")
        return text.lower() in ("1", "true")
    return text
