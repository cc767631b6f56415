"""A library: folders of cards as an immutable snapshot. The only reader of notes.

Every `*.yaml` and `*.yml` below a folder is a card; names that start with `_` or `.` are passed over. A folder may hold
a `_library.yaml` that lists topics of its own, which replace the default ones for the cards in it and below:

    topics:
      robotics: 机器人

`folders` looks at what is there, `files` reads it, `kept` keeps what was read; `snapshot` is the library, and `live`
follows it.
"""

from kb.library.files import shown
from kb.library.live import LiveLibrary
from kb.library.snapshot import SHIPPED, Library, LibraryError

__all__ = ["SHIPPED", "Library", "LibraryError", "LiveLibrary", "shown"]
