"""What the person at the terminal can put right.

* CommandError          the command ends with this sentence on stderr and status 1
  + SettingsError       a setting is wrong or unknown: status 2 (service/settings.py)

Anything else that reaches the top is a bug: it is shown with its traceback.
"""

from __future__ import annotations


class CommandError(Exception):
    """A sentence that says what was wrong, where, and what would be right."""

    status = 1
