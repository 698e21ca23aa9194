"""Get a file from the first of several mirrors that gives it whole.

What arrives goes to ``<name>.part``; a broken download goes on from there, also in a later run and also from another
mirror. Only a file that ``verify`` accepts gets its final name, by an atomic rename.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

TIMEOUT = 20.0  # seconds without a single byte, connecting or reading
_CHUNK = 1 << 16


def download(
    urls: Sequence[str], target: Path, verify: Callable[[Path], object], timeout: float | None = None
) -> None:
    """Put at ``target`` what one of ``urls`` serves, tried in order; nothing to do when ``verify`` accepts ``target``.

    ``verify(path)`` raises ``ValueError`` when the content of ``path`` is wrong. ``timeout`` is in seconds (default:
    ``TIMEOUT``). Processes that download the same file at the same time wait for each other.

    Raises ``RuntimeError``, with the reason for every mirror, when none gives the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures = []
    with _locked(part) as file:
        try:
            if _is_accepted(target, verify):
                return
            for url in urls:
                try:
                    _fetch_verified(url, file, part, verify, TIMEOUT if timeout is None else timeout)
                except (OSError, HTTPException, ValueError) as error:
                    failures.append(f"  {url}: {_reason(error)}")
                else:
                    os.fsync(file.fileno())
                    os.replace(part, target)
                    return
        finally:
            if _size(file) == 0:
                part.unlink(missing_ok=True)
    raise RuntimeError(
        "\n".join([f"no mirror gave {target.name}:", *failures, f"Try again, or put the file into {target.parent}."])
    )


def _is_accepted(path: Path, verify: Callable[[Path], object]) -> bool:
    with suppress(ValueError, FileNotFoundError):
        verify(path)
        return True
    return False


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """``part``, open for appending and locked against other processes (where the file system can lock)."""
    while True:
        with open(part, "ab") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held the lock may have renamed or removed the file that we opened: then open the new one.
            if _is_at(file, part):
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _fetch_verified(url: str, file: BinaryIO, part: Path, verify: Callable[[Path], object], timeout: float) -> None:
    """Complete ``file`` from ``url`` until ``verify`` accepts it; a wrong content is thrown away.

    The beginning may stem from another mirror or another day: when the completed file is wrong, one whole transfer
    follows.
    """
    started_at = _size(file)
    _fetch(url, file, timeout)
    try:
        verify(part)
    except ValueError:
        file.truncate(0)
        if started_at == 0:
            raise
        _fetch_verified(url, file, part, verify, timeout)


def _fetch(url: str, file: BinaryIO, timeout: float) -> None:
    """Complete ``file`` from ``url``, in as many requests as it takes, while each gets further than the last."""
    reached = _size(file)
    while True:
        try:
            return _transfer(url, file, timeout)
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError) or _size(file) <= reached:
                raise
            reached = _size(file)


def _transfer(url: str, file: BinaryIO, timeout: float) -> None:
    """One request for what ``file`` lacks. Raises ``ConnectionError`` when less comes than the server announced."""
    have = _size(file)
    request = Request(url, headers={"User-Agent": "minidl", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: HTTPResponse = urlopen(request, timeout=timeout)
    except HTTPError as error:
        with closing(error):
            if have and error.code == 416:
                return  # nothing after what we have: it is whole or wrong, which is for verify to say
            raise
    with response:
        if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            file.truncate(0)
            have = 0
        announced = response.headers.get("Content-Length")
        total = None if announced is None else have + int(announced)
        with tqdm(
            total=total, initial=have, desc=os.path.basename(url), unit="B", unit_scale=True, disable=None
        ) as bar:
            # read1 hands over every byte as it comes, so that a time-out loses none.
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(file) < total:
        raise ConnectionError(f"the connection broke after {_size(file)} of {total} bytes")


def _size(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return str(reason) or type(error).__name__
