"""An identity provider: discovery, public keys and signed tokens, over real HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "anabranch"
_MAKERS = {
    "RS256": (lambda: rsa.generate_private_key(65_537, 2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class Issuer:
    def __init__(self) -> None:
        self.away = False
        self.asked: list[str] = []
        self.discovery: dict[str, Any] = {}
        self._private: dict[str, tuple[Any, str]] = {}
        self.published: dict[str, dict[str, Any]] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        documents = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                **self.discovery,
            },
            "/keys": {"keys": list(self.published.values())},
        }
        found = None if self.away else documents.get(request.path)
        body = json.dumps(found).encode()
        request.send_response(503 if found is None else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def add_key(self, kid: str, algorithm: str = "RS256", **changed: Any) -> None:
        made: tuple[Any, Any] = _MAKERS[algorithm]
        make, form = made
        private = make()
        self._private[kid] = (private, algorithm)
        public = json.loads(form.to_jwk(private.public_key()))
        self.published[kid] = {**public, "kid": kid, "use": "sig", **changed}

    def token(self, kid: str, **changed: Any) -> str:
        """Of somebody who may do what a viewer may; None takes a claim away."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "auth0|alice",
            "iat": now,
            "exp": now + 300,
            "roles": ["viewer"],
            **changed,
        }
        private, algorithm = self._private[kid]
        given = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(given, private, algorithm, headers={"kid": kid})


@contextmanager
def token_issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    try:
        yield issuer
    finally:
        issuer.stop()
