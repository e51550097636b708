"""The service as a command reaches it: its address, an administrator's key, its problems."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import Parameter

from service.errors import CommandError
from service.settings import DEFAULT_STATE, load_settings, read_credentials

_TIMEOUT_SECONDS = 30.0


@Parameter(name="*")
@dataclass(frozen=True)
class Target:
    """Which service, and who asks."""

    url: Annotated[
        str | None, Parameter(help="The service's address; by default that of the stack.")
    ] = None
    key_file: Annotated[
        Path | None,
        Parameter(help="A file with the key to send; by default the admin's of the stack."),
    ] = None
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE

    def ask(self, method: str, path: str, **request: Any) -> Any:
        """The answer's JSON, or None. A CommandError tells what the service said."""
        url = self._url()
        headers = {"Authorization": f"Bearer {self._key()}"}
        try:
            answer = httpx.request(
                method, f"{url}{path}", headers=headers, timeout=_TIMEOUT_SECONDS, **request
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise CommandError(
                f"the service at {url} does not answer: {why}; start it, or name another with --url"
            ) from error
        if answer.is_error:
            raise CommandError(_said(answer))
        return answer.json() if answer.content else None

    def _url(self) -> str:
        if self.url is not None:
            return self.url.rstrip("/")
        try:
            return str(json.loads((self.state / "stack.json").read_text())["service"])
        except (OSError, ValueError, LookupError, TypeError):
            service = load_settings(state=self.state).service
            return f"http://{service.host}:{service.port}"

    def _key(self) -> str:
        if self.key_file is not None:
            try:
                return self.key_file.read_text().strip()
            except OSError as error:
                raise CommandError(
                    f"--key-file {self.key_file} cannot be read: {error.strerror}"
                ) from error
        credentials = load_settings(state=self.state).credentials
        credentials = credentials or self.state / "credentials.json"
        admin = read_credentials(credentials).get("admin") if credentials.exists() else None
        if admin is None:
            raise CommandError(
                f"there is no administrator's key in {credentials}: name the stack's folder with "
                "--state, set ANABRANCH_CREDENTIALS, or give a key with --key-file"
            )
        return admin


def _said(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        wrong = [
            f"\n  {one['place']}: {one['problem']}"
            for one in problem.get("errors") or ()
            if "place" in one
        ]
        return f"{problem['title']}{''.join(wrong) or ': ' + problem['detail']}"
    except (ValueError, LookupError, TypeError):
        return f"the service answered {answer.status_code}: {answer.text[:200]}"
