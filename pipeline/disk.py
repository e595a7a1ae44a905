"""What the file system may refuse: space for a file, and two folders that change places in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class DiskFullError(PipelineError):
    """No space is left for a result."""


@contextmanager
def writing_to(path: Path, *, size: int = 0) -> Iterator[None]:
    """Turn "no space left" while writing into a `DiskFullError` that says what is needed and what is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise disk_full(path, size=size, cause=error.strerror or "") from error


def disk_full(path: Path, *, size: int, cause: str) -> DiskFullError:
    """The error to raise when ``path`` could not be written for want of space."""
    folder = next(p for p in (path, *path.parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    need = f"{size / 1e6:.1f} MB needed, " if size else ""
    return DiskFullError(
        f"{path}: {cause or 'no space left'} ({need}{free / 1e6:.1f} MB free in {folder}): free space or raise the "
        "quota, then run the same command again; what is done is kept"
    )


def exchange(a: Path, b: Path) -> bool:
    """Let two files or folders of one file system change places in one step: at no moment is either name free.

    Returns:
        False where the system or the file system cannot (no Linux, or for example NFS); nothing has changed then.
    """
    call = _renameat2()
    if call is None:
        return False
    done: bool = call(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0
    if not done and (number := ctypes.get_errno()) not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        raise OSError(number, os.strerror(number), str(a), None, str(b))
    return done


@cache
def _renameat2() -> Any:
    """The function of the C library; None where it has none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call
