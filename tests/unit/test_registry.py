"""Plug-ins are found by name; whatever is wrong with one is a line that names it and its package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reindexer import registry
from reindexer.adapters.chunkers.code import GRAMMARS
from reindexer.adapters.embedders.hashing import HashingEmbedder
from reindexer.core.errors import DefinitionError, InputRejected, SourceError, TransientError, UsageError
from reindexer.core.profile import SIDES, Profile, other_vectors
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.core.text.chunks import Span, spans
from reindexer.ports import EmbedderConfig, Embedding, IndexConfig
from reindexer.settings import Settings
from reindexer.sources.definition import Wanted, draft
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources_file.document import parse_document
from reindexer.sources_file.read import parse_sources
from reindexer.wiring import account_of, embedder_of, is_in_process, token_counter_of, token_price
from tests.support.distributions import install

MODULE = '''
import re

import numpy as np
from reindexer.core.errors import InputRejected
from reindexer.core.text.batching import RequestLimits
from reindexer.core.text.chunks import Span
from reindexer.ports import EmbedderConfig, Embedding


class Letters:
    """Counts letters."""

    def __init__(self, config: EmbedderConfig) -> None:
        self.config = config
        self.dimensions = config.dimensions or 26
        self.fingerprint = f"letters:{config.model or 'plain'}:{self.dimensions}"
        self.limits = RequestLimits()

    def embed(self, texts, *, timeout_s):
        if "refused" in texts:
            raise InputRejected("it refuses this input")
        if "broken" in texts:
            raise RuntimeError("quotes broken")
        return Embedding([[1.0 + text.count(chr(97 + n)) for n in range(self.dimensions)] for text in texts], 0)


class Local(Letters):
    in_process = True

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__(config)
        self.fingerprint = "local-2:tiny:26"

    def count_tokens(self, text):
        return len(text)


class Shy(Letters):
    embed = None


class Nameless(Letters):
    def __init__(self, config):
        super().__init__(config)
        self.fingerprint = "v1"


class Needy:
    def __init__(self, config):
        raise ValueError("no\\nmodel is given")


def halves(text, max_tokens, overlap_tokens):
    return [Span(0, len(text) // 2), Span(len(text) // 2, len(text))]


class Words:
    def __call__(self, text, max_tokens, overlap_tokens):
        return [Span(found.start(), found.end()) for found in re.finditer(r"\\S+", text)]


class Half:
    def __init__(self, config):
        pass

    def prepare(self, *arguments): ...


number = 7
'''
NAMES = {"letters": "Letters", "local": "Local", "shy": "Shy", "nameless": "Nameless", "needy": "Needy"}
CHUNKERS = {"halves": "halves", "words": "Words", "needy": "Needy", "deaf": "Half", "number": "number"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for installed packages; the registry looks anew."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    _look_anew()
    yield folder
    _look_anew()
    sys.modules.pop("letters_plugin", None)


def _look_anew() -> None:
    for each in (registry.EMBEDDERS, registry.CHUNKERS, registry.INDEXES):
        vars(each).pop("_found", None)
    registry.chunker.cache_clear()


@pytest.fixture
def plugins(site: Path) -> Path:
    """A package with embedders, good and bad."""
    embedders = {name: f"letters_plugin:{value}" for name, value in NAMES.items()}
    embedders |= {"number": "letters_plugin:number", "gone": "letters_plugin:Gone", "lacks": "no_such_module:X"}
    chunkers = {name: f"letters_plugin:{value}" for name, value in CHUNKERS.items()}
    groups = {
        "reindexer.embedders": embedders, "reindexer.chunkers": chunkers,
        "reindexer.indexes": {"half": "letters_plugin:Half"},
    }  # fmt: skip
    install(site, "letters-plugin", groups, {"letters_plugin": MODULE})
    return site


def source(**profile: object) -> Source:
    return Source("s", "public", "t", ("id",), ("text",), profile=Profile(**profile))  # type: ignore[arg-type]


def settings(monkeypatch: pytest.MonkeyPatch, **env: str) -> Settings:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def test_built_in_ones_are_known_without_a_search_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda **_: pytest.fail("searches"))
    _look_anew()
    for name in ("openai", "static", "hashing"):
        registry.EMBEDDERS.require(name)
    registry.CHUNKERS.require("text")
    registry.INDEXES.require("qdrant")
    assert [registry.is_in_process(name) for name in ("openai", "static", "hashing")] == [False, True, True]


def test_what_is_known_of_built_in_embedders_without_an_import_is_so() -> None:
    for name in registry.EMBEDDERS.built_in:
        plugin = registry.EMBEDDERS.load(name)
        assert plugin.attribute("in_process", False) == registry.is_in_process(name)


def test_a_packages_embedder_is_chosen_by_a_profile_and_gets_what_it_says(
    plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETTERS_KEY", "sk-letters")
    file = parse_sources(
        parse_document(
            "reindexer.toml",
            '[profiles.p]\nprovider = "letters"\nmodel = "m"\ndimensions = 3\nbase_url = "http://there/v1"\n'
            'api_key_env = "LETTERS_KEY"\noptions = { device = "cpu", layers = [1, 2] }\n',
        )
    )
    profile = file.profile("p")
    assert Profile.from_json(profile.as_json()) == profile
    found = embedder_of(settings(monkeypatch, OPENAI_API_KEY="sk-openai", OPENAI_BASE_URL="http://openai/v1"))(
        Source("s", "public", "t", ("id",), ("text",), profile=profile)
    )
    assert found.fingerprint == "letters:m:3"
    config: EmbedderConfig = found._embedder.config  # type: ignore[attr-defined]
    assert (config.model, config.dimensions, config.base_url, config.api_key) == (
        "m",
        3,
        "http://there/v1",
        "sk-letters",
    )
    assert config.options == {"device": "cpu", "layers": [1, 2]}
    assert "sk-letters" not in repr(config)


def test_a_packages_embedder_is_told_which_side_it_embeds(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = source(provider="letters", document_input_type="passage", query_input_type="query", query_prefix="find: ")
    chosen = settings(monkeypatch)
    for side in SIDES:
        found = embedder_of(chosen, side=side)(there)
        config: EmbedderConfig = found._embedder.config  # type: ignore[attr-defined]
        assert (config.side, config.input_type) == (side, "query" if side == "query" else "passage")
        assert found.fingerprint == "letters:plain:26"


def test_a_packages_embedder_is_chosen_by_the_settings_and_gets_no_key_of_openai(
    plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(
        monkeypatch, REINDEXER_EMBEDDER="letters", OPENAI_API_KEY="sk-openai", OPENAI_BASE_URL="http://openai/v1"
    )
    found = embedder_of(chosen)(CONTEXT_ITEMS)
    assert found.fingerprint == "letters:plain:26"
    config: EmbedderConfig = found._embedder.config  # type: ignore[attr-defined]
    assert (config.model, config.dimensions, config.base_url, config.api_key) == (None,) * 4
    assert token_price(chosen, CONTEXT_ITEMS) is None
    assert not is_in_process(chosen, CONTEXT_ITEMS)
    chosen = settings(monkeypatch, REINDEXER_EMBEDDING_MODEL="other", REINDEXER_EMBEDDING_DIMENSIONS="4")
    assert embedder_of(chosen)(CONTEXT_ITEMS).fingerprint == "letters:other:4"


def test_an_embedder_that_says_so_computes_here_and_costs_nothing(
    plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, there = settings(monkeypatch), source(provider="local")
    assert is_in_process(chosen, there)
    assert token_price(chosen, there) == 0.0
    assert account_of(chosen)(there) == ""
    counter = token_counter_of(chosen, there)
    assert (counter.name, counter.count("seven")) == ("tiny", 5)


def test_two_providers_do_not_share_a_breaker(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = account_of(settings(monkeypatch))
    accounts = {account(source(provider=name)) for name in ("openai", "letters", "shy")}
    assert len(accounts) == 3


def test_an_unknown_name_is_refused_with_the_known_ones(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match=r"^REINDEXER_EMBEDDER: there is no embedder 'leters'; did you mean 'letters'\?"
    ):
        settings(monkeypatch, REINDEXER_EMBEDDER="leters")
    monkeypatch.delenv("REINDEXER_EMBEDDER")
    with pytest.raises(
        UsageError, match=r"^REINDEXER_INDEX: there is no index 'x'; there are qdrant, half; docs/extend"
    ):
        settings(monkeypatch, REINDEXER_INDEX="x")
    with pytest.raises(
        UsageError, match=r"^reindexer.toml:2: profiles.p.provider is not known: there is no embedder 'x'"
    ):
        parse_sources(parse_document("reindexer.toml", '[profiles.p]\nprovider = "x"\n'))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lacks", "can't be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("gone", "can't be imported: AttributeError: module 'letters_plugin' has no attribute 'Gone'"),
        ("number", "is int, and can't be called; see docs/extend.md"),
        ("shy", r"has no `embed` (method); see docs/extend.md"),
        ("nameless", "has the fingerprint 'v1'; it must be NAME:MODEL:DIMENSIONS, here nameless:MODEL:26"),
        ("needy", "can't be made: ValueError: no model is given"),
    ],
)
def test_a_plugin_of_the_wrong_shape_is_one_line_that_names_its_package(
    plugins: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    line = f"the embedder '{name}' of the package letters-plugin {words}"
    with pytest.raises(UsageError) as raised:
        registry.embedder(name, EmbedderConfig())
    assert str(raised.value) == line
    with pytest.raises(SourceError) as refused:
        embedder_of(settings(monkeypatch))(source(provider=name))
    assert str(refused.value) == f"source 's': {line}"


def test_an_index_that_lacks_a_method_is_refused(plugins: Path) -> None:
    with pytest.raises(UsageError, match=r"^the index 'half' of the package letters-plugin has no `\w+` \(method\)"):
        registry.index("half", IndexConfig())


@pytest.mark.parametrize("name", ["mine", "openai"])
def test_two_packages_that_register_one_name_are_refused_by_name(site: Path, name: str) -> None:
    others = ["alpha-plugin", "beta-plugin"] if name == "mine" else ["alpha-plugin"]
    for package in others:
        module = package.replace("-", "_")
        install(site, package, {"reindexer.embedders": {name: f"{module}:Letters"}}, {module: MODULE})
    named = "alpha-plugin and beta-plugin" if name == "mine" else "alpha-plugin and reindexer"
    with pytest.raises(
        UsageError, match=f"^two packages register the embedder '{name}': {named}; uninstall one of them$"
    ):
        registry.embedder(name, EmbedderConfig())
    assert registry.embedder("hashing", EmbedderConfig()).dimensions == 1536


def test_vectors_and_errors_of_a_packages_embedder_are_made_to_fit(plugins: Path) -> None:
    found = registry.embedder("letters", EmbedderConfig(dimensions=2))
    vectors = found.embed(["ab", "aab"], timeout_s=1).vectors
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, [[2, 2], [3, 2]])
    with pytest.raises(InputRejected):
        found.embed(["refused"], timeout_s=1)
    with pytest.raises(TransientError) as raised:
        found.embed(["broken"], timeout_s=1)
    assert str(raised.value) == "the embedder 'letters' of the package letters-plugin fails: RuntimeError"


@pytest.mark.parametrize("wrong", [[[1.0]], [[1.0, 2.0, 3.0]], [[1.0, float("nan")]], [[0.0, 0.0]], "no vectors"])
def test_wrong_vectors_of_a_packages_embedder_are_tried_again(
    plugins: Path, monkeypatch: pytest.MonkeyPatch, wrong: object
) -> None:
    found = registry.embedder("letters", EmbedderConfig(dimensions=2))
    monkeypatch.setattr(found._embedder, "embed", lambda texts, timeout_s: Embedding(wrong, 0))  # type: ignore[attr-defined, arg-type]
    with pytest.raises(TransientError, match="letters-plugin"):
        found.embed(["x"], timeout_s=1)


def test_a_packages_chunker_is_a_function_or_a_class_that_is_made_once(plugins: Path) -> None:
    assert registry.chunker("text") is spans
    assert registry.chunker("halves")("one two", 16, 0) == (Span(0, 3), Span(3, 7))
    assert registry.chunker("words")("one two", 16, 0) == (Span(0, 3), Span(4, 7))
    assert registry.chunker("words") is registry.chunker("words")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deaf", "the chunker 'deaf' of the package letters-plugin can't be made: TypeError: "),
        ("needy", "the chunker 'needy' of the package letters-plugin can't be made: TypeError: "),
        ("number", "the chunker 'number' of the package letters-plugin is int, and can't be called; see docs/extend.md"),
        ("halvs", "there is no chunker 'halvs'; did you mean 'halves'? there are text, html, markdown, code, code-c, "),
    ],
)  # fmt: skip
def test_a_chunker_that_can_not_be_used_is_one_line_of_its_source(plugins: Path, name: str, words: str) -> None:
    there = Source("s", "public", "t", ("id",), ("text",), chunker=name)
    with pytest.raises(SourceError) as raised:
        embedding_spec_of(there, HashingEmbedder(8))
    assert str(raised.value).startswith(f"source 's': {words}")
    assert "\n" not in str(raised.value)


def test_an_unknown_chunker_is_refused_in_the_sources_file_and_by_attach(plugins: Path) -> None:
    text = '[sources.p]\ntable = "t"\ntext = ["a"]\nchunker = "%s"\n'
    assert parse_sources(parse_document("reindexer.toml", text % "words")).sources["p"].chunker == "words"
    unknown = "there is no chunker 'wrods'; did you mean 'words'?"
    with pytest.raises(UsageError) as raised:
        parse_sources(parse_document("reindexer.toml", text % "wrods"))
    assert str(raised.value).startswith(f"reindexer.toml:4: sources.p.chunker is not known: {unknown}")
    with pytest.raises(DefinitionError) as refused:
        draft(Wanted("p", "t", ("a",), chunker="wrods"))
    assert str(refused.value).startswith(f"source 'p': {unknown}")


@pytest.mark.parametrize(
    ("name", "module"), [("markdown", "markdown_it"), ("code", "tree_sitter"), ("code-go", "tree_sitter")]
)
def test_a_chunker_whose_extra_is_not_installed_is_one_line_wherever_it_is_named(
    site: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    missing = f"the chunker '{name}' needs other packages: pip install 'reindexer[structure]'"
    with pytest.raises(UsageError) as raised:
        parse_sources(parse_document("reindexer.toml", f'[sources.p]\ntable = "t"\ntext = ["a"]\nchunker = "{name}"\n'))
    assert str(raised.value) == f"reindexer.toml:4: sources.p.chunker can't be used here: {missing}"
    with pytest.raises(DefinitionError) as refused:
        draft(Wanted("p", "t", ("a",), chunker=name))
    assert str(refused.value) == f"source 'p': {missing}"
    with pytest.raises(SourceError) as at_work:
        embedding_spec_of(Source("p", "public", "t", ("id",), ("text",), chunker=name), HashingEmbedder(8))
    assert str(at_work.value) == f"source 'p': {missing}"
    assert registry.chunker("html")("<p>x</p>", 16, 0) == (Span(0, 8),)


def test_a_name_stands_for_each_language_that_code_is_parsed_in() -> None:
    assert [name for name in registry.CHUNKERS.names() if name.startswith("code-")] == [
        f"code-{language}" for language in sorted(GRAMMARS)
    ]


@pytest.mark.parametrize("name", ["mine", "text"])
def test_two_packages_that_register_one_chunker_are_refused_by_name(site: Path, name: str) -> None:
    for package in ("alpha-plugin", "beta-plugin") if name == "mine" else ("alpha-plugin",):
        module = package.replace("-", "_")
        install(site, package, {"reindexer.chunkers": {name: f"{module}:halves"}}, {module: MODULE})
    with pytest.raises(UsageError, match=f"^two packages register the chunker '{name}': alpha-plugin and "):
        registry.chunker(name)


def test_a_name_with_hyphens_is_told_from_a_methods_version() -> None:
    before = Profile("sentence-models", "m")
    assert other_vectors(before, before, "sentence-models:m:8") is None
    assert other_vectors(Profile("hashing"), Profile("hashing"), "hashing-1:8") is None
    assert other_vectors(before, Profile("sentence", "m"), "sentence-models:m:8") is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ('options = "x"', "profiles.p.options is text; write its keys under a header of their own"),
        ('options = { api_key = "x" }', "profiles.p.options.api_key is refused: no key or password belongs into"),
        ("options = { at = 2026-01-01 }", "profiles.p.options.at is a date, which JSON can't hold"),
    ],
)
def test_options_are_a_table_that_json_can_hold_without_secrets(options: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_sources(parse_document("reindexer.toml", f"[profiles.p]\n{options}\n"))
