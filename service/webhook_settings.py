"""Where the service tells others what it did by itself."""

from __future__ import annotations

import base64
import binascii
from typing import Self

from pydantic import Field, SecretStr, model_validator

from anabranch.settings import Section
from service.access_settings import is_safe_url

_PREFIX = "whsec_"
_FEWEST_BYTES = 24


class WebhookSettings(Section):
    """Signed messages to one address; off without a URL."""

    url: SecretStr | None = Field(
        None, description="Where to send; a secret, since many such addresses carry a token."
    )
    secret: SecretStr | None = Field(
        None,
        description="What messages are signed with: 24 bytes or more, as `whsec_` and base64, or "
        "as text.",
    )
    timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="How long the receiver may take to answer."
    )
    attempts: int = Field(
        10, ge=1, le=100, description="How often a message is tried, over about an hour for 10."
    )

    @model_validator(mode="after")
    def _signed_and_safe(self) -> Self:
        if (self.url is None) != (self.secret is None):
            raise ValueError("url and secret must be given together")
        # The texts do not show what was given: both are secrets.
        if self.url is not None and not is_safe_url(self.url.get_secret_value()):
            raise ValueError("url must begin with https:// (http:// on loopback alone)")
        if self.secret is not None and len(self.signing_key) < _FEWEST_BYTES:
            raise ValueError(f"secret must have {_FEWEST_BYTES} bytes or more")
        return self

    @property
    def signing_key(self) -> bytes:
        text = "" if self.secret is None else self.secret.get_secret_value()
        if not text.startswith(_PREFIX):
            return text.encode()
        try:
            return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError("secret begins with whsec_ and is not base64 after it") from None
