"""Tracking in MLflow: one writer, idempotent, always rebuildable from results/ (DESIGN §6).

Files are the truth and jobs never talk to MLflow; only this package does, under a lock.
"""

from fewtable.tracking.labels import labels
from fewtable.tracking.ui import ui_command
from fewtable.tracking.watch import watch
from fewtable.tracking.writer import Labels, Outcome, rebuild, track_all, track_cell

__all__ = ["Labels", "Outcome", "labels", "rebuild", "track_all", "track_cell", "ui_command", "watch"]
