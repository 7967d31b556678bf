"""The sources file says what `attach` would be told; a mistake in it is one line that names the line and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from reindexer.core.errors import UsageError
from reindexer.core.profile import Profile
from reindexer.sources.definition import Wanted
from reindexer.sources.relations import RelatedTable
from reindexer.sources_file.document import MAX_BYTES, parse_document
from reindexer.sources_file.read import SourcesFile, parse_sources, read_sources

FULL = r"""
[sources.products]
table = "shop.products"
key = ["sku"]
text = ["name", "description"]
template = '{name}\n{description}'
payload = ["price", "category"]
where = "published"
alias = "goods"
chunk_tokens = 400
chunk_overlap = 40
tenant = "category"
profile = "small"

[sources.Orders]
table = 'shop."Orders"'
text = "Note, Remark"

[profiles.small]
provider = "openai"
model = "text-embedding-3-small"
dimensions = 512
base_url = "https://llm.example/v1"
api_key_env = "SMALL_KEY"
distance = "dot"
document_prefix = "passage: "
query_prefix = "query: "
document_input_type = "passage"
query_input_type = "query"
[profiles.small.collection]
on_disk = true
replication_factor = 2
hnsw_config = { m = 8 }
quantization_config.scalar = { type = "int8", quantile = 0.99 }
"""

SMALL = Profile(
    "openai", "text-embedding-3-small", 512, "https://llm.example/v1", "SMALL_KEY", "dot",
    {
        "on_disk": True, "replication_factor": 2, "hnsw_config": {"m": 8},
        "quantization_config": {"scalar": {"type": "int8", "quantile": 0.99}},
    },
    document_prefix="passage: ", query_prefix="query: ", document_input_type="passage", query_input_type="query",
)  # fmt: skip


def parse(text: str) -> SourcesFile:
    return parse_sources(parse_document("reindexer.toml", text))


def test_a_file_says_all_that_a_source_can_be() -> None:
    file = parse(FULL)
    assert file.profiles == {"small": SMALL}
    assert list(file.sources.values()) == [
        Wanted(
            "products", "shop.products", ("name", "description"), ("sku",), ("price", "category"),
            "{name}\\n{description}", "published", "goods", 400, 40, "category", SMALL,
        ),
        Wanted("Orders", 'shop."Orders"', ("Note", "Remark")),
    ]  # fmt: skip


RELATED = r"""
[sources.books]
table = "shop.books"
text = ["title", "author.name", "tags.label"]
payload = ["publisher.city", "comments.*"]
[sources.books.related.author]
table = "shop.authors"
on = { author_id = "id" }
many = false
[sources.books.related.tags]
table = "shop.tags"
through = "shop.book_tags"
to = { tag_id = "id", lang = "lang" }
order = ["label"]
separator = "\n"
where = "NOT hidden"
limit = 20
[sources.books.related]
publisher = { of = "author", table = "shop.publishers" }
comments.table = "shop.comments"
comments.columns = "body, at"
"""


def test_a_file_says_all_that_a_relation_can_be() -> None:
    assert parse(RELATED).sources["books"].related == (
        RelatedTable("author", "shop.authors", on={"author_id": "id"}, many=False),
        RelatedTable(
            "tags", "shop.tags", through="shop.book_tags", to={"tag_id": "id", "lang": "lang"}, order=("label",),
            separator="\n", where="NOT hidden", limit=20,
        ),
        RelatedTable("publisher", "shop.publishers", of="author"),
        RelatedTable("comments", "shop.comments", columns=("body", "at")),
    )  # fmt: skip


def test_a_part_of_a_relation_has_its_line() -> None:
    file = parse(RELATED)
    lines = {"related.tags.where": 16, "related.tags": 10, "related.author.order": 6, "related.comments.columns": 21}
    assert {key: file.at("books", key) for key in lines} == {k: f"reindexer.toml:{n}" for k, n in lines.items()}


@pytest.mark.parametrize("text", ["", "# nothing\n", "[sources]\n[profiles]\n", "\r\n"])
def test_a_file_may_say_nothing(text: str) -> None:
    assert parse(text).sources == {}


@pytest.mark.parametrize("text", [
    "sources.a.table = 't'\nsources.a.text = 'x'",
    "sources = { a = { table = 't', text = ['x'] } }",
    "[sources]\na.table = 't'\na.text = ['x']",
    "['sources'.\"a\"]\r\n'table' = '''\r\nt'''\r\ntext = [ # one\r\n  'x',\r\n]\r\n",
])  # fmt: skip
def test_all_ways_to_write_a_table_are_the_same(text: str) -> None:
    assert parse(text).sources == {"a": Wanted("a", "t", ("x",))}


S = '[sources.p]\ntable = "shop.p"\ntext = ["name"]\n'  # three lines
R = S + "[sources.p.related.a]\n"  # four
T = R + "table = 'a'\n"
C = "[profiles.s.collection]\n"

WRONG: dict[str, tuple[str, str]] = {
    "a key with a typo": (S + "txet = 1", "4: sources.p.txet is not known; did you mean 'text'?"),
    "a key in capitals": (S + "Payload = []", "4: sources.p.Payload is not known; did you mean 'payload'?"),
    "a key like no other": (S + "zzz = 1", "4: sources.p.zzz is not known; known are table, key, text,"),
    "a key with a line end in it": (S + '"a\\nb" = 1', '4: sources.p."a\\nb" is not known; known are'),
    "another header": ("\n[source.p]", "2: source is not known; write [sources.NAME]"),
    "no header": ("table = 't'", "1: table stands under no header; write [sources.NAME] above it"),
    "a header without a name": ("[sources]\ntable = 't'", "2: sources.table is text; write [sources.NAME], with a name,"),
    "a list of sources": ("[[sources]]", "1: sources is a list; write [sources.NAME]"),
    "a source that is a list": ("\n[[sources.p]]", "2: sources.p is a list; write [sources.p] above the keys"),
    "a dot in the name": ("[sources.shop.p]\ntable = 't'", "1: sources.shop.p is not known: a source's name holds no dot; write [sources.shop_p]"),
    "relations that are none": (S + "related = 3", "4: sources.p.related is a whole number; write a header of its own for each"),
    "a relation that is none": (S + "related.a = 'shop.a'", "4: sources.p.related.a is text; write its keys under [sources.p.related.a]"),
    "a relation's typo": (T + "seperatr = 'b'", "6: sources.p.related.a.seperatr is not known; did you mean 'separator'?"),
    "a relation without table": (R, '4: sources.p.related.a has no table; write table = "schema.table"'),
    "a relation that nobody reads": (T, "4: source 'p': relation 'a' is not read; name a column of it, like a.name, in text or payload"),
    "a relation's bad name": (T.replace("related.a", "related.'a b'"), "4: source 'p': relation name 'a b': use up to 40 letters"),
    "a join that is none": (T + "on = 'id'", '6: sources.p.related.a.on is text; write { column = "column of the other table" }'),
    "an empty join": (T + "on = {}", "6: sources.p.related.a.on is empty; write something, or leave the key out"),
    "a join by a number": (T + "on = { id = 3 }", "6: sources.p.related.a.on.id is a whole number; write text in quotes"),
    "many of them": (T + "many = 'yes'", "6: sources.p.related.a.many is text; write true or false, without quotes"),
    "a separator that is none": (T + "separator = 1", "6: sources.p.related.a.separator is a whole number; write text in quotes"),
    "a limit of none": (T.replace("name", "a.name") + "limit = 0", "6: source 'p': relation 'a': limit is 0; use 1 to 10000"),
    "a bad name": (S.replace("p]", "'a b']"), "1: source name 'a b': use up to 40 letters, digits, '_' and '-'"),
    "no name": (S.replace("p]", "'']"), '1: sources."" has no name'),
    "no table": ("#\n[sources.p]\ntext = 'x'", '2: sources.p has no table; write table = "schema.table"'),
    "no text": ("[sources.p]\ntable = 't'", '1: sources.p has no text; write text = ["column"]'),
    "no column in text": ("[sources.p]\ntable = 't'\ntext = []", '3: sources.p.text has no text; write text = ["column"]'),
    "a number for text": (S + "where = 1", "4: sources.p.where is a whole number; write text in quotes"),
    "nothing": (S + "where = ' '", "4: sources.p.where is empty; write something, or leave the key out"),
    "NUL": (S + 'where = "a\\u0000"', "4: sources.p.where holds the character NUL"),
    "a number for a list": (S + "payload = 3", '4: sources.p.payload is a whole number; write a list of columns, like ["name",'),
    "a list in a list": (S + "payload = ['a', ['b']]", "4: sources.p.payload holds a list; write names of columns in quotes"),
    "an empty column": (S + "payload = ['a', '']", "4: sources.p.payload holds an empty name"),
    "a column twice": (S + "payload = 'a,a'", "4: source 'p': the payload column 'a' is named twice"),
    "text for a number": (S + "chunk_tokens = '400'", "4: sources.p.chunk_tokens is text; write a whole number, without quotes"),
    "a boolean for a number": (S + "chunk_tokens = true", "4: sources.p.chunk_tokens is a boolean; write a whole number"),
    "a fraction": (S + "chunk_tokens = 400.0", "4: sources.p.chunk_tokens is a number; write a whole number"),
    "a huge number": (S + "chunk_tokens = 99999999999", "4: sources.p.chunk_tokens is out of range; write a number from 0 to"),
    "too small chunks": (S + "chunk_tokens = 3", "4: source 'p': chunk_tokens is 3; use 16 to 1000000"),
    "too much overlap": (S + "chunk_tokens = 400\nchunk_overlap = 201", "5: source 'p': chunk_overlap is 201; use 0 to half of chunk_tokens"),
    "a tenant that is not stored": (S + "tenant = 'c'", "4: source 'p': the tenant column 'c' is no payload column; name it there too"),
    "a template of other columns": (S + "template = '{nme}'", "4: source 'p': the template names 'nme', which is not one of the text columns"),
    "a template that never ends": (S + "template = '{name'", "4: source 'p': the template can't be read"),
    "an alias that Qdrant refuses": (S + "alias = 'a/b'", "4: source 'p': Qdrant takes no alias 'a/b'; use letters"),
    "an alias twice": (S + S.replace("p]", "q]") + "alias = 'p'", "7: source 'q': the alias 'p' is that of the source 'p'; name another"),
    "an unknown profile": (S + "profile = 'smal'\n[profiles.small]", "4: source 'p': reindexer.toml has no profile 'smal'; did you mean 'small'?"),
    "a profile of which there is none": (S + "profile = 'x'", "4: source 'p': reindexer.toml has no profile 'x'; write [profiles.x]"),
    "a profile's key in a source": (S + "model = 'x'", "4: sources.p.model belongs under [profiles.NAME]; write profile ="),
    "a key in a profile": ("[profiles.s]\napi_key = 'sk-verysecret'", "2: profiles.s.api_key is refused: no key or password belongs"),
    "a key in a source": (S + "openai_api_key = 'sk-verysecret'", "4: sources.p.openai_api_key is refused: no key or password belongs"),
    "a long prefix": (f'[profiles.s]\ndocument_prefix = "{"x" * 1001}"', "2: profiles.s.document_prefix is too long; write at most 1000 characters"),
    "no prefix": ("[profiles.s]\nquery_prefix = ' '", "2: profiles.s.query_prefix is empty"),
    "a key for its variable": ("[profiles.s]\napi_key_env = 'sk-verysecret'", "2: profiles.s.api_key_env is no name of an environment variable"),
    "a password in a URL": ("[profiles.s]\nbase_url = 'https://u:verysecret@h/v1'", "2: profiles.s.base_url holds a user or a password"),
    "no URL": ("[profiles.s]\nbase_url = 'localhost'", "2: profiles.s.base_url is not a URL that can be read; write https://host/v1"),
    "an unknown provider": ("[profiles.s]\nprovider = 'cohere'", "2: profiles.s.provider is not known: there is no embedder 'cohere'; there are openai, static, hashing"),
    "no dimensions": ("[profiles.s]\ndimensions = 0", "2: profiles.s.dimensions is out of range; write a number from 1 to 65536"),
    "a collection that is none": ("[profiles.s]\ncollection = []", "2: profiles.s.collection is a list; write its keys under [profiles.s.coll"),
    "an unknown parameter": (C + "hsnw_config = {}", "2: profiles.s.collection.hsnw_config is not known; did you mean 'hnsw_config'?"),
    "a parameter that is ours": (C + "vectors.size = 3", "2: profiles.s.collection.vectors is not known; known are on_disk,"),
    "a parameter that hides points": (C + "optimizers_config = { prevent_unoptimized = true }", "2: profiles.s.collection.optimizers_config.prevent_unoptimized would keep new points from being found"),
    "an unknown parameter within": (C + "[profiles.s.collection.hnsw_config]\n\nmm = 1", "4: profiles.s.collection.hnsw_config.mm is not known to Qdrant"),
    "a wrong parameter": (C + "on_disk = 'yes'", "2: profiles.s.collection.on_disk does not fit: must be true or false"),
    "a wrong parameter within": (C + "quantization_config.scalar.type = 'int9'", "2: profiles.s.collection.quantization_config.scalar.type does not fit"),
    "a parameter that is missing": (C + "quantization_config.scalar.quantile = 0.5", "2: profiles.s.collection.quantization_config.scalar lacks 'type'"),
    "a date for a parameter": (C + "shard_number = 2026-01-01", "2: profiles.s.collection.shard_number is a date"),
    "no number": (C + "shard_number = nan", "2: profiles.s.collection.shard_number is out of range"),
    "what nests deeply": (C + "hnsw_config." + "a." * 3000 + "a = 1", "2: profiles.s.collection.hnsw_config.a.a.a.a"),
    "no quotes": ("[sources.p]\ntable = shop.p", "2: not TOML at column 9: Invalid value; text stands in quotes"),
    "a key twice": (S + "text = 'x'\n", "4: not TOML at column 11: Cannot overwrite a value; the key stands there twice"),
    "a key twice, at the end": (S + "text = 'x'", "4: not TOML at column 11: Cannot overwrite a value; the key stands there twice"),
    "a table twice": (S + S, "4: not TOML at column 11: Cannot declare ('sources', 'p') twice; write all of a table under one header"),
    "a list that never ends": (S + "payload = [\n'a',\n'b',\n", "4: not TOML: Invalid value; what begins here is not finished"),
    "a text that never ends": (S + 'where = """\n\n\n', "4: not TOML: Unterminated string; what begins here is not finished"),
    "a list without a comma": (S + "payload = ['a' 'b']", "4: not TOML at column 16: Unclosed array; is a quote, a comma or ] missing?"),
    "a number of 5,000 digits": (S + f"chunk_tokens = {'9' * 5000}", "4: a number has too many digits"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_one_line_that_names_the_line_and_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    told = str(raised.value)
    assert told.startswith(f"reindexer.toml:{words}")
    assert "\n" not in told
    assert len(told) < 400
    assert "verysecret" not in told


def test_lists_in_lists_without_end_are_refused() -> None:
    with pytest.raises(UsageError, match="nest too deeply"):
        parse("a = " + "[" * 5000)


def written(directory: Path, content: bytes) -> Path:
    file = directory / "my.toml"
    file.write_bytes(content)
    return file


def test_the_mark_that_editors_on_windows_write_is_no_mistake(tmp_path: Path) -> None:
    file = read_sources(written(tmp_path, b"\xef\xbb\xbf" + S.replace("\n", "\r\n").encode()))
    assert file
    assert file.sources.keys() == {"p"}


@pytest.mark.parametrize(("content", "words"), [
    (b"\xff\xfe[\0s\0", ":1: this is not UTF-8; save the file in that encoding"),
    (b"\n# caf\xe9", ":2: this is not UTF-8; save the file in that encoding"),
    (b"#" * (MAX_BYTES + 1), " is larger than 1 MB; is it the sources file?"),
])  # fmt: skip
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(UsageError) as raised:
        read_sources(file)
    assert str(raised.value) == f"{file}{words}"


def test_the_default_file_may_be_missing_and_a_named_one_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_sources(None) is None
    with pytest.raises(
        UsageError, match=r"my\.toml: REINDEXER_SOURCES names a sources file that can't be read: No such"
    ):
        read_sources(Path("my.toml"))
    (tmp_path / "reindexer.toml").mkdir()
    with pytest.raises(
        UsageError, match=r"reindexer\.toml: there is a sources file that can't be read: Is a directory"
    ):
        read_sources(None)
    (tmp_path / "reindexer.toml").rmdir()
    (tmp_path / "reindexer.toml").write_text(S)
    file = read_sources(None)
    assert file
    assert file.at("p", "text") == "reindexer.toml:3"
    assert file.at("p", "where") == "reindexer.toml:1", "of what is not there, the header"
