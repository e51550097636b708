"""Tokens of people, from an identity provider that answers over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request

from service.access import Access, Permission, Role, actor_of, needs
from service.access_settings import OidcSettings
from service.metrics import ServiceMetrics
from service.people import People
from service.problems import add_problem_handlers
from service.settings import SettingsError, load_settings
from service.signing_keys import SigningKeys
from tests.live.service_fixture import Service
from tests.live.token_issuer import AUDIENCE, Issuer, token_issuer

KEYS = {role: f"{role.value}-key-{'x' * 20}" for role in Role}


class House:
    """One route for each permission, which answers with the caller's name."""

    def __init__(self, issuer: Issuer, **settings: Any) -> None:
        self.now = 0.0
        self.metrics = ServiceMetrics()
        oidc = OidcSettings(
            issuer=issuer.url, audience=AUDIENCE, refetch_seconds=10, keys_seconds=600, **settings
        )
        self.signing = SigningKeys(oidc, self.metrics, clock=lambda: self.now)
        access = Access(KEYS, self.metrics, people=People(oidc, self.signing))
        router = access.router()
        for permission in Permission:

            @router.get(f"/{permission.value}")
            @needs(permission)
            async def endpoint(request: Request) -> str:
                return actor_of(request)

        app = FastAPI()
        app.router.routes.extend(router.routes)
        add_problem_handlers(app)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        )

    async def ask(self, path: str, token: str) -> httpx.Response:
        return await self.http.get(path, headers={"Authorization": f"Bearer {token}"})

    async def close(self) -> None:
        await self.http.aclose()
        await self.signing.close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with token_issuer() as made:
        made.add_key("first")
        yield made


@pytest_asyncio.fixture
async def house(issuer: Issuer) -> AsyncIterator[House]:
    made = House(issuer)
    yield made
    await made.close()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_person_is_let_in_by_a_token_of_each_accepted_kind(
    issuer: Issuer, house: House, algorithm: str
) -> None:
    issuer.add_key("k", algorithm)
    answer = await house.ask("/view", issuer.token("k"))
    assert (answer.status_code, answer.json()) == (200, "auth0|alice")
    assert (await house.ask("/experiment", issuer.token("k"))).status_code == 403


async def test_highest_of_several_roles_counts_and_machine_roles_do_not(
    issuer: Issuer, house: House
) -> None:
    token = issuer.token("first", roles=["viewer", "emit", "experimenter", "else"])
    assert (await house.ask("/experiment", token)).status_code == 200
    assert (await house.ask("/emit", token)).status_code == 403


@pytest.mark.parametrize("roles", [None, [], ["emit"], "evaluate", 7, {"viewer": True}])
async def test_person_without_a_role_here_is_refused_and_learns_which_there_are(
    issuer: Issuer, house: House, roles: Any
) -> None:
    answer = await house.ask("/view", issuer.token("first", roles=roles))
    assert answer.status_code == 403
    assert "admin, experimenter, viewer" in answer.json()["detail"]


async def test_role_is_found_inside_of_a_claim_and_translated(issuer: Issuer) -> None:
    house = House(issuer, role_claim="realm_access.roles", roles={"ab-admins": "admin"})
    token = issuer.token("first", realm_access={"roles": ["ab-admins"]})
    assert (await house.ask("/administer", token)).status_code == 200
    await house.close()


async def test_account_that_could_be_a_keys_name_is_told_from_it(issuer: Issuer) -> None:
    house = House(issuer, account_claim="preferred_username")
    for account, actor in (("ci", "person:ci"), ("alice@example.com", "alice@example.com")):
        token = issuer.token("first", preferred_username=account)
        assert (await house.ask("/view", token)).json() == actor
    await house.close()


def changed(token: str, part: int, **fields: Any) -> str:
    """Edited, with the signature that was right before."""
    parts = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(parts[part] + "=="))
    text = json.dumps({**content, **fields}).encode()
    parts[part] = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
    return ".".join(parts)


async def test_token_that_is_not_right_is_refused(issuer: Issuer, house: House) -> None:
    now = int(time.time())
    good = issuer.token("first")
    public = json.dumps(issuer.published["first"])
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "x", "exp": now + 60, "roles": ["admin"]}
    headers = {"kid": "first"}
    wrong = {
        "expired": issuer.token("first", exp=now - 31),
        "without an end": issuer.token("first", exp=None),
        "not yet": issuer.token("first", nbf=now + 60),
        "for another": issuer.token("first", aud="other"),
        "for nobody": issuer.token("first", aud=None),
        "of another issuer": issuer.token("first", iss="https://evil.example"),
        "of nobody": issuer.token("first", sub=None),
        "with other claims": changed(good, 1, roles=["admin"]),
        "unsigned": jwt.encode(claims, "", "none", headers=headers),
        "said to be unsigned": changed(good, 0, alg="none"),
        "signed with the public key": jwt.encode(
            claims, base64.b64encode(public.encode()).decode(), "HS256", headers=headers
        ),
        "with another algorithm": changed(good, 0, alg="ES256"),
        "with an extension": changed(good, 0, crit=["b64"], b64=False),
        "without a kid": changed(good, 0, kid=None),
        "with a key in it": changed(good, 0, kid="mine", jwk=issuer.published["first"]),
        "cut": good[:-10],
        "of dots": "..",
        "large": f"{good}{'x' * 20_000}",
    }
    assert (await house.ask("/view", good)).status_code == 200
    codes = {name: (await house.ask("/view", token)).status_code for name, token in wrong.items()}
    assert codes == dict.fromkeys(wrong, 401)


async def test_clock_of_the_issuer_may_be_a_little_off(issuer: Issuer, house: House) -> None:
    now = int(time.time())
    token = issuer.token("first", exp=now - 10, nbf=now + 10, iat=now + 10)
    assert (await house.ask("/view", token)).status_code == 200


async def test_rotated_key_is_fetched_when_a_token_names_it(issuer: Issuer, house: House) -> None:
    assert (await house.ask("/view", issuer.token("first"))).status_code == 200
    house.now += 11
    issuer.add_key("second")
    assert (await house.ask("/view", issuer.token("second"))).status_code == 200
    assert issuer.asked.count("/keys") == 2


async def test_unknown_keys_make_the_service_ask_once_in_a_while_only(
    issuer: Issuer, house: House
) -> None:
    for number in range(20):
        issuer.add_key(f"k{number}")
        issuer.published.pop(f"k{number}")
        answer = await house.ask("/view", issuer.token(f"k{number}"))
        assert answer.status_code == 401
        assert f"{issuer.url} does not have" in answer.json()["detail"]
    assert issuer.asked.count("/keys") == 1


async def test_withdrawn_key_stops_working_when_keys_are_fetched_again(
    issuer: Issuer, house: House
) -> None:
    token = issuer.token("first")
    assert (await house.ask("/view", token)).status_code == 200
    issuer.published.clear()
    house.now += 601
    await house.ask("/view", token)  # makes it look again, behind its back
    for _ in range(500):
        if (last := (await house.ask("/view", token)).status_code) == 401:
            break
        await asyncio.sleep(0.02)
    assert last == 401


async def test_issuer_that_is_away_leaves_known_keys_working_and_says_so_for_others(
    issuer: Issuer, house: House
) -> None:
    known = issuer.token("first")
    assert (await house.ask("/view", known)).status_code == 200
    issuer.away = True
    issuer.add_key("second")
    house.now += 700
    answer = await house.ask("/view", issuer.token("second"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    assert issuer.url in answer.json()["detail"]
    assert (await house.ask("/view", known)).status_code == 200
    assert (await house.ask("/view", KEYS[Role.VIEWER])).status_code == 200
    issuer.away = False
    house.now += 11
    assert (await house.ask("/view", issuer.token("second"))).status_code == 200
    failed = {"result": "failed"}
    name = "anabranch_oidc_key_fetches_total"
    assert house.metrics.registry.get_sample_value(name, failed) == 1


@pytest.mark.parametrize(
    "discovery",
    [
        pytest.param({"issuer": "https://evil.example"}, id="another issuer"),
        pytest.param({"jwks_uri": "http://evil.example/keys"}, id="keys by plain HTTP"),
        pytest.param({"jwks_uri": None}, id="no keys"),
    ],
)
async def test_discovery_that_cannot_be_trusted_is_not_followed(
    issuer: Issuer, house: House, discovery: dict[str, Any]
) -> None:
    issuer.discovery = discovery
    assert (await house.ask("/view", issuer.token("first"))).status_code == 503
    assert "/keys" not in issuer.asked


@pytest.mark.parametrize(
    "changed_key",
    [
        pytest.param({"use": "enc"}, id="for encryption"),
        pytest.param({"alg": "RS512"}, id="for another algorithm"),
        pytest.param({"n": "AQAB"}, id="of a few bits"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0"}, id="a shared secret"),
    ],
)
async def test_key_that_is_not_for_us_is_left_out(
    issuer: Issuer, house: House, changed_key: dict[str, Any]
) -> None:
    issuer.add_key("odd", **changed_key)
    assert (await house.ask("/view", issuer.token("odd"))).status_code == 401
    assert (await house.ask("/view", issuer.token("first"))).status_code == 200


def test_service_takes_tokens_of_the_issuer_in_its_settings(issuer: Issuer, tmp_path: Path) -> None:
    service = Service(
        tmp_path,
        ANABRANCH_OIDC__ISSUER=issuer.url,
        ANABRANCH_OIDC__AUDIENCE=AUDIENCE,
        ANABRANCH_OIDC__ROLES='{"readers": "viewer", "owners": "admin"}',
        ANABRANCH_OIDC__ALGORITHMS='["RS256"]',
    )
    service.start()
    try:

        def asked(kid: str, role: str) -> int:
            token = issuer.token(kid, roles=[role])
            headers = {"Authorization": f"Bearer {token}"}
            return httpx.get(f"{service.url}/v1/audit", headers=headers, timeout=60).status_code

        assert asked("first", "readers") == 403
        assert asked("first", "owners") == 503  # there is no ClickHouse
        assert asked("first", "admin") == 403
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ISSUER": "https://a.example"}, "issuer and audience must be given together"),
        ({"ISSUER": "http://a.example", "AUDIENCE": "b"}, "must begin with https://"),
        ({"ALGORITHMS": '["HS256"]'}, "RS256"),
        ({"ALGORITHMS": "[]"}, "at least 1"),
        ({"ROLES": '{"a": "emit"}'}, "viewer"),
    ],
)
def test_service_does_not_start_with_settings_that_let_in_the_wrong_ones(
    settings: dict[str, str], said: str
) -> None:
    given = {f"ANABRANCH_OIDC__{name}": value for name, value in settings.items()}
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings(given, state=Path("nowhere"))
