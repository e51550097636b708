"""The entry point `anabranch`: puts the commands of all rooms together.

The only place, beside the supervisor, where an unexpected exception is caught: it is logged and
ends the process.
"""

from __future__ import annotations

import sys

from cyclopts import App

from service.settings import SettingsError

app = App(name="anabranch", help="Streaming experimentation: Kafka to trusted reports in seconds.")


def main() -> None:
    try:
        app()
    except SettingsError as error:
        sys.stderr.write(f"anabranch: {error}\n")
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
