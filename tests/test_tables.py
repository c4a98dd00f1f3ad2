"""Tables that people give: what is read whoever wrote them, and what is refused, by its line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from rad3d.errors import BadRequest, Rad3dError, UnknownName
from rad3d.eval.files import read_predictions
from rad3d.eval.layouts import read_label_table
from rad3d.labels import LABELS
from rad3d.model.foreign_features import read_logits
from rad3d.service.feature_scans import find_scans
from rad3d.tables import MOST_LINE, Table, guarded, open_table, read_lines
from rad3d.train.sources import ReportColumns, read_reports
from rad3d.volume.ctrate import NEEDED, MetadataTable


def rows(content: bytes | str, name: str = "t.csv") -> list[dict[str, str]]:
    data = content.encode("utf-8") if isinstance(content, str) else content
    return [dict(row.cells) for row in Table(io.BytesIO(data), name).complete()]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("id,text\na,ü 1\nb,2\n", "t.csv"),
        ("\ufeffid,text\r\na,ü 1\r\nb,2\r\n", "t.csv"),
        ("id;text\na;ü 1\nb;2", "t.csv"),
        ("id\ttext\na\tü 1\nb\t2\n", "t.csv"),
        ("id\ttext\na\tü 1\nb\t2\n", "t.tsv"),
        (" id , text \na,ü 1\nb,2\n", "t.csv"),
        ("\n\nid,text\n\na,ü 1\n\nb,2\n\n", "t.csv"),
        ("id,text\ra,ü 1\rb,2\r", "t.csv"),
        (",id,text\n0,a,ü 1\n1,b,2\n", "t.csv"),
        ("id,text,,\na,ü 1,,\nb,2,,\n", "t.csv"),
        ('id,text\n"a","ü 1"\nb,2\n', "t.csv"),
    ],
)
def test_whatever_wrote_a_table_its_rows_are_the_same(content: str, name: str) -> None:
    assert rows(content, name) == [{"id": "a", "text": "ü 1"}, {"id": "b", "text": "2"}]


def test_a_cell_keeps_its_commas_quotes_and_lines_and_a_row_the_line_it_begins_on() -> None:
    text = 'id,text\na,"one, ""two""\nthree"\n\nb,x\nc\nd,y,z\n'
    found = list(Table(io.BytesIO(text.encode()), "t.csv"))
    assert [(row.line, dict(row.cells), bool(row.problem)) for row in found] == [
        (2, {"id": "a", "text": 'one, "two"\nthree'}, False),
        (5, {"id": "b", "text": "x"}, False),
        (6, {}, True),
        (7, {}, True),
    ]


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-x", "@A1", "'=1", "-8192", "-1.5", "it's", ""])
def test_a_formula_is_guarded_a_number_is_not_and_reading_undoes_it(cell: str) -> None:
    written = guarded(cell)
    assert written[:1] not in ("=", "+", "@")
    assert (written == cell) is (cell in ("-8192", "-1.5", "it's", ""))
    assert rows(f'id,text\n1,"{written}"\n')[0]["text"] == cell


@pytest.mark.parametrize(
    ("content", "said", "code"),
    [
        (b"", "t.csv is empty", "empty_file"),
        (b" \n \n", "t.csv is empty", "empty_file"),
        ("id,a\n1,ok\n2,é\n".encode("latin-1"), "Line 3 of t.csv is not UTF-8", "not_utf8"),
        ("id,a\n1,é\n".encode("utf-16"), "Line 1 of t.csv is not UTF-8", "not_utf8"),
        (b"id,id\n1,2\n", "Two columns of t.csv are called 'id'", "bad_csv"),
        (b"id, id \n1,2\n", "Two columns of t.csv are called 'id'", "bad_csv"),
        (b'id,a\n1,x\n2,"open\n3,x\n', "Near line 4 t.csv is not CSV", "bad_csv"),
        (b'id,a\n1,"x"y\n', "Near line 2 t.csv is not CSV", "bad_csv"),
        (b"id,a\n1,x\n2\n", "Line 3 of t.csv has too few or too many cells", "bad_csv"),
        (b"id,a\n1,x,y\n", "Line 2 of t.csv has too few or too many cells", "bad_csv"),
        (b"id,a\n1," + b"x" * MOST_LINE, "Line 2 of t.csv has more than 1,048,576", "bad_csv"),
        (b'id,a\n1,"' + b"x\n" * 70_000, "is not CSV: field larger than", "bad_csv"),
    ],
)
def test_what_leaves_a_cells_meaning_open_is_refused_by_its_line(
    content: bytes, said: str, code: str
) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        rows(content)
    assert caught.value.code == code


def test_a_missing_column_is_named_with_those_that_are_there() -> None:
    table = Table(io.BytesIO(b"id,a\n"), "t.csv")
    assert table.first_of("VolumeName", "id") == "id"
    with pytest.raises(UnknownName, match=r"column in t\.csv called 'x or y'. Known: id, a"):
        table.first_of("x", "y")
    with pytest.raises(UnknownName, match="'text'"):
        Table(io.BytesIO(b"id,a\n"), "t.csv", ("id", "text"))


def test_a_list_is_read_as_carefully(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa.nii\r\n\n  p/ü.nii \n".encode())
    assert read_lines(path) == ["a.nii", "p/ü.nii"]
    path.write_bytes(b"a.nii\n\xff\n")
    with pytest.raises(BadRequest, match=r"Line 2 of list\.txt is not UTF-8"):
        read_lines(path)
    with pytest.raises(BadRequest, match="There is no file"), open_table(tmp_path / "none.csv"):
        pass


READERS = {
    "predictions": (read_predictions, ("id", "reference", "prediction")),
    "labels": (read_label_table, ("id", *LABELS)),
    "logits": (read_logits, ("id", *LABELS)),
    "listing": (lambda path: find_scans(str(path)), ("path",)),
    "reports": (lambda path: read_reports(str(path), ReportColumns(), ""), ("id", "report")),
    "metadata": (MetadataTable, NEEDED),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (b"\xe4\n", "Line 2 of t.csv is not UTF-8"),
        (b'"open\n', "Near line 2 t.csv is not CSV"),
        (None, "Two columns of t.csv are called"),
    ],
)
def test_every_reader_of_tables_refuses_alike(
    kind: str, ending: bytes | None, said: str, tmp_path: Path
) -> None:
    read, columns = READERS[kind]
    header = ",".join((*columns, columns[0]) if ending is None else columns)
    (tmp_path / "t.csv").write_bytes(header.encode() + b"\n" + (ending or b""))
    with pytest.raises(Rad3dError, match=said):
        read(tmp_path / "t.csv")  # type: ignore[operator]
