"""Names a set of cases: a shipped set, or a folder or file in a known layout."""

from __future__ import annotations

from dataclasses import dataclass, field

from rad3d.data.predictions import Columns, one_line


@dataclass(frozen=True)
class SetSpec:
    """A reference to cases: a shipped set, or a folder or file in a known layout.

    Attributes:
        source: a key of ``SAMPLE_SETS`` or of ``LAYOUTS`` in rad3d.data.sample_sets.
        path: of the folder or file; empty for shipped sets.
        split: of a data set in splits; empty is the layout's own for testing.
        references: for a predictions file without references: a file that holds them, or a key
            of ``SAMPLE_SETS``.
        columns: of a file, where they have other names.
        name: of the system that wrote a predictions file; empty is the file's name.
    """

    source: str
    path: str = ""
    split: str = ""
    references: str = ""
    columns: Columns = field(default_factory=Columns)
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", one_line(self.name))  # a visitor's browser may send any

    @classmethod
    def parse(cls, text: str) -> SetSpec:
        """Read ``"phantom-in"``, ``"ct-rate:/data/CT-RATE"`` or ``"ct-rate:/data/CT-RATE#valid"``;
        after ``#`` stands a split, or for predictions their references.
        """
        source, _, rest = text.partition(":")
        path, _, after = rest.partition("#")
        if source == "predictions":
            return cls(source, path, references=after)
        return cls(source, path, split=after)
