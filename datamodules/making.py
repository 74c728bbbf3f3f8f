"""Sets of files that a data module makes itself: all of them or none, and never over what is there."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MadeSet:
    """A folder that is made once.

    Attributes:
        folder: Where it lies.
        kind: What it holds, for messages.
        lists: Files of it that only a whole set has.
    """

    folder: Path
    kind: str
    lists: Sequence[str]

    def is_there(self) -> bool:
        """Whether it was made.

        Raises:
            ValueError: If the folder is there but is not a whole set.
        """
        if self._is_whole():
            return True
        if self.folder.exists():
            raise ValueError(f"{self.folder}: is not a whole set of {self.kind}; remove it, and it is made anew")
        return False

    def make(self, write: Callable[[Path], None]) -> None:
        """Makes it beside its folder and renames it; if another process was faster, that one's stays.

        Args:
            write: Writes the set as a folder, which it creates.

        Raises:
            ValueError: If it cannot be written.
        """
        folder = self.folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
                made = Path(beside, folder.name)
                write(made)
                made.rename(folder)
        except OSError as error:
            if self._is_whole():
                return
            raise ValueError(
                f"{folder}: the {self.kind} cannot be written there ({error.strerror}); give a folder that you may"
                " write to with --data.root"
            ) from None

    def _is_whole(self) -> bool:
        return all((self.folder / name).is_file() for name in self.lists)
