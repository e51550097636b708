"""`python -m deploy.jar_lock`: resolve Kafka's jars once, and write what was found to the lock.

Run by a developer who changes Kafka's version; the stack itself only ever reads the lock.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import httpx
import jgo
from jgo.maven import PythonResolver

from deploy.jars import LOCK, Jar
from service.settings import EmbeddedSettings

# Resolved apart: jgo lets the version rules of one root's parents reach into the other's tree.
ROOTS = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    # Kafka's own jars carry no bridge from slf4j to log4j; without one the broker logs nothing.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)

HEADER = """\
# The jars of the embedded Kafka. Written by `python -m deploy.jar_lock`; do not edit.
"""


def resolve(root: str) -> dict[tuple[str, str], Jar]:
    with tempfile.TemporaryDirectory() as folder:
        environment = jgo.build(root, cache_dir=Path(folder), resolver=PythonResolver())
        files = {path.name: path.read_bytes() for path in environment.all_jars}
        assert environment.lockfile is not None
        found = {}
        for locked in environment.lockfile.dependencies:
            content = files[f"{locked.artifactId}-{locked.version}.jar"]
            checksum = hashlib.sha256(content).hexdigest()
            jar = Jar(locked.groupId, locked.artifactId, locked.version, checksum, len(content))
            compare_with_repository(jar, content)
            found[jar.group, jar.artifact] = jar
        return found


def compare_with_repository(jar: Jar, content: bytes) -> None:
    """jgo only warns when a file differs from the repository's checksum; here that is the end."""
    address = f"{EmbeddedSettings().maven_url}/{jar.path}.sha1"
    published = httpx.get(address).raise_for_status().text.split()[0]
    if hashlib.sha1(content, usedforsecurity=False).hexdigest() != published:
        sys.exit(f"{jar.file} is not what {address} says")


def main() -> None:
    found: dict[tuple[str, str], Jar] = {}
    for root in ROOTS:
        for place, jar in resolve(root).items():
            known = found.setdefault(place, jar)
            if known != jar:
                sys.exit(f"{root} needs {jar.file}, but another root needs {known.file}")
    lines = [
        f'[[jar]]\ngroup = "{jar.group}"\nartifact = "{jar.artifact}"\nversion = "{jar.version}"\n'
        f'sha256 = "{jar.sha256}"\nsize = {jar.size}\n'
        for jar in sorted(found.values())
    ]
    LOCK.write_text("\n".join([HEADER, *lines]))
    sys.stdout.write(f"{LOCK}: {len(found)} jars\n")


if __name__ == "__main__":
    main()
