"""Where data lives: one notation for local paths, file:// and s3:// URIs, and whatever fsspec knows."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO
from urllib.parse import quote

import fsspec
import pyarrow as pa
import pyarrow.fs

from fracray.errors import LocationError

_WHOLE_ON_CLOSE = ("s3", "gcs", "abfs")
"""File systems in which an object appears once its writer closes it, and not at all if the writer dies."""

_IN_URIS = "%/:?#[]@!$&'()*+,;="
"""Signs of a URI's own; Arrow refuses the rest, such as blanks, unless they are quoted."""


@dataclass(frozen=True)
class Location:
    """A file or folder: a local path, or a URI that Arrow (file, s3, gs, abfs, hdfs) or fsspec can open.

    S3 credentials, region and endpoint come from where AWS's own tools look for them (AWS_ACCESS_KEY_ID,
    AWS_ENDPOINT_URL, ~/.aws, the machine's role).
    """

    uri: str

    @classmethod
    def of(cls, place: "str | Path | Location") -> "Location":
        """Return `place` as a location; a relative local path becomes absolute, as workers run elsewhere."""
        if isinstance(place, Location):
            return place
        text = str(place)
        return cls(text.rstrip("/") if "://" in text else str(Path(text).absolute()))

    def __truediv__(self, name: str) -> "Location":
        if "://" not in self.uri:
            return Location(f"{self.uri}/{name}")
        # What follows a question mark sets up the connection, not the path.
        place, mark, options = self.uri.partition("?")
        return Location(f"{place}/{name}{mark}{options}")

    def __str__(self) -> str:
        return self.uri

    @property
    def parent(self) -> "Location":
        """The folder that holds it."""
        place, mark, options = self.uri.partition("?") if "://" in self.uri else (self.uri, "", "")
        return Location(f"{place.rpartition('/')[0]}{mark}{options}")

    def opened(self) -> tuple[pa.fs.FileSystem, str]:
        """Return Arrow's file system and the path in it; raises `LocationError` for an unknown scheme."""
        if "://" not in self.uri:
            return pa.fs.LocalFileSystem(), self.uri
        try:
            filesystem, path = pa.fs.FileSystem.from_uri(quote(self.uri, safe=_IN_URIS))
        except pa.ArrowInvalid:
            try:
                known, path = fsspec.core.url_to_fs(self.uri)
            except (ValueError, ImportError) as error:
                raise LocationError(f"{self}: {_first_line(error)}; use a path, file:// or s3://") from None
            filesystem = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(known))
        return filesystem, path

    def info(self) -> pa.fs.FileInfo:
        """Return type and size; raises `LocationError` when the place cannot be reached."""
        filesystem, path = self.opened()
        with _explained(self):
            info: pa.fs.FileInfo = filesystem.get_file_info(path)
        return info

    @property
    def is_file(self) -> bool:
        """Whether a file is there."""
        return bool(self.info().type == pa.fs.FileType.File)

    @property
    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return bool(self.info().type == pa.fs.FileType.Directory)

    def names(self) -> list[str]:
        """Return the names in this folder, sorted; none if there is no such folder."""
        filesystem, path = self.opened()
        with _explained(self):
            found = filesystem.get_file_info(pa.fs.FileSelector(path, allow_not_found=True))
        return sorted(str(info.base_name) for info in found)

    def files(self) -> list[str]:
        """Return the paths of all files below this folder, relative to it, sorted."""
        filesystem, path = self.opened()
        with _explained(self):
            found = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
        return sorted(str(info.path).removeprefix(path).lstrip("/") for info in found if info.is_file)

    def read_bytes(self) -> bytes:
        """Return the file's bytes; raises `LocationError`."""
        filesystem, path = self.opened()
        with _explained(self), filesystem.open_input_stream(path, compression=None) as stream:
            data: bytes = stream.read()
        return data

    def write_whole(self, write: Callable[[IO[bytes]], object], *, replace: bool = True) -> None:
        """Write a file that appears whole or not at all, even if this process dies or the power fails.

        With `replace=False` a file that is there already stays. Raises `LocationError`.
        """
        filesystem, path = self.opened()
        with _explained(self, "cannot be written", "check space and rights there"):
            if not replace and self.is_file:
                return
            if filesystem.type_name == "local":
                _write_local(Path(path), write)
                return
            # All bytes first: a stream that closes after an error would leave half a file.
            content = BytesIO()
            write(content)
            beside = path if filesystem.type_name in _WHOLE_ON_CLOSE else _unfinished(path)
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(beside) as stream:
                stream.write(content.getbuffer())
            if beside != path:
                filesystem.move(beside, path)

    def delete(self) -> None:
        """Delete the file; raises `LocationError`."""
        filesystem, path = self.opened()
        with _explained(self, "cannot be deleted", "check the rights there"):
            filesystem.delete_file(path)


def _write_local(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    unfinished = Path(_unfinished(str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    # A rename lasts through a power cut only once its folder is on disk too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unfinished(path: str) -> str:
    """A name beside `path` that readers of Parquet folders skip."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{uuid.uuid4().hex}.unfinished"


@contextlib.contextmanager
def _explained(
    place: Location, what: str = "cannot be read", remedy: str = "check the path and the rights to it"
) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or _first_line(error)
        raise LocationError(f"{place}: {what} ({reason}); {remedy}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
