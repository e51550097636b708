from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from pydantic import SecretStr, ValidationError

from service.settings import SettingsError, load_settings
from service.webhook_settings import WebhookSettings
from service.webhooks import signature

KEY = b"0123456789abcdef0123456789abcdef"
URL, SECRET = "https://hooks.example/T0KEN", "a secret of thirty characters."


def settings(url: str | None = URL, secret: str | None = SECRET) -> WebhookSettings:
    return WebhookSettings(
        url=None if url is None else SecretStr(url),
        secret=None if secret is None else SecretStr(secret),
    )


def test_signature_is_that_of_the_specification() -> None:
    mac = hmac.new(KEY, b'msg_1.1700000000.{"a":1}', hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(mac).decode()}"
    assert signature(KEY, "msg_1", 1_700_000_000, b'{"a":1}') == expected


def test_signing_key_is_what_stands_behind_the_prefix_in_base64() -> None:
    text = f"whsec_{base64.b64encode(KEY).decode()}"
    assert settings(secret=text).signing_key == KEY
    assert settings().signing_key == SECRET.encode()


@pytest.mark.parametrize(
    ("url", "secret", "sentence"),
    [
        pytest.param(URL, None, "together", id="no secret"),
        pytest.param(None, SECRET, "together", id="no address"),
        pytest.param("http://hooks.example/T0KEN", SECRET, "https://", id="in the clear"),
        pytest.param(URL, "too short", "24 bytes", id="short secret"),
        pytest.param(URL, "whsec_%%%", "not base64", id="no base64"),
    ],
)
def test_settings_say_what_would_be_right_and_show_no_secret(
    url: str | None, secret: str | None, sentence: str
) -> None:
    given = {"ANABRANCH_WEBHOOK__URL": url, "ANABRANCH_WEBHOOK__SECRET": secret}
    with pytest.raises(ValidationError, match=sentence):
        settings(url, secret)
    with pytest.raises(SettingsError, match=sentence) as raised:
        load_settings({name: value for name, value in given.items() if value is not None})
    assert "T0KEN" not in str(raised.value)
    assert "too short" not in str(raised.value)
    assert SECRET not in str(raised.value)


def test_settings_do_not_show_secrets_when_they_are_printed() -> None:
    shown = repr(settings())
    assert "T0KEN" not in shown
    assert SECRET not in shown
