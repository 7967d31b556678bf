"""Rows about plug-ins: what a package of somebody else's must not be able to do."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

REGISTRY = "tests/unit/test_registry.py::"

PLUGINS = (
    Sabotage(
        "plug-ins: a name that two packages register is refused",
        "plugin-one-name-two-packages",
        "if others:",
        "if False:",
        REGISTRY + "test_two_packages_that_register_one_name_are_refused_by_name",
    ),
    Sabotage(
        "plug-ins: a fingerprint names embedder and dimensions",
        "plugin-fingerprint-form",
        "if not re.fullmatch(wanted, made.fingerprint, re.DOTALL):",
        "if False:",
        REGISTRY + "test_a_plugin_of_the_wrong_shape_is_one_line_that_names_its_package",
    ),
    Sabotage(
        "plug-ins: an unknown error may pass, and its text is not shown",
        "plugin-unknown-error",
        "except Exception as exc:",
        "except ZeroDivisionError as exc:",
        REGISTRY + "test_vectors_and_errors_of_a_packages_embedder_are_made_to_fit",
    ),
    Sabotage(
        "plug-ins: vectors that no index can compare are not written",
        "plugin-vector-check",
        "if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():",
        "if False:",
        REGISTRY + "test_wrong_vectors_of_a_packages_embedder_are_tried_again",
    ),
)
