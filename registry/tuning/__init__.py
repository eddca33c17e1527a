"""Trainings to be done: uploaded files, jobs and their events, shared by servers and workers."""

from .jobs import Job, NewJob, Status
from .queue import Queue, open_queue

__all__ = ["Job", "NewJob", "Queue", "Status", "open_queue"]
