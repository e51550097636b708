from __future__ import annotations

import ast
import inspect

import anabranch


def test_sdk_exports_these_names_and_no_others() -> None:
    # A name that leaves this list breaks a service: that needs a new major version.
    assert set(anabranch.__all__) == {
        *("Emitter", "SyncEmitter", "Counters", "Reason", "REASONS"),
        *("Event", "EVENT_TYPES", "Exposure", "ExposureRef", "Invite", "Outcome", "TurnMetric"),
        *("Assignment", "AssignmentReason", "Experiments", "ExperimentsCounters"),
        *("EmitterSettings", "ExperimentsSettings", "KafkaSettings", "RegistrySettings"),
        *("Pseudonyms", "is_pseudonym", "milliseconds"),
        *("AnabranchError", "InvalidEventError", "PersonalIdentifierError"),
        *("PseudonymKeyError", "EmitterSettingsError", "ExperimentsSettingsError"),
        "ConditionError",
    }
    assert all(hasattr(anabranch, name) for name in anabranch.__all__)


def test_errors_of_the_sdk_are_one_tree_and_its_docstring_shows_it() -> None:
    errors = [
        one
        for name in anabranch.__all__
        if inspect.isclass(one := getattr(anabranch, name)) and issubclass(one, Exception)
    ]
    assert errors
    for error in errors:
        assert issubclass(error, anabranch.AnabranchError)
        assert error.__name__ in (anabranch.__doc__ or "")


def test_example_in_the_docstring_is_valid_and_uses_only_what_is_exported() -> None:
    text = (anabranch.__doc__ or "").partition("In asyncio:")[0]
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    example = "\n".join(line.removeprefix("    ") for line in lines)
    tree = ast.parse(example)
    (imported,) = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name for alias in imported.names} <= set(anabranch.__all__)
