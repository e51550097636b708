from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from anabranch import PseudonymKeyError, Pseudonyms, is_pseudonym
from anabranch.pseudonyms import personal_identifier

KEY = bytes(range(32))


def hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """RFC 2104, written out: not the module that the product uses."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def test_hmac_by_hand_gives_the_vector_of_rfc_4231() -> None:
    answer = hmac_by_hand(b"\x0b" * 20, b"Hi There").hex()
    assert answer == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"


@given(st.binary(min_size=32, max_size=200), st.text(min_size=1, max_size=50))
def test_pseudonym_is_128_bits_of_keyed_hmac_in_base32(key: bytes, raw: str) -> None:
    digest = hmac_by_hand(key, b"player\0" + raw.encode("utf-8", "surrogatepass"))
    made = Pseudonyms(key).player(raw)
    assert base64.b32decode(made.upper() + "======") == digest[:16]
    assert is_pseudonym(made)


def test_pseudonym_never_changes_between_releases() -> None:
    # From openssl: printf 'player\0jo@example.com' |
    #   openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f -binary | head -c 16 | base32
    assert Pseudonyms(KEY).player("jo@example.com") == "wj3w4df6smfkgzq52os3qc5xti"


def test_pseudonym_of_a_pseudonym_is_itself() -> None:
    pseudonyms = Pseudonyms(KEY)
    once = pseudonyms.player("jo")
    assert pseudonyms.player(once) == pseudonyms.session(once) == once


def test_pseudonyms_of_one_id_differ_by_kind_and_by_key() -> None:
    one, other = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    made = [one.player("7"), one.session("7"), one.device("7"), other.player("7")]
    assert len(set(made)) == 4


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(KEY, id="bytes"),
        pytest.param(base64.b64encode(KEY).decode(), id="base64"),
        pytest.param(SecretStr(base64.b64encode(KEY).decode()), id="secret"),
    ],
)
def test_key_is_the_same_in_each_of_its_forms(key: bytes | str | SecretStr) -> None:
    assert Pseudonyms(key).player("jo") == Pseudonyms(KEY).player("jo")


def test_text_of_32_characters_that_happens_to_be_base64_is_a_key_of_its_own_bytes() -> None:
    assert Pseudonyms("a" * 32).player("jo") == Pseudonyms(b"a" * 32).player("jo")


@pytest.mark.parametrize("key", [b"", b"k" * 31, "secret", base64.b64encode(KEY[:20]).decode()])
def test_short_key_is_refused_with_what_to_do_and_is_not_shown(key: bytes | str) -> None:
    with pytest.raises(PseudonymKeyError, match="openssl rand -base64 32") as refused:
        Pseudonyms(key)
    assert "secret" not in str(refused.value).replace("keep it secret", "")


def test_empty_raw_id_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Pseudonyms(KEY).player("")


def test_key_is_not_shown() -> None:
    assert "0001" not in repr(Pseudonyms("0001" * 8))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("jo@example.com", "e-mail address"),
        ("Jo.Doe+tag@mail.example.co.uk", "e-mail address"),
        ("mailto:jo@example.com", "e-mail address"),
        (" jo@example.com ", "e-mail address"),
        ("jörg@münchen.de", "e-mail address"),
        ("+491701234567", "phone number"),
        ("+49 170 123-45-67", "phone number"),
        ("+1 (555) 123-4567", "phone number"),
        ("tel:+15551234567", "phone number"),
        ("0049 170 1234567", "phone number"),
        ("(555) 123-4567", "phone number"),
        ("555-123-4567", "phone number"),
        ("1-555-123-4567", "phone number"),
    ],
)
def test_personal_identifier_is_recognised(text: str, kind: str) -> None:
    assert personal_identifier(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "15551234567",
        "0",
        "1767225600000",
        "123e4567-e89b-12d3-a456-426614174000",
        "00000000-0000-0000-0000-000000000000",
        "2026-01-31",
        "2026-01-31 12:00:00",
        "192.168.100.200",
        "player-555-1234",
        "user@host",
        "@jo",
        "s-7f3a",
        "+1",
        "1-2-3",
        "100-200-300-400",
    ],
)
def test_personal_identifier_is_not_seen_in_other_ids(text: str) -> None:
    assert personal_identifier(text) is None


@given(
    st.one_of(st.uuids().map(str), st.integers().map(str), st.binary(min_size=16).map(bytes.hex))
)
def test_personal_identifier_is_never_seen_in_numbers_uuids_and_hashes(text: str) -> None:
    assert personal_identifier(text) is None


@given(st.text(min_size=1, max_size=40))
def test_personal_identifier_is_never_seen_in_a_pseudonym(raw: str) -> None:
    assert personal_identifier(Pseudonyms(KEY).player(raw)) is None
