"""Reads features that were made elsewhere: one file of many scans, or one file for each.

The published scripts of CT-CLIP save ``arr`` of shape (1, 512) for each scan, those of CT-CHAT
``arr`` of shape (1, 24, 24, 24, 512), which are tokens and no embedding. Nothing is unpickled but
tensors, since such a file can run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rad3d.core.errors import BadRequest
from rad3d.core.ids import scan_id
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.tables import SCAN_COLUMNS, label_columns, open_table
from rad3d.features.table import FeatureTable, FloatArray
from rad3d.model.tensor_files import DAMAGE, torch_file

SUFFIXES = (".npz", ".npy", ".pt")


def case_of(path: Path) -> str:
    """``train_1_a_1.npz`` and ``train_1_a_1.nii.gz.npz`` are both of ``train_1_a_1``."""
    return scan_id(path.name)


def read_foreign(path: Path, dimensions: int, label_set: LabelSet = CT_RATE) -> FeatureTable:
    """The features in a file.

    Args:
        path: of many scans: an array of text, one of (N, ``dimensions``) numbers, and perhaps
            ``logits`` of (N, L). Of one scan, which is called as the file: ``arr`` of
            (``dimensions``,) or (1, ``dimensions``), or the only array.
        dimensions: D of the encoder.
        label_set: the L labels.

    Raises:
        BadRequest: it is damaged, or holds something else.
    """
    arrays = _arrays(path)
    names = [name for name, array in arrays.items() if array.dtype.kind in "US"]
    logits = arrays.pop("logits", None)
    numbers = {name: array for name, array in arrays.items() if name not in names}
    array = numbers.get("arr", next(iter(numbers.values()), None))
    if array is None or len(names) > 1 or (len(numbers) > 1 and "arr" not in numbers):
        raise BadRequest(
            f"{path.name} holds {', '.join(arrays) or 'nothing'}, not one array of embeddings.",
            code="bad_features",
        )
    ids = [_text(name) for name in arrays[names[0]].reshape(-1)] if names else [case_of(path)]
    flat = array.reshape(1, -1) if not names and array.shape == (dimensions,) else array
    if array.dtype.kind != "f" or flat.shape != (len(ids), dimensions):
        what = "tokens" if array.ndim > 2 else f"{array.dtype} numbers"
        raise BadRequest(
            f"{path.name} holds {what} of {array.shape}, not {len(ids)} x {dimensions} numbers.",
            code="bad_shape",
        )
    n = len(label_set)
    if logits is not None and (logits.dtype.kind != "f" or logits.size != len(ids) * n):
        raise BadRequest(
            f"{path.name} holds logits of {logits.shape}, not {len(ids)} x {n} numbers.",
            code="bad_shape",
        )
    logit_rows = None if logits is None else logits.reshape(-1, n).astype(np.float32)
    return FeatureTable(tuple(ids), flat.astype(np.float32), logit_rows, label_set=label_set)


def read_logits(path: Path, label_set: LabelSet = CT_RATE) -> dict[str, FloatArray]:
    """Id -> (L,) logits from a CSV with ``VolumeName`` or ``id`` and a column for each label.

    Raises:
        BadRequest: it is no such table, or holds probabilities.
    """
    logits_of: dict[str, FloatArray] = {}
    with open_table(path, known=(*SCAN_COLUMNS, *label_set.names)) as table:
        columns = label_columns(table.columns, label_set, path.name)
        for id_, row in table.by_scan("bad_logits"):
            try:
                numbers = np.array(
                    [row.cells[columns[name]] for name in label_set.names], dtype=np.float32
                )
            except ValueError as error:
                raise BadRequest(
                    f"Line {row.line} of {path.name} holds something that is no number.",
                    "Give the logits of every scan.",
                    code="bad_logits",
                ) from error
            logits_of[id_] = numbers
    if logits_of and all((row >= 0).all() and (row <= 1).all() for row in logits_of.values()):
        raise BadRequest(
            f"The numbers in {path.name} all lie between 0 and 1, so they are probabilities.",
            "Give logits: log(p / (1 - p)).",
            code="bad_logits",
        )
    return logits_of


def _text(name: Any) -> str:
    return scan_id(name.decode() if isinstance(name, bytes) else str(name))


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file, by name; raises BadRequest where it cannot be read without danger."""
    try:
        if path.suffix == ".pt":
            state = torch_file(path)
            tensors = state if isinstance(state, Mapping) else {"arr": state}
            return {str(name): _numbers(tensor) for name, tensor in tensors.items()}
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"arr": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (*DAMAGE, OSError) as error:
        raise BadRequest(
            f"{path.name} is damaged, or holds more than arrays (which is refused, because such a "
            "file can run code).",
            code="bad_features",
        ) from error


def _numbers(tensor: Any) -> npt.NDArray[Any]:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError("no tensor")
    return tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.numpy()
