"""Chunkers that know more of a text's structure than the built-in one: Markdown, HTML, source code. The extra
`structure` installs what they parse with; nothing here is imported before a source names it."""
