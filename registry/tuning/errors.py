"""What can be wrong about files and jobs.

RegistryError
├── NotFound
│   ├── FileNotFound              404 file_not_found
│   └── JobNotFound               404 job_not_found
├── FileInUse                     409 file_in_use
├── JobConflict                   409 job_conflict
├── InvalidUpload                 400 invalid_file
├── FileTooLarge                  413 file_too_large
└── LimitReached                  429 limit_reached
"""

from __future__ import annotations

from registry.errors import NotFound, RegistryError


class FileNotFound(NotFound):
    """No file by that id."""

    code = "file_not_found"


class JobNotFound(NotFound):
    """No job by that id."""

    code = "job_not_found"


class FileInUse(RegistryError):
    """A job that is not over needs the file."""

    status = 409
    code = "file_in_use"


class JobConflict(RegistryError):
    """A job in that state cannot be changed that way."""

    status = 409
    code = "job_conflict"


class InvalidUpload(RegistryError):
    """An upload that is no file to train on."""

    status = 400
    code = "invalid_file"


class FileTooLarge(RegistryError):
    """A file, or all files together, would be over the limit."""

    status = 413
    code = "file_too_large"


class LimitReached(RegistryError):
    """There are as many files or waiting jobs as are allowed."""

    status = 429
    code = "limit_reached"
