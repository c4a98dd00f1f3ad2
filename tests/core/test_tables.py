"""Tables that people give: what is read whoever wrote them, and what is refused, by its line."""

from __future__ import annotations

import csv
import io
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from rad3d.core.errors import BadRequest, Rad3dError, UnknownName
from rad3d.core.ids import matched, scan_id
from rad3d.core.labels import LABELS
from rad3d.core.tables import Table, cell_text, guarded, open_table
from rad3d.core.text_lines import MAX_LINE, read_lines
from rad3d.data.layouts import read_label_table
from rad3d.data.predictions import Columns, read_predictions
from rad3d.features.foreign import read_logits
from rad3d.features.scans import find_scans
from rad3d.train.file_source import read_reports
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
        ("id|text\na|ü 1\nb|2\n", "t.csv"),
        ("sep=;\r\nid;text\r\na;ü 1\r\nb;2\r\n", "t.csv"),
        ('"sep=;";\nid;text\na;ü 1\nb;2\n', "t.csv"),
        ("\ufeffSEP=\t\nid\ttext\na\tü 1\nb\t2\n", "t.csv"),
        ("sep=,\nid,text\na,ü 1\nb,2\n", "t.csv"),
        ("id,text\na,ü 1,,\nb,2,\n,,\n", "t.csv"),
        ("id\ttext\na\tü 1\nb\t2\n".encode("utf-16"), "t.txt"),
        ("id,text\na,ü 1\nb,2\n".encode("utf-16-le"), "t.csv"),
        ("id,text\na,ü 1\nb,2\n".encode("utf-16-be"), "t.csv"),
        ("id;text\na;ü 1\nb;2\n".encode("cp1252"), "t.csv"),
    ],
)
def test_whatever_wrote_a_table_its_rows_are_the_same(content: bytes | str, name: str) -> None:
    assert rows(content, name) == [{"id": "a", "text": "ü 1"}, {"id": "b", "text": "2"}]


@pytest.mark.parametrize(
    "header",
    [
        '"id";"report";"Comment (a, b, c, d)"',
        "id;report;Comment (a, b, c, d)",
        "id;report;a|b|c|d",
        'id;"a, b\nc, d, e";report',
        "ID;Report ;Comment, more, and more, and more",
        '"Size (5"")";id;report',
    ],
)
def test_a_header_with_the_signs_of_other_separators_is_cut_where_its_columns_are(
    header: str,
) -> None:
    text = f"{header}\n1;2;3\n"
    (row,) = Table(io.BytesIO(text.encode()), "t.csv", ("id", "report")).complete()
    assert len(row.cells) == 3
    assert {row.cells["id"], row.cells["report"]} < {"1", "2", "3"}
    assert row.line == 2 + header.count("\n")


def test_columns_are_found_in_any_case_and_spacing_unless_two_could_be_meant() -> None:
    table = Table(io.BytesIO(b"volume name,FINDINGS_en,Scan\n1,2,3\n"), "t.csv",
                  ("VolumeName", "Findings_EN"), ("scan",))  # fmt: skip
    assert [dict(row.cells) for row in table] == [
        {"VolumeName": "1", "Findings_EN": "2", "scan": "3"}
    ]
    with pytest.raises(UnknownName, match=r"called 'id'\. Known: ID, Id"):
        Table(io.BytesIO(b"ID,Id\n1,2\n"), "t.csv", ("id",))
    both = Table(io.BytesIO(b"id,ID\n1,2\n"), "t.csv", ("id",))
    assert [dict(row.cells) for row in both] == [{"id": "1", "ID": "2"}]


def test_empty_last_cells_that_a_spreadsheet_left_out_are_empty() -> None:
    lines = [f"a{i},text,x," if i < 17 else f"a{i},text" if i < 20 else f"a{i}" for i in range(22)]
    found = rows("id,report,comment,reader\n" + "\n".join(lines))
    assert [row["id"] for row in found] == [f"a{i}" for i in range(22)]
    assert [row["report"] for row in found[15:]] == ["text"] * 5 + [""] * 2
    assert {row["reader"] for row in found} == {""}


def test_a_guessed_encoding_is_noted_once() -> None:
    table = Table(io.BytesIO("id,text\n1,é\n2,ü\n".encode("cp1252")), "t.csv")
    assert [row.cells["text"] for row in table] == ["é", "ü"]
    assert table.notes == ["t.csv is not in UTF-8; it was read as Windows-1252."]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"PK\x03\x04" + bytes(22) + b"\x13\0\0\0[Content_Types].xml", "Excel workbook.*as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel workbook.*as CSV"),
        (b"<!DOCTYPE html><html><body>Log in", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"PAR1\x15\x04", "Parquet file"),
        (b"\x80\x04\x95\x10", "Python pickle"),
        (b"%PDF-1.7\n", "PDF document"),
        (bytes(range(256)), "of no kind"),
    ],
)
def test_what_is_no_text_is_called_what_it_is(head: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=rf"t\.csv is not a table: it is .*{said}"):
        Table(io.BytesIO(head), "t.csv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, ""), (float("nan"), ""), (7, "7"), (" a ", "a"), ("a\0b", "a b"),
        (["a", "b"], "a\nb"), ([], ""), ("['a', \"b's\"]", "a\nb's"), ('["a"]', "a"), ("[]", ""),
        ("[a]", "[a]"), ("['a", "['a"), ("['a'] + ['b']", "['a'] + ['b']"), ({"a": 1}, None),
        ([["a"]], None), ([{"a": 1}], None), ("\ud800", "?"),
    ],
)  # fmt: skip
def test_a_cell_is_text_or_nothing_or_no_text(cell: object, text: str | None) -> None:
    assert cell_text(cell) == text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a"), ("a.NII.GZ", "a"), ("a.b.mha", "a.b"), ("a", "a"), (7, "7"),
        (" a.nii ", "a"), ("a.nii.gz.npz", "a"), ("x\\y\\a.nii", "x/y/a"), ("./a.nii", "a"),
        (unicodedata.normalize("NFD", "Über.nii"), unicodedata.normalize("NFC", "Über")),
        (".nii.gz", ""), ("12.0", "12"), ("1.2.0", "1.2.0"),
    ],
)  # fmt: skip
def test_scans_have_one_id_whatever_their_files_are_called(name: object, expected: str) -> None:
    assert scan_id(name) == expected


def test_ids_with_folders_meet_those_without_where_no_two_could_be_meant() -> None:
    assert matched(["a", "p/b", "c"], ["a", "b", "q/c", "d"]) == {"a": "a", "p/b": "b", "c": "q/c"}
    assert matched(["p/a", "q/a"], ["a"]) == {}
    assert matched(["a"], ["p/a", "q/a"]) == {}
    assert matched(["a", "p/a"], ["a"]) == {"a": "a"}


def test_a_cell_keeps_its_commas_quotes_and_lines_and_a_row_the_line_it_begins_on() -> None:
    text = 'id,text\na,"one, ""two""\nthree"\n\nb,x\nc\nd,y,z\n'
    found = list(Table(io.BytesIO(text.encode()), "t.csv"))
    assert [(row.line, dict(row.cells), bool(row.problem)) for row in found] == [
        (2, {"id": "a", "text": 'one, "two"\nthree'}, False),
        (5, {"id": "b", "text": "x"}, False),
        (6, {"id": "c", "text": ""}, False),
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
        ("id,a\n1,ok\n2,Лёгкие\n".encode("cp1251"), "Line 3 of t.csv is neither UTF", "not_utf8"),
        ("id,a\n1,ok\n2,双肺\n".encode("gbk"), "Line 3 of t.csv is neither UTF", "not_utf8"),
        ("id,a\n1,é\n".encode("utf-16")[:-1], "Line 2 of t.csv is neither UTF", "not_utf8"),
        (b"id,id\n1,2\n", "Two columns of t.csv are called 'id'", "bad_csv"),
        (b"id, id \n1,2\n", "Two columns of t.csv are called 'id'", "bad_csv"),
        (b'id,a\n1,x\n2,"open\n3,x\n', "Near line 4 t.csv is not CSV", "bad_csv"),
        (b'id,a\n1,"x"y\n', "Near line 2 t.csv is not CSV", "bad_csv"),
        (b"id,a\n1,x\nno effusion.\n", "Line 3 of t.csv has too few or too many", "bad_csv"),
        (b"a," * 20_000 + b"\n", "t.csv has more than 10,000 columns", "bad_csv"),
        (b"id,a,b\na,The lungs\nNo effusion seen,1\n", "Line 3 of t.csv has too few", "bad_csv"),
        (b"id,a,b\n1,The lungs\nare,1\n", "Line 3 of t.csv has too few", "bad_csv"),
        (b"id,a,b\n1,x\n2\nTotal\n", "Line 4 of t.csv has too few", "bad_csv"),
        (b'[{"id": 1}]', "t.csv is JSON, not a table", "bad_csv"),
        (b"id,a\n1,x,y\n", "Line 2 of t.csv has too few or too many cells", "bad_csv"),
        (b"id,a\n1," + b"x" * MAX_LINE, "Line 2 of t.csv has more than 1,048,576", "bad_csv"),
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
    path.write_bytes(b"a.nii\n\x81\n")
    with pytest.raises(BadRequest, match=r"Line 2 of list\.txt is neither UTF-8 nor"):
        read_lines(path)
    with pytest.raises(BadRequest, match="There is no file"), open_table(tmp_path / "none.csv"):
        pass


READERS = {
    "predictions": (read_predictions, ("id", "reference", "prediction")),
    "labels": (read_label_table, ("id", *LABELS)),
    "logits": (read_logits, ("id", *LABELS)),
    "listing": (lambda path: find_scans(str(path)), ("path",)),
    "reports": (lambda path: read_reports(str(path), Columns(reference=()), ""), ("id", "report")),
    "metadata": (MetadataTable, NEEDED),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (b"\x81\n", "Line 2 of t.csv is neither UTF-8 nor"),
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


@pytest.mark.parametrize("seed", range(4))
def test_what_a_spreadsheet_writes_is_read_back_whatever_stands_in_its_cells(seed: int) -> None:
    rng = random.Random(seed)
    pieces = ["a", "Ü", "1,5", ";", "\t", "|", '"', "\n", "'", "sep=;", " ", "no effusion", "–"]
    for _ in range(50):
        columns = ["id", "report", *(f"c{i}, {'x; ' * rng.randrange(3)}" for i in range(3))]
        table = [
            [f"s{i}", *("".join(rng.choices(pieces, k=rng.randrange(6))) for _ in range(4))]
            for i in range(rng.randrange(1, 9))
        ]
        target = io.StringIO(newline="")
        delimiter = rng.choice(",;\t|")
        quoting: Any = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        writer = csv.writer(target, delimiter=delimiter, quoting=quoting)
        writer.writerows([columns, *table])
        begin = f"sep={delimiter}\r\n" if rng.random() < 0.3 else ""
        data = (begin + target.getvalue()).encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
        found = Table(io.BytesIO(data), "t.csv", ("id", "report")).complete()
        assert [[row.cells["id"], row.cells["report"]] for row in found] == [
            [row[0], row[1][1:] if row[1][:1] == "'" and row[1][1:2] in ("'", "\t") else row[1]]
            for row in table
        ]


@pytest.mark.parametrize("listing", ["list.txt", "list.csv"])
def test_a_listing_finds_files_whose_letters_are_in_two_parts(listing: str, tmp_path: Path) -> None:
    parts, one = (unicodedata.normalize(form, "Señal_2.nii.gz") for form in ("NFD", "NFC"))
    (tmp_path / parts).write_bytes(b"x")
    head = "" if listing.endswith("txt") else "path\n"
    (tmp_path / listing).write_text(f"{head}{one}\n", encoding="utf-8")
    ((scan,), _) = find_scans(str(tmp_path / listing))
    assert scan.path.is_file()
    assert scan.id == one.removesuffix(".nii.gz")
