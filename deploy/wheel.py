"""Builds the SDK's wheel into dist/ and checks what is in it: `python -m deploy.wheel`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from deploy.bootstrap import private_uv, uv_environment

ROOT = Path(__file__).parent.parent


class WheelError(Exception):
    """The wheel does not hold what it should. The text names what is wrong."""


def build(folder: Path) -> Path:
    """The checked wheel, in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        uv = shutil.which("uv") or private_uv()
        command = [uv, "build", "--package", "anabranch", "--wheel", "--quiet", "--out-dir", fresh]
        done = subprocess.run(
            command, cwd=ROOT, env=uv_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise WheelError(f"uv could not build the wheel:\n{done.stderr.strip()}")
        (built,) = Path(fresh).glob("*.whl")
        check(built)
        return Path(shutil.copy(built, folder))


def check(wheel: Path) -> None:
    with ZipFile(wheel) as content:
        names = content.namelist()
    metadata = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/"
    if strangers := [name for name in names if not name.startswith(("anabranch/", metadata))]:
        raise WheelError(f"{wheel.name} holds more than the SDK: {', '.join(strangers[:5])}")
    modules = [f"anabranch/{path.name}" for path in (ROOT / "anabranch").glob("*.py")]
    for name in (*modules, "anabranch/py.typed", f"{metadata}licenses/LICENSE"):
        if name not in names:
            raise WheelError(f"{wheel.name} lacks {name}")


def main() -> int:
    try:
        wheel = build(ROOT / "dist")
    except WheelError as error:
        print(f"anabranch: {error}", file=sys.stderr)
        return 1
    print(f"{wheel.relative_to(ROOT)} ({wheel.stat().st_size // 1024} KB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
