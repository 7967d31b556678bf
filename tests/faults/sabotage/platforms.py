"""Rows about where it runs."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

WINDOWS = "tests/unit/test_windows.py::"

PLATFORMS = (
    Sabotage(
        "the command line works where Windows' Python lacks locks of files",
        "windows-missing-file-locks",
        "except ImportError:  # Windows, where nothing is up\n",
        "except ZeroDivisionError:\n",
        WINDOWS + "test_settings_are_read_and_nothing_is_up",
    ),
    Sabotage(
        "what can't run on Windows says so",
        "windows-embedded-refusal",
        "require_posix()\n",
        "",
        WINDOWS + "test_what_needs_more_says_in_one_line_to_use_wsl[up]",
    ),
    Sabotage(
        "a port that was given stays ours until a server listens there",
        "port-held-until-served",
        "_held.append(holder.detach())",
        "holder.close()",
        "tests/unit/test_free_port.py::test_a_port_is_given_once_before_a_server_listens_there",
    ),
    Sabotage(
        "an application's own package `api` is not taken for ours",
        "api-own-module",
        "str(package.parent)",
        '""',
        "tests/integration/test_processes.py::test_the_three_commands_do_what_the_three_processes_do_where_the_users_"
        "project_has_packages_of_their_names",
    ),
)
