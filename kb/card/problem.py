"""What is wrong in a file, where, and how to mend it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file.

    `line` and `column` count from 1; 0 means that the file as a whole is meant. `field` is a path such as
    `claims[0].check`, or empty.
    """

    message: str
    mend: str
    severity: Literal["error", "warning"] = "error"
    file: str = ""
    line: int = 0
    column: int = 0
    field: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        told = f"{self.field}: {self.message}" if self.field else self.message
        return f"{place}: {self.severity}: {told} Mend: {self.mend}"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return asdict(self)
