"""How the contestants are started, and what has to be put together first.

Quix Streams and bytewax want other versions than ours of what we share, so they get an environment
of their own in the user's cache. The JVM client is built by Maven into a temporary folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from deploy.bootstrap import private_uv, uv_environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "peers" / "requirements.txt"
JAVA_OPTIONS = ("-Xmx512m", "-XX:+UseParallelGC")


class Missing(Exception):  # noqa: N818  # a fact; the bench goes on without
    """A contestant cannot be started here; the text says why."""


class Programs:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def with_our_python(self, module: str) -> list[str]:
        return [sys.executable, "-m", module]

    def with_python_of_peers(self, module: str) -> list[str]:
        python = self._python_of_peers
        return [str(python), "-m", module]

    def java(self, main: str) -> list[str]:
        built = self._built
        places = [built / "classes", *sorted((built / "lib").glob("*.jar"))]
        return ["java", *JAVA_OPTIONS, "-cp", os.pathsep.join(map(str, places)), main]

    @cached_property
    def _python_of_peers(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "anabranch")
        wanted = hashlib.sha256(sys.version.encode() + REQUIREMENTS.read_bytes()).hexdigest()
        environment = cache / f"bench-peers-{wanted[:12]}"
        python, done = environment / "bin" / "python", environment / ".installed"
        if not done.exists():
            print("  making the environment of Quix Streams and bytewax", flush=True)
            uv = shutil.which("uv") or private_uv()
            _run([uv, "venv", "--clear", "--python", sys.executable, str(environment)])
            # Wheels alone: a package without one for this Python would be built for minutes.
            options = ["--only-binary", ":all:", "--python", str(python)]
            _run([uv, "pip", "install", *options, "-r", str(REQUIREMENTS)])
            done.touch()
        return python

    @cached_property
    def _built(self) -> Path:
        for program in ("mvn", "javac", "java"):
            if shutil.which(program) is None:
                raise Missing(f"there is no {program} on this machine")
        print("  building the JVM client with Maven", flush=True)
        pom, target = HERE / "jvm" / "pom.xml", self._folder / "jvm"
        _run(["mvn", "-q", "-B", "-f", str(pom), f"-Dtarget={target}", "package"])
        return target


def _run(command: Sequence[str]) -> None:
    answer = subprocess.run(
        command, env=uv_environment(), capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).strip().splitlines()[-5:]
        raise Missing(f"{Path(command[0]).name} failed: {' / '.join(said)}")
