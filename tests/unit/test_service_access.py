from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.access import PERMISSIONS, Access, Permission, Role, is_loopback, load_keys, needs
from service.errors import CommandError
from service.metrics import ServiceMetrics
from service.problems import add_problem_handlers
from service.settings import Settings

KEYS = {role: f"{role.value}-key-{'x' * 20}" for role in Role}


def client(
    keys: dict[Role, str] | None, metrics: ServiceMetrics | None = None
) -> httpx.AsyncClient:
    """One route for each permission, named after it."""
    router = Access(keys, metrics or ServiceMetrics()).router()
    for permission in Permission:

        @router.get(f"/{permission.value}")
        @needs(permission)
        async def endpoint() -> str:
            return "done"

    app = FastAPI()
    app.router.routes.extend(router.routes)
    add_problem_handlers(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
async def test_role_may_do_what_the_table_says_and_nothing_else(
    role: Role, permission: Permission
) -> None:
    answer = await client(KEYS).get(f"/{permission.value}", headers=bearer(KEYS[role]))
    allowed = permission is Permission.PUBLIC or permission in PERMISSIONS[role]
    assert answer.status_code == (200 if allowed else 403)


def test_table_gives_each_role_the_least_it_needs() -> None:
    assert PERMISSIONS[Role.EMIT] == {Permission.EMIT}
    assert PERMISSIONS[Role.EVALUATE] == {Permission.EVALUATE}
    assert PERMISSIONS[Role.VIEWER] == {Permission.VIEW}
    assert Permission.EMIT not in PERMISSIONS[Role.EXPERIMENTER]
    assert PERMISSIONS[Role.ADMIN] == set(Permission) - {Permission.PUBLIC}


async def test_forbidden_names_the_roles_that_may_and_the_one_given() -> None:
    answer = await client(KEYS).get("/emit", headers=bearer(KEYS[Role.VIEWER]))
    assert answer.status_code == 403
    assert "admin or emit" in answer.json()["detail"]
    assert "viewer" in answer.json()["detail"]


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="nothing"),
        pytest.param("", id="an empty header"),
        pytest.param("Bearer", id="no key"),
        pytest.param("Bearer wrong-key-of-the-right-length", id="an unknown key"),
        pytest.param(f"Bearer {KEYS[Role.ADMIN]}x", id="a key and more"),
        pytest.param(f"Bearer {KEYS[Role.ADMIN][:-1]}", id="most of a key"),
        pytest.param(KEYS[Role.ADMIN], id="no scheme"),
        pytest.param("Basic not-base64!", id="basic that is not base64"),
        pytest.param("Basic " + base64.b64encode(b"no colon").decode(), id="basic without a colon"),
        pytest.param("Basic \xe9", id="basic that is not even ASCII"),
        pytest.param("Digest x", id="another scheme"),
        pytest.param("Bearer \xff\xfe", id="bytes that are no key"),
    ],
)
async def test_unknown_caller_gets_401_and_learns_how_to_send_a_key(
    authorization: str | None,
) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    answer = await client(KEYS).get("/emit", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["type"] == "/problems/unauthenticated"


async def test_basic_authentication_takes_the_key_as_the_password() -> None:
    answer = await client(KEYS).get("/emit", auth=("anyone", KEYS[Role.EMIT]))
    assert answer.status_code == 200


async def test_denied_requests_are_counted_by_reason() -> None:
    metrics = ServiceMetrics()
    caller = client(KEYS, metrics)
    await caller.get("/emit")
    await caller.get("/emit", headers=bearer("unknown"))
    await caller.get("/emit", headers=bearer(KEYS[Role.VIEWER]))
    await caller.get("/emit", headers=bearer(KEYS[Role.EMIT]))
    counted = {
        reason: metrics.registry.get_sample_value("anabranch_http_denied_total", {"reason": reason})
        for reason in ("no_key", "unknown_key", "role")
    }
    assert counted == {"no_key": 1, "unknown_key": 1, "role": 1}


async def test_denied_request_is_logged_without_its_key(capfd: pytest.CaptureFixture[str]) -> None:
    await client(KEYS).get("/emit", headers=bearer("secret-of-somebody"))
    await client(KEYS).get("/emit", headers=bearer(KEYS[Role.VIEWER]))
    output = "".join(capfd.readouterr())
    assert "secret-of-somebody" not in output
    assert KEYS[Role.VIEWER] not in output


def test_route_without_a_permission_cannot_be_made() -> None:
    router = Access(KEYS, ServiceMetrics()).router()

    async def endpoint() -> str:
        return "open to everyone"

    with pytest.raises(TypeError, match="/forgotten declares no permission"):
        router.add_api_route("/forgotten", endpoint)


async def test_open_access_answers_to_localhost_and_not_to_a_name_that_points_there() -> None:
    caller = client(None)
    assert (await caller.get("/administer")).status_code == 200
    rebound = await caller.get("/administer", headers={"Host": "evil.example"})
    assert rebound.status_code == 403


def settings(**service: object) -> Settings:
    return Settings.model_validate({"service": service})


def credentials(folder: Path, content: object) -> Settings:
    path = folder / "credentials.json"
    path.write_text(json.dumps(content))
    return Settings(credentials=path)


def test_load_keys_takes_the_roles_and_leaves_the_rest(tmp_path: Path) -> None:
    given = {"admin": "a" * 16, "emit": "e" * 16, "clickhouse": "a password"}
    keys = load_keys(credentials(tmp_path, given))
    assert keys == {Role.ADMIN: "a" * 16, Role.EMIT: "e" * 16}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param({"clickhouse": "x"}, "holds no key", id="no role"),
        pytest.param({"emit": "short"}, "16 or more", id="a short key"),
        pytest.param({"emit": "x" * 15 + "\n"}, "printable", id="a line break"),
        pytest.param({"emit": "x" * 20, "admin": "x" * 20}, "same key", id="one key for two"),
        pytest.param(["x"], "not a JSON object", id="a list"),
    ],
)
def test_load_keys_refuses_a_file_that_is_unsafe(
    tmp_path: Path, content: object, said: str
) -> None:
    with pytest.raises(CommandError, match=said):
        load_keys(credentials(tmp_path, content))


def test_service_without_keys_does_not_start_unless_it_is_told_to() -> None:
    with pytest.raises(CommandError, match="ANABRANCH_CREDENTIALS"):
        load_keys(settings())
    assert load_keys(settings(open_access=True)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_service_without_keys_never_listens_where_others_reach_it(host: str) -> None:
    with pytest.raises(CommandError, match=host):
        load_keys(settings(open_access=True, host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_is_loopback_knows_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "localhost.evil.example", ""])
def test_is_loopback_takes_nothing_else_for_it(host: str) -> None:
    assert not is_loopback(host)
