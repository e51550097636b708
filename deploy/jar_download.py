"""Bring the missing jars: over HTTP, resumable and checked; or by `mvn` where that cannot be."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import escape

import httpx
import structlog

from deploy.jars import (
    PARALLEL,
    Jar,
    JarsError,
    cache_folder,
    cache_to_myself,
    locked_jars,
    missing_jars,
    take_from_maven_repository,
)
from service.settings import EmbeddedSettings

log = structlog.get_logger()

# So many bytes of this jar are there now; called from several threads.
Progress = Callable[[Jar, int], None]
Sleep = Callable[[float], None]

ATTEMPTS = 5
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class DownloadError(Exception):
    """One jar could not be brought from one address."""


def class_path(
    settings: EmbeddedSettings,
    progress: Progress = lambda jar, there: None,
    *,
    jars: Sequence[Jar] | None = None,
) -> list[Path]:
    """Every jar of the lock, whole, in the user's cache; without a request when all are there."""
    jars, folder = jars or locked_jars(), cache_folder(settings)
    if missing_jars(jars, folder):
        with cache_to_myself(folder):
            fill(folder, jars, settings.maven_url, progress)
    return [folder / jar.file for jar in jars]


def fill(folder: Path, jars: Sequence[Jar], maven_url: str, progress: Progress) -> None:
    # Looked at again under the lock: another process may have been at it meanwhile.
    wanted = missing_jars(jars, folder)
    absent = take_from_maven_repository(wanted, folder, Path.home() / ".m2" / "repository")
    for jar in set(jars) - set(absent):
        progress(jar, jar.size)
    if not absent:
        return
    try:
        download_all(absent, folder, maven_url, progress)
    except DownloadError as error:
        by_maven(missing_jars(jars, folder), folder, error)


def download_all(jars: Sequence[Jar], folder: Path, maven_url: str, progress: Progress) -> None:
    # Proxies and SSL_CERT_FILE are taken from the environment by httpx. Beside its own list of
    # authorities it gets the machine's, where a company's proxy stands with its certificate.
    trusted = httpx.create_ssl_context()
    trusted.load_default_certs()
    with (
        httpx.Client(timeout=30, follow_redirects=True, verify=trusted) as client,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):
        fetch = partial(download, client, folder=folder, maven_url=maven_url, progress=progress)
        waiting = [pool.submit(fetch, jar) for jar in jars]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            # What has begun stays as a .part and goes on from there the next time.
            pool.shutdown(cancel_futures=True)
            raise


def download(
    client: httpx.Client,
    jar: Jar,
    *,
    folder: Path,
    maven_url: str,
    progress: Progress,
    sleep: Sleep = time.sleep,
) -> None:
    address = f"{maven_url.rstrip('/')}/{jar.path}"
    part = folder / f"{jar.file}.part"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            receive(client, address, part, partial(progress, jar))
            verify(jar, part)
        except (httpx.HTTPError, DownloadError) as error:
            if attempt == ATTEMPTS or not worth_another_try(error):
                raise DownloadError(f"{address}: {reason(error)}") from error
            log.warning("kafka_jar_failed", address=address, reason=reason(error))
            sleep(0.5 * 2**attempt)
        else:
            part.replace(folder / jar.file)
            return


def receive(client: httpx.Client, address: str, part: Path, there: Callable[[int], None]) -> None:
    """Write the part to its end, from where it stopped when the server can go on from there."""
    have = part.stat().st_size if part.exists() else 0
    # A compressed answer has other byte positions than the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", address, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # the part is whole already, or too long, which its checksum tells
        answer.raise_for_status()
        resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                have += len(chunk)
                there(have)


def verify(jar: Jar, part: Path) -> None:
    if not jar.is_at(part):
        part.unlink()
        raise DownloadError("its checksum is not the one in the lock")


def reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__


def worth_another_try(error: Exception) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in {408, 425, 429} or error.response.is_server_error
    return True


def by_maven(jars: Sequence[Jar], folder: Path, failure: DownloadError) -> None:
    """Let `mvn` bring them: it knows the mirrors and passwords in the user's own settings."""
    program = shutil.which("mvn")
    if program is None:
        raise JarsError(unavailable(f"{failure}; there is no mvn to try instead"))
    log.warning("kafka_jars_by_maven", reason=str(failure), jars=len(jars))
    with TemporaryDirectory(dir=folder) as temporary:
        project, brought = Path(temporary, "pom.xml"), Path(temporary, "jars")
        project.write_text(maven_project(jars))
        answer = subprocess.run(
            [program, "-B", "-q", "-f", project, MAVEN_COPY, f"-DoutputDirectory={brought}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        for jar in jars:
            if jar.is_at(brought / jar.file):
                (brought / jar.file).replace(folder / jar.file)
    if absent := missing_jars(jars, folder):
        said = "\n".join(answer.stdout.splitlines()[:5])
        raise JarsError(
            unavailable(f"{failure}; mvn did not bring {absent[0].file} either: {said}")
        )


def unavailable(reason: str) -> str:
    return (
        f"Kafka's jars could not be brought: {reason}\n"
        "  what to do: check the network and try again (it goes on where it stopped), or name a "
        "mirror of Maven Central by ANABRANCH_EMBEDDED__MAVEN_URL; HTTPS_PROXY and SSL_CERT_FILE "
        "are used. Without a network: `anabranch up --kafka-in-memory`"
    )


def maven_project(jars: Sequence[Jar]) -> str:
    """Each jar alone, without what it needs: the lock has it already."""
    dependencies = "".join(
        f"<dependency><groupId>{escape(jar.group)}</groupId>"
        f"<artifactId>{escape(jar.artifact)}</artifactId><version>{escape(jar.version)}</version>"
        "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>"
        "</exclusions></dependency>"
        for jar in jars
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>anabranch</groupId>"
        "<artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
