"""A language model with fewer words reads its texts, and scores their words, as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import LINES, save_language, tiny_language
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from rad3d import cli
from rad3d.core.errors import BadRequest
from rad3d.core.origin import origin
from rad3d.model.llm.cut_vocabulary import KEPT_FILE, cut_vocabulary
from rad3d.model.llm.loading import load_language_model


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma3_text"])
def test_what_stays_is_read_and_scored_as_before(family: str, tmp_path: Path) -> None:
    folder = save_language(tiny_language(family), tmp_path / "whole")
    (folder / "LICENSE").write_text("terms")
    whole = load_language_model(str(folder))
    out = tmp_path / "cut"
    n = cut_vocabulary(load_language_model(str(folder)), folder, LINES[:1], out, "odd-1.0")
    cut = load_language_model(str(out))
    kept = torch.tensor(json.loads((out / KEPT_FILE).read_text()))
    assert n == len(kept) == cut.vocabulary < whole.vocabulary
    old, new = (torch.tensor([each.tokenizer(LINES[0])["input_ids"]]) for each in (whole, cut))
    assert torch.equal(kept[new], old)
    with torch.inference_mode():
        torch.testing.assert_close(cut.model(new).logits, whole.model(old).logits[..., kept])
    assert kept[list(cut.eos_ids)].tolist() == list(whole.eos_ids)
    other = "Somewhat else: zebra, naïve Ł 漢."
    assert cut.decode(cut.tokens(other)) == other
    assert origin(out)["licence"] == "odd-1.0"
    assert origin(out)["vocabulary"] == n
    assert (out / "LICENSE").read_text() == "terms"


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_language(tiny_language("gpt2"), tmp_path / "whole")
    language = load_language_model(str(folder))
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    object.__setattr__(language, "tokenizer", PreTrainedTokenizerFast(tokenizer_object=words))
    with pytest.raises(BadRequest, match="no byte-pair encoding"):
        cut_vocabulary(language, folder, ["a"], tmp_path / "cut", "")


def test_the_command_makes_a_folder_with_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_language(tiny_language("gpt2"), tmp_path / "llms" / "mine")
    (tmp_path / "reports.csv").write_text(f'id,report\n1,"{LINES[0]}"\n')
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    line = ["convert", "--cut-vocabulary", str(tmp_path / "reports.csv"), "--llm", "local--mine"]
    assert cli.main(line) == 0
    told = capsys.readouterr()
    assert "rad3d train --llm local--mine-cut --mode v3" in told.err
    assert json.loads(told.out)["cut_from"]["source"] == "llms/mine"
    assert load_language_model("llms/mine-cut", models_dir=tmp_path).width == 32
    assert cli.main(line) == 1
    assert "is there already" in capsys.readouterr().err
