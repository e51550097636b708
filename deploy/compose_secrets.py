"""Writes the secrets that docker-compose.yml mounts: a key per role and ClickHouse's password.

Needs a bare Python 3.11+, like deploy/bootstrap.py. What is there already stays as it is.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"
# The names that service/access.py and service/settings.py read; a test holds them equal.
NAMES = ("admin", "experimenter", "viewer", "evaluate", "emit", "clickhouse")


def write_secrets(folder: Path) -> bool:
    """False when they were there. The folder is closed to others; the files in it are not, since
    compose mounts them as they are, and the containers' users are not this one.
    """
    credentials = folder / "credentials.json"
    if credentials.exists():
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = {name: secrets.token_urlsafe(32) for name in NAMES}
    (folder / "clickhouse_password").write_text(made["clickhouse"])
    credentials.write_text(json.dumps(made, indent=1))
    return True


def main() -> None:
    written = write_secrets(FOLDER)
    sys.stdout.write(f"{FOLDER}: {'written' if written else 'already there, left as it is'}\n")


if __name__ == "__main__":
    main()
