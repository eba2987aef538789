"""What a pickle holds, without loading it: :func:`read_outline`. No code from the pickle runs.

Classes and functions that the pickle names are replaced by stand-ins that do nothing. Dictionaries, lists, numbers and
texts are read as they are.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

LONGEST = 1 << 26  # bytes of a pickle in a zip; tensors lie outside it
LEGACY_HEADER = 3  # pickles before the content in torch's format before 1.6


class Foreign:
    """Stands for an object whose class or function was not loaded.

    Attributes:
        origin: the module and the name of the class or function.
    """

    origin = ""

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        """Ignore what the object would be made of."""

    def __setstate__(self, _state: object) -> None:
        """Ignore the attributes of the object."""

    def __call__(self, *_arguments: object, **_keywords: object) -> "Foreign":
        """Stand for what the object would return."""
        return type(self)()

    def _ignore(self, *_arguments: object) -> None:
        pass

    append = extend = add = __setitem__ = _ignore  # what a pickle calls to fill a container

    @property
    def is_tensor(self) -> bool:
        """Whether this stands for a tensor or a parameter."""
        return self.origin.startswith("torch._utils._rebuild_")


class _Outliner(pickle._Unpickler):  # not the one in C, to which a short pickle can make a memo of many gigabytes
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return type(name, (Foreign,), {"origin": f"{module}.{name}"})

    def persistent_load(self, reference: Any) -> Any:
        """Return the class that torch's old format stores beside its source; leave out the numbers of a tensor."""
        return reference[1] if reference[0] == "module" else None


def read_outline(path: str | Path) -> tuple[Any, bool]:
    """Return the content of a torch file or of a pickle, and whether torch wrote it.

    There is a :class:`Foreign` in the place of each foreign object.

    Raises:
        Exception: of any type, if the file holds no pickle or is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as file:
                return _load(file), True
    with Path(path).open("rb") as file:
        content = _load(file)
        if is_torch := isinstance(content, int):  # torch's magic number
            for _ in range(LEGACY_HEADER):
                content = _load(file)
        return content, is_torch


def _load(file: IO[bytes]) -> Any:
    return _Outliner(_Limited(file), encoding="utf-8").load()


class _Limited:
    """A file for an unpickler that refuses to read far more than a pickle without tensors needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, LONGEST

    def read(self, size: int = -1) -> bytes:
        self._left -= size
        if size < 0 or self._left < 0:
            raise pickle.UnpicklingError("too long")
        return self._file.read(size)

    def readline(self) -> bytes:
        self._left -= len(line := self._file.readline(1 << 16))
        return line
