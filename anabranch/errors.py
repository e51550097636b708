"""What the SDK raises; the tree with its meanings opens `anabranch/__init__.py`."""

from __future__ import annotations


class AnabranchError(Exception):
    """Whatever the SDK raises by itself."""


class InvalidEventError(AnabranchError, ValueError):
    """The event breaks its schema's meaning; the text names the field."""


class PersonalIdentifierError(InvalidEventError):
    """An id is a raw e-mail address or phone number; it must be a pseudonym."""


class PseudonymKeyError(AnabranchError, ValueError):
    """The key of pseudonyms could be guessed."""


class EmitterSettingsError(AnabranchError, ValueError):
    """The emitter could never work with these settings."""


class ConditionError(AnabranchError, ValueError):
    """A targeting condition means nothing; the text names the place and what would be right."""


class ExperimentsSettingsError(AnabranchError, ValueError):
    """Assignment could never work with these settings."""
