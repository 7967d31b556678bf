"""Rows about plug-ins: what a package of somebody else's must not be able to do."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

REGISTRY = "tests/unit/test_registry.py::"
CHECKED = "tests/unit/test_checked_chunker.py::"
CHUNKERS = "tests/integration/test_chunkers.py::"

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
        fails_with="RuntimeError: quotes broken",
    ),
    Sabotage(
        "plug-ins: vectors that no index can compare are not written",
        "plugin-vector-check",
        "if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():",
        "if False:",
        REGISTRY + "test_wrong_vectors_of_a_packages_embedder_are_tried_again",
    ),
    Sabotage(
        "plug-ins: spans that can't be chunks of the text are refused",
        "plugin-span-check",
        "if wrong := _wrong(span, before, text):",
        "if wrong := None:",
        CHECKED + "test_wrong_spans_are_one_line_without_the_text",
    ),
    Sabotage(
        "plug-ins: an unknown error of a chunker fails the item, and its text is not shown",
        "plugin-chunker-error",
        "except Exception as exc:",
        "except ZeroDivisionError as exc:",
        CHECKED + "test_an_error_is_named_by_its_type_and_its_text_is_not_shown",
        fails_with="ValueError: secret words",
    ),
    Sabotage(
        "plug-ins: a chunk that is too long is cut smaller",
        "plugin-chunk-too-long",
        "spans(text[span.start : span.end], max_tokens, overlap_tokens)",
        "(Span(0, span.end - span.start),)",
        CHECKED + "test_what_is_too_long_is_cut_by_the_built_in_one_and_the_rest_is_left",
    ),
    Sabotage(
        "plug-ins: a text that can't be cut fails its item alone",
        "chunker-failure-item",
        "except ChunkerFailed as exc:",
        "except ZeroDivisionError as exc:",
        CHUNKERS + "test_a_text_that_a_chunker_can_not_cut_fails_alone_and_is_named",
        fails_with="ChunkerFailed: the chunker 'lines'",
    ),
    Sabotage(
        "plug-ins: who compares goes on over a text that can't be cut",
        "reconcile-chunker-failure",
        "except ChunkerFailed:",
        "except ZeroDivisionError:",
        CHUNKERS + "test_a_text_that_a_chunker_can_not_cut_fails_alone_and_is_named",
    ),
    Sabotage(
        "plug-ins: a chunker whose extra is not installed is told before anything is cut",
        "chunker-extra-missing",
        "if find_spec(module) is None:",
        "if False:",
        REGISTRY + "test_a_chunker_whose_extra_is_not_installed_is_one_line_wherever_it_is_named",
    ),
)
