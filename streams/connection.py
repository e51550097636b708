"""How aiokafka's clients are told of the Kafka in the settings."""

from __future__ import annotations

from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from anabranch.settings import KafkaSettings


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = create_ssl_context(cafile=settings.ssl_ca_file)
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = password.get_secret_value() if password else None
    return options


async def kafka_problem(settings: KafkaSettings) -> str | None:
    """None when a broker answers, else what stands in the way."""
    client = AIOKafkaClient(**client_options(settings))
    try:
        await client.bootstrap()
    except (KafkaError, OSError) as error:
        return str(error)
    finally:
        await client.close()
    return None
