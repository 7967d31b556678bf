"""Rows about URLs and other settings that are checked before they are used."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

ADDRESSES = (
    Sabotage(
        "addresses: QDRANT_URL without a port means its scheme's",
        "address-scheme-default-port",
        '"port": http_port(self.url)[0]',
        '"port": OWN_PORT',
        "tests/integration/test_qdrant_address.py::test_a_url_without_a_port_finds_qdrant_on_port_80",
        fails_with="QDRANT_URL names no port",
    ),
    Sabotage(
        "addresses: a web server's 404 is no lost collection",
        "address-foreign-404",
        " or (status == 404 and not is_of_qdrant(exc.content)):",
        ":",
        "tests/integration/test_qdrant_address.py::test_what_answers_and_is_not_qdrant_is_told_so_and_no_item_is_blamed",
    ),
    Sabotage(
        "settings: every URL is looked at by every process before it is used",
        "settings-url-validation",
        "settings._require_usable_urls()\n",
        "",
        "tests/integration/test_environment.py::"
        "test_a_process_tells_a_wrong_value_in_one_line_that_names_the_setting[some-listen]",
    ),
    Sabotage(
        "profiles: no collection hides new points",
        "profile-hidden-points-refusal",
        "if hides_points(collection.profile.collection):\n",
        "if False:\n",
        "tests/integration/test_profiles.py::"
        "test_a_stored_profile_that_hides_new_points_from_searches_is_the_sources_problem",
    ),
)
