"""Language models from GGUF files, the format of llama.cpp, dequantised into folders.

The file may also come in pieces from installed Python packages, whose code is not run.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from rad3d import __version__
from rad3d.core.errors import BadRequest, CorruptWeights, DiskFull, MissingWeights, some
from rad3d.core.file_kind import GGUF, what_is
from rad3d.core.files import FullDiskTold, file_sha256, readable_like
from rad3d.core.language_models import LANGUAGE_MODELS, LanguageModel, folder_name
from rad3d.core.licences import NOTICE_FILE, notice, terms_among
from rad3d.core.origin import ORIGIN_FILE, folder_licence, package_files
from rad3d.core.words import byte_text
from rad3d.model.identity import weights_hash
from rad3d.model.llm.failures import plain_errors
from rad3d.model.llm.hub import Progress
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.loading import check_complete, plainly, read_config
from rad3d.model.llm.selftest import verify_causal

SUMS = "SHA256SUMS"
SHARD = "2GB"


@dataclass(frozen=True)
class Source:
    """A GGUF file, whole or in pieces, and what lies beside it.

    Attributes:
        name: of the whole file.
        pieces: its parts in order.
        beside: files of terms, model card and hashes.
        package: name and version of the Python package that holds it; empty for a file.
    """

    name: str
    pieces: tuple[Path, ...]
    beside: tuple[Path, ...]
    package: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return sum(path.stat().st_size for path in self.pieces)

    def expected_sha256(self) -> str:
        """The file's hash in the SHA256SUMS beside it; empty where there is none."""
        for path in (path for path in self.beside if path.name == SUMS):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                digest, _, name = line.partition(" ")
                if name.strip(" *") == self.name:
                    return digest.lower()
        return ""


@dataclass(frozen=True)
class Facts:
    """The facts that the head of a GGUF file states.

    Attributes:
        name: of the model.
        architecture: as llama.cpp calls it.
        licence: of the weights; empty where it is not stated.
        parameters: of all tensors.
        formats: of the tensors, such as ``("F32", "Q4_K")``.
    """

    name: str
    architecture: str
    licence: str
    parameters: int
    formats: tuple[str, ...]


def find_source(text: str) -> Source:
    """The GGUF file of a path, or that of an installed Python package.

    Raises:
        MissingWeights: neither; or the package or one of its parts is not installed.
        BadRequest: a file or package that holds none.
    """
    path = Path(text).expanduser()
    if path.is_file():
        if (kind := what_is(path)) is not GGUF:
            raise BadRequest(f"{path.name} is no GGUF file: it is {kind.what}.", kind.remedy)
        return Source(path.name, (path,), _beside(path.parent.iterdir()))
    if "/" in text or text.endswith(".gguf") or path.exists():
        problem = f"There is no GGUF file {text}."
        raise MissingWeights(problem, "Check the path.", code="missing_weights")
    return _packaged(text)


def _packaged(package: str) -> Source:
    """The GGUF file in a Python package and in those that it requires."""
    label, listed = package_files(package)
    pieces = sorted((p for p in listed if ".gguf" in p.name), key=lambda p: p.name)
    if not pieces:
        raise BadRequest(
            f"The package {package} holds no GGUF file.",
            "Install it again, or give the path of a file.",
            code="no_gguf",
        )
    name = pieces[0].name.partition(".gguf")[0] + ".gguf"
    return Source(name, tuple(pieces), _beside(listed), label)


def _beside(paths: Iterator[Path] | Sequence[Path]) -> tuple[Path, ...]:
    known = {path.name: path for path in paths if path.is_file()}
    cards = [name for name in known if name in (SUMS, "README.md", "README.upstream.md")]
    return tuple(known[name] for name in (*terms_among(known), *cards))


def convert(
    source: Source,
    models: Path,
    out: Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    replace: bool = False,
    progress: Progress,
) -> Path:
    """Write a language model as a folder that transformers and this software load.

    Args:
        source: the GGUF file.
        models: folder of language models that receives it under its name.
        out: another place for it.
        dtype: of the weights as they are stored; the file's own are quantised more coarsely.
        replace: overwrite what is there.
        progress: told about each stage.

    Returns:
        The folder, with configuration, tokenizer, weights, terms, and ``origin.json``.

    Raises:
        MissingWeights: the package ``gguf`` is not installed.
        CorruptWeights: the file is damaged, cut short, or not the one of the hash beside it.
        BadRequest: transformers cannot read its architecture, or it is no causal language model;
            or the folder is there already.
        DiskFull: there is no room.
    """
    if find_spec("gguf") is None:
        raise MissingWeights(
            "Reading GGUF files needs the package gguf, which is not installed.",
            "Run: pip install gguf==0.19.0",
            code="missing_package",
        )
    place = out.parent if out else models
    place.mkdir(parents=True, exist_ok=True)
    _check_room(place, source.nbytes if len(source.pieces) > 1 else 0)
    with FullDiskTold(), tempfile.TemporaryDirectory(prefix=".gguf-", dir=place) as temporary:
        progress(f"Checking {source.name} ({byte_text(source.nbytes)})", 0.0)
        file, digest = _assembled(source, Path(temporary))
        with _damage_told(source.name):
            facts = read_facts(file)
        target = out or models / _name(facts, source)
        if target.exists() and not replace:
            raise BadRequest(
                f"{target} is there already.",
                "Add --replace to overwrite it, or --out DIR for another place.",
                code="model_exists",
            )
        size = facts.parameters * torch.empty((), dtype=dtype).element_size()
        _check_room(place, size)
        progress(f"Dequantising {facts.parameters:,} parameters ({', '.join(facts.formats)})", 0.1)
        written = Path(temporary) / "folder"
        _write(file, written, facts, dtype, progress)
        _write_origin(written, source, digest, facts)
        progress(f"Wrote {byte_text(size)}", 0.95)
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            shutil.rmtree(target)
        written.rename(target)
    return target


def read_facts(file: Path) -> Facts:
    """What the head of a GGUF file says; the tensors are not read."""
    from gguf import GGUFReader

    reader = GGUFReader(file)

    def text(key: str) -> str:
        field = reader.get_field(f"general.{key}")
        return str(field.contents()) if field else ""

    formats = sorted({tensor.tensor_type.name for tensor in reader.tensors})
    parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    return Facts(
        text("name") or file.stem, text("architecture"), text("license"), parameters, tuple(formats)
    )


def _assembled(source: Source, temporary: Path) -> tuple[Path, str]:
    """The whole file and its SHA-256, compared with the one that lies beside it."""
    file = source.pieces[0]
    if len(source.pieces) > 1:
        file = temporary / source.name
        with file.open("wb") as whole:
            for piece in source.pieces:
                with piece.open("rb") as stream:
                    shutil.copyfileobj(stream, whole, 2**20)
    digest, expected = file_sha256(file), source.expected_sha256()
    if expected and digest != expected:
        raise CorruptWeights(
            f"{source.name} is not the file whose SHA-256 {SUMS} beside it gives.",
            "Install or download it again.",
            code="corrupt_weights",
        )
    return file, digest


def _name(facts: Facts, source: Source) -> str:
    """The id of the listed model that it is, or a name of its own."""
    name = folder_name(facts.name) or folder_name(Path(source.name).stem) or "model"
    return f"{name}-gguf" if name in LANGUAGE_MODELS and not _listed(facts) else name


def _listed(facts: Facts) -> LanguageModel | None:
    """The listed model of this name and size; some files hold a few constants besides."""
    row = LANGUAGE_MODELS.get(folder_name(facts.name))
    same = row is not None and abs(row.parameters - facts.parameters) <= 1e-4 * row.parameters
    return row if same else None


def _write(file: Path, out: Path, facts: Facts, dtype: torch.dtype, progress: Progress) -> None:
    """Configuration, tokenizer and weights, tried once."""
    from transformers.integrations.gguf import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = sorted({*GGUF_ARCHS, *GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"})
    if re.sub("[-_]", "", facts.architecture) not in (name.replace("_", "") for name in known):
        raise BadRequest(
            f"{facts.name} is of the architecture {facts.architecture or 'that it does not name'}, "
            "which transformers cannot read from GGUF.",
            f"It reads {some(known)}. Choose the repository with safetensors files.",
            code="unusable_model",
        )
    with plain_errors("convert it"), plainly(facts.name):
        options = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=dtype, output_loading_info=True,
            quantization_config=GgufConfig(dequantize=True), **options,
        )  # fmt: skip
        model, loading = loaded
        check_complete(facts.name, loading)
        progress("Converting the tokenizer", 0.5)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        bundle = LanguageBundle(
            model.eval(), tokenizer, facts.name,
            precision="float32" if dtype == torch.float32 else "bf16",
        )  # fmt: skip
        progress("Trying it on a few tokens", 0.75)
        verify_causal(bundle)
        model.save_pretrained(out, max_shard_size=SHARD)
        readable_like(out / "config.json", *out.glob("*.safetensors"))
        tokenizer.save_pretrained(out)
    read_config(facts.name, out)


def _write_origin(out: Path, source: Source, digest: str, facts: Facts) -> None:
    for path in source.beside:
        if path.name != SUMS:
            name = "README.md" if path.name == "README.upstream.md" else path.name
            shutil.copyfile(path, out / name)
    licence = facts.licence or folder_licence(out)
    if row := _listed(facts):
        licence = row.licence
    if (text := notice(licence)) and not (out / NOTICE_FILE).exists():
        (out / NOTICE_FILE).write_text(f"{text}\n", encoding="utf-8")
    origin = {
        "name": facts.name,
        "file": source.name,
        "sha256": digest,
        "package": source.package,
        "architecture": facts.architecture,
        "formats": list(facts.formats),
        "parameters": facts.parameters,
        "licence": licence,
        "terms": terms_among(path.name for path in out.iterdir()),
        "weights_sha256": weights_hash(out),
        "converted_with": {"rad3d": __version__}
        | {name: metadata.version(name) for name in ("transformers", "gguf")},
    }
    text = json.dumps(origin, indent=2, ensure_ascii=False) + "\n"
    (out / ORIGIN_FILE).write_text(text, encoding="utf-8")


def _check_room(place: Path, nbytes: int) -> None:
    free = shutil.disk_usage(place).free
    if nbytes > free:
        raise DiskFull(
            f"The folder takes {byte_text(nbytes)} in {place}, and {byte_text(free)} are free.",
            "Free space, choose --precision bf16, or give --out DIR on a larger disk.",
        )


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    """Whatever the package gguf raises on a damaged file becomes a sentence."""
    try:
        yield
    except (ValueError, LookupError, OverflowError, TypeError, OSError, MemoryError) as error:
        raise CorruptWeights(
            f"{name} cannot be read as GGUF: it is damaged or was cut short "
            f"({type(error).__name__}).",
            "Download it again, and compare its size and hash with those of where it comes from.",
            code="corrupt_weights",
        ) from error
