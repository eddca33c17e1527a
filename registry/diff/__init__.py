"""What changed between two versions: documents key by key, weights by their updates."""

from .changes import Change, changes
from .versions import VersionDiff, diff_versions
from .weights import ModuleDiff, WeightsDiff, compare_weights

__all__ = [
    "Change",
    "ModuleDiff",
    "VersionDiff",
    "WeightsDiff",
    "changes",
    "compare_weights",
    "diff_versions",
]
