FROM python:3.13.15-slim-trixie AS build
WORKDIR /src
RUN python -m venv --without-pip /venv
# The dependencies first, in a layer of their own, which an edit of our code does not build again.
COPY pyproject.toml constraints.txt ./
# With what keywords and traces need: who wants them can't install it in a container.
RUN python -c "import tomllib; it = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*it['dependencies'], *it['optional-dependencies']['keywords'], *it['optional-dependencies']['otel'], sep='\n')" > dependencies.txt \
    && pip --python /venv install --no-cache-dir --disable-pip-version-check -c constraints.txt -r dependencies.txt
COPY README.md LICENSE ./
COPY reindexer reindexer
COPY api api
COPY migrations migrations
RUN pip --python /venv install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.13.15-slim-trixie
RUN useradd --system --no-create-home --uid 10001 reindexer
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER reindexer
CMD ["reindexer", "--help"]
