"""Where models come from: folders, the hub's cache, a hub or mirror; and what stands in the way."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_hub import COMMIT, FakeHub, serving
from safetensors.torch import load_file, save_file
from tiny_models import save_language, tiny_language

from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.core.language_models import language_model
from rad3d.core.settings import Settings
from rad3d.model.llm import hub as sources
from rad3d.model.llm.hub import Hub, get_command, obtain, wanted_files, with_progress
from rad3d.model.llm.loading import load_language_model
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language(tiny_language(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one good model, a gated one and one without weights; with an empty cache."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    extra = {"modeling_tiny.py": b"raise SystemExit", "onnx/model.safetensors": b"x" * 100,
             "pytorch_model.bin": b"never read", "tf_model.h5": b"never read"}  # fmt: skip
    weightless = {"config.json": files["config.json"]}
    repositories = {
        "us/tiny": files | extra, "us/gated": files, "us/none": weightless,
        "meta-llama/Llama-3.2-1B": files,
    }  # fmt: skip
    gated = frozenset({"us/gated", "meta-llama/Llama-3.2-1B"})
    with serving(FakeHub(repositories, gated)) as served:
        yield served


@pytest.mark.slow
def test_a_model_is_fetched_from_a_mirror_with_progress_and_then_needs_no_hub(
    hub: FakeHub, folder: Path
) -> None:
    told: list[tuple[str, float]] = []
    mirror = Hub(hub.url)
    bundle = load_language_model(
        "us/tiny", hub=mirror, progress=lambda text, done: told.append((text, done))
    )
    ids = torch.tensor([[1, 5, 6]])
    expected = load_language_model(str(folder)).model(ids).logits
    assert torch.equal(bundle.model(ids).logits, expected)
    assert told[0][0].startswith("Fetching us/tiny")
    fractions = [done for _, done in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert not any("resolve" in p and p.endswith((".py", ".bin", ".h5")) for p in hub.asked)
    assert not any("onnx" in path for path in hub.asked if "resolve" in path)

    hub.asked.clear()
    again = load_language_model("us/tiny", hub=Hub(hub.url, offline=True))
    assert torch.equal(again.model(ids).logits, expected)
    assert hub.asked == [], "what is here is not asked for"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("us/gated", r"gated.*Accept it at .*/us/gated.*hf auth login.*hf download us/gated"),
        ("us/absent", r"no model us/absent on http.*Check the name"),
        ("us/none", r"holds no weights"),
        ("us/x y", r"neither a local directory nor a hub id"),
        ("us//x", r"Check the path"),
    ],
)
def test_what_stands_in_the_way_is_said_with_the_step_to_take(
    hub: FakeHub, source: str, said: str
) -> None:
    with pytest.raises(MissingWeights, match=said):
        obtain(source, Hub(hub.url))


def test_a_gated_row_names_its_page_and_its_pinned_revision(hub: FakeHub) -> None:
    row = language_model("llama-3.2-1b")
    with pytest.raises(MissingWeights) as caught:
        obtain(row.source, Hub(hub.url))
    assert f"hf download {row.source} --revision {row.revision}" in caught.value.remedy
    assert any(path.endswith(f"/revision/{row.revision}") for path in hub.asked)


def test_a_revision_that_the_mirror_lacks_is_named(hub: FakeHub) -> None:
    with pytest.raises(MissingWeights, match="no revision 1234567"):
        obtain("us/tiny", Hub(hub.url), revision="1234567")
    assert obtain("us/tiny", Hub(hub.url), revision=COMMIT).name == COMMIT


def test_a_hub_that_does_not_answer_is_named_with_a_way_around(hub: FakeHub) -> None:
    with pytest.raises(
        MissingWeights, match=r"could not be fetched from http://127.*RAD3D_HUB_URL"
    ):
        obtain("us/tiny", Hub("http://127.0.0.1:9"))


def test_a_full_disk_is_noticed_before_the_download(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(MissingWeights, match="HF_HOME") as caught:
        obtain("us/tiny", Hub(hub.url))
    assert caught.value.code == "disk_full"
    assert not any("resolve" in path for path in hub.asked)


def test_offline_asks_nobody_and_says_how_to_allow_it(hub: FakeHub) -> None:
    for closed in (Hub(hub.url, offline=True), Hub.from_settings(Settings(offline=True))):
        with pytest.raises(MissingWeights, match=r"downloads are off.*RAD3D_OFFLINE"):
            obtain("us/tiny", closed)
    assert hub.asked == []


def test_the_hubs_own_offline_variable_is_respected(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(MissingWeights, match="downloads are off"):
        obtain("us/tiny", Hub(hub.url))
    assert hub.asked == []


@pytest.fixture
def variant(hub: FakeHub, tmp_path: Path) -> str:
    """A fine-tuned variant on the hub, with things beside it that nobody asked for."""
    config = VariantConfig(
        llm="gpt2", mode="v1", llm_source="x", latent_dim=32, prefix_length=4, clip_length=3,
        layers=1, heads=4,
    )  # fmt: skip
    PrefixReporter(config, tiny_language()).save_pretrained(tmp_path / "v")
    paths = [path for path in (tmp_path / "v").rglob("*") if path.is_file()]
    files = {path.relative_to(tmp_path / "v").as_posix(): path.read_bytes() for path in paths}
    traps = {"llm/own.py": b"raise SystemExit", "llm/pytorch_model.bin": b"never read"}
    hub.files["us/variant"] = files | traps
    return "us/variant"


def test_a_variant_is_fetched_from_a_mirror_without_code_or_pickles(
    hub: FakeHub, variant: str, tmp_path: Path
) -> None:
    fetched = PrefixReporter.from_pretrained(variant, hub=Hub(hub.url))
    here = PrefixReporter.from_pretrained(tmp_path / "v")
    assert torch.equal(fetched.prefix(torch.ones(1, 32)), here.prefix(torch.ones(1, 32)))
    assert not any(path.endswith((".py", ".bin")) for path in hub.asked if "resolve" in path)
    hub.asked.clear()
    assert PrefixReporter.from_pretrained(variant, hub=Hub(hub.url, offline=True))
    assert hub.asked == []


def test_what_stands_between_a_person_and_a_variant_is_said(hub: FakeHub, variant: str) -> None:
    for name, place, said in (
        ("us/other", Hub(hub.url, offline=True), "us/other is not here, and downloads are off"),
        ("us/other", Hub(hub.url), "no model us/other on http"),
        ("us/gated", Hub(hub.url), "gated.*hf auth login"),
        ("us/none", Hub(hub.url), "no variant in us/none"),
        ("/nowhere", Hub(hub.url), "no variant in /nowhere"),
    ):
        with pytest.raises(MissingWeights, match=said):
            PrefixReporter.from_pretrained(name, hub=place)


@pytest.mark.slow
def test_an_interrupted_download_is_not_taken_for_a_model(hub: FakeHub) -> None:
    place = obtain("us/tiny", Hub(hub.url))
    (place / "model.safetensors").unlink()
    assert sources.find_cached("us/tiny") is None
    assert (obtain("us/tiny", Hub(hub.url)) / "model.safetensors").is_file()


def test_only_what_a_model_needs_is_fetched() -> None:
    names = ["config.json", "tokenizer.json", "merges.txt", "modeling.py", "README.md", "x.gguf"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    both = [*names, *shards, "model.safetensors.index.json", "pytorch_model.bin", "original/c.pth"]
    assert set(wanted_files(both)) == {*names[:3], *shards, "model.safetensors.index.json"}
    old = [*names, "pytorch_model.bin", "flax_model.msgpack"]
    assert set(wanted_files(old)) == {*names[:3], "pytorch_model.bin"}


def test_a_local_directory_wins_and_a_wrong_path_is_not_looked_up_on_the_hub(
    hub: FakeHub, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "models" / "us" / "tiny")
    assert obtain("us/tiny", Hub(hub.url), models_dir=tmp_path / "models").parent.name == "us"
    assert obtain(str(folder), Hub(hub.url)) == folder
    for wrong in ("/nowhere/at/all", "./nowhere", "llms/phantom-x"):
        with pytest.raises(MissingWeights, match=r"Check the path|Put its folder"):
            obtain(wrong, Hub(hub.url), models_dir=tmp_path)
    assert hub.asked == []


def _as_pickle(folder: Path, target: Path, content: object) -> Path:
    shutil.copytree(folder, target)
    (target / "model.safetensors").unlink()
    torch.save(content, target / "pytorch_model.bin")
    return target


def test_older_weight_files_are_read_as_plain_tensors(folder: Path, tmp_path: Path) -> None:
    expected = load_language_model(str(folder))
    old = _as_pickle(folder, tmp_path / "old", expected.model.state_dict())
    loaded = load_language_model(str(old))
    ids = torch.tensor([[1, 5, 6]])
    assert torch.equal(loaded.model(ids).logits, expected.model(ids).logits)
    assert len({loaded.sha256, expected.sha256, ""}) == 3


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path(_Trap.target),))  # type: ignore[return-value]

    target = ""


def test_code_in_a_weight_file_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    _Trap.target = str(tmp_path / "sprung")
    trap = _as_pickle(folder, tmp_path / "trap", {"lm_head.weight": _Trap()})
    assert b"touch" in pickle.dumps(_Trap()), "the trap works"
    with pytest.raises((CorruptWeights, MissingWeights)):
        load_language_model(str(trap))
    assert not Path(_Trap.target).exists()


def test_a_model_that_brings_its_own_code_is_refused(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    text = (own / "config.json").read_text().replace('"model_type": "llama"', '"model_type": "own"')
    auto = '"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},'
    (own / "config.json").write_text(text.replace("{", "{" + auto, 1))
    (own / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BadRequest, match="own code are not run"):
        load_language_model(str(own))
    assert not (tmp_path / "ran").exists()


def change(folder: Path, target: Path, **files: bytes | None) -> Path:
    """A copy of a folder with these files; None removes one."""
    shutil.copytree(folder, target)
    for name, content in files.items():
        path = target / name.replace("__", ".")
        path.unlink() if content is None else path.write_bytes(content)
    return target


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "b"}}).encode()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model__safetensors": POINTER}, "model.safetensors of .* is a Git LFS pointer"),
        ({"model__safetensors": b""}, "model.safetensors of .* is empty"),
        ({"model__safetensors": b"<!DOCTYPE html>"}, "is a web page"),
        ({"model__safetensors": b"GGUF\x03"}, "is a GGUF file"),
        ({"tokenizer__json": POINTER}, "tokenizer.json of .* is a Git LFS pointer"),
        ({"config__json": b"<html>"}, "config.json of .* is a web page"),
        ({"adapter_config__json": b"{}"}, "PEFT adapter .* lies beside the weights"),
        ({"adapter_model__bin": b"x"}, "PEFT adapter .* lies beside the weights"),
        ({"model__safetensors": None, "model__safetensors__index__json": INDEX},
         "2 of the 2 files of weights .* are not there, such as b"),
        ({"model__safetensors": None}, "There are no weights in"),
        ({"model__safetensors": None, "m__gguf": b"GGUF"}, "a GGUF file.*convert --gguf .*m.gguf"),
        ({"model__safetensors": None, "config__json": None, "m__gguf": b"GGUF"}, "a GGUF file"),
        ({"config__json": None}, "no config.json"),
        ({"model__safetensors": None, "config__json": None,
          "adapter_config__json": b'{"base_model_name_or_path": "us/base"}'},
         "holds a PEFT adapter, and not the model that it changes .us/base"),
        ({"model__safetensors": None, "config__json": None, "consolidated__00__pth": b"x"},
         "Meta's own format"),
    ],
)  # fmt: skip
def test_a_folder_that_holds_something_else_gets_its_own_sentence(
    folder: Path, tmp_path: Path, files: dict[str, bytes | None], said: str
) -> None:
    with pytest.raises((BadRequest, CorruptWeights, MissingWeights), match=said):
        load_language_model(str(change(folder, tmp_path / "m", **files)))


def test_a_file_given_as_a_language_model_gets_its_own_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03")
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "m.gguf"), "./m.gguf", "m.gguf"):
        with pytest.raises(MissingWeights, match=r"is a GGUF file.*convert --gguf"):
            load_language_model(language_model(name).source)
    with pytest.raises(MissingWeights, match="Give the folder that it lies in"):
        load_language_model(str(folder / "model.safetensors"))
    inner = change(folder, tmp_path / "outer" / "inner")
    with pytest.raises(MissingWeights, match=f"Give {inner}"):
        load_language_model(str(tmp_path / "outer"))


def test_weights_under_a_wrappers_names_say_how_to_save_them(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    for prefix in ("_orig_mod.", "module.", "module._orig_mod."):
        place = change(folder, tmp_path / prefix)
        save_file({f"{prefix}{k}": v for k, v in tensors.items()}, place / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
        with pytest.raises(CorruptWeights, match=f"begin with {prefix}, which torch.compile"):
            load_language_model(str(place))


def test_a_tokenizer_without_its_package_names_the_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ImportError("You need to install sacremoses to use BioGptTokenizer.")

    monkeypatch.setattr("rad3d.model.llm.loading.obtain", lambda *args, **kwargs: folder)
    monkeypatch.setattr("rad3d.model.llm.loading.AutoTokenizer.from_pretrained", fail)
    with pytest.raises(MissingWeights, match=r"package sacremoses.*pip install sacremoses"):
        load_language_model("microsoft/biogpt")


def test_the_command_that_fetches_ahead_has_the_pinned_revision() -> None:
    row = language_model("gpt2")
    assert get_command(row.source) == f"hf download {row.source} --revision {row.revision}"
    assert get_command("us/tiny") == "hf download us/tiny"
    mirrored = get_command("us/tiny", hub=Hub("https://mirror"))
    assert mirrored == "HF_ENDPOINT=https://mirror hf download us/tiny"


def test_work_in_a_thread_tells_returns_and_fails_as_if_it_were_here() -> None:
    def work(progress: sources.Progress) -> int:
        progress("half", 0.5)
        return 7

    def collect() -> Iterator[tuple[str, float] | int]:
        yield (yield from with_progress(work))

    assert list(collect()) == [("half", 0.5), 7]

    def fail(progress: sources.Progress) -> int:
        raise MissingWeights("no")

    with pytest.raises(MissingWeights, match="no"):
        next(with_progress(fail))


def test_closing_stops_the_work_at_the_next_thing_it_tells() -> None:
    go, ended = threading.Event(), threading.Event()

    def work(progress: sources.Progress) -> None:
        progress("begun", 0.0)
        go.wait(120)
        try:
            progress("on", 0.5)
        finally:
            ended.set()

    running = with_progress(work)
    assert next(running) == ("begun", 0.0)
    running.close()
    go.set()
    assert ended.wait(120)
