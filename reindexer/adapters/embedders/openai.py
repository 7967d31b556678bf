"""Embeddings over HTTP from OpenAI, or from any server that speaks its API.

It asks for vectors as base64: the client's own way, through lists of Python floats, costs many times more CPU. After a
refusal it probes the server with a harmless text. So it never blames an input for the form of a request (`openai_form`)
or for a server that refuses everything. It remembers what it finds out.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import httpx2
import openai

from reindexer.adapters.embedders.openai_answer import OtherDimensions, Refused, is_of_gateway, parse, status_error
from reindexer.adapters.embedders.openai_form import Form
from reindexer.adapters.http_deadline import HttpDeadline
from reindexer.core.errors import (
    DependencyUnavailable,
    InputRejected,
    RefusesAll,
    ReindexerError,
    TimedOut,
    TooManyInputs,
    TooSlow,
    TransientError,
)
from reindexer.core.per_process import PerProcess
from reindexer.core.profile import DEFAULT_DIMENSIONS, DEFAULT_MODEL
from reindexer.core.rate_limit import advertised_limits
from reindexer.core.text.batching import HARMLESS, RequestLimits, RequestSize
from reindexer.core.wording import counted
from reindexer.ports import EmbedderConfig, Embedding

CONNECT_S = 5.0

TRUST_S = 2.0
"""For this long after the server took as many harmless texts, a refusal of several inputs is blamed on an input without
another probe. A single input is never blamed without a probe."""

GIVEN_UP_S = 60.0
"""How long no other form is tried after the server took none."""

LATE_S = 0.1
_NOT_EMBEDDED = (httpx2.ConnectError, httpx2.ConnectTimeout, UnicodeEncodeError)
"""Of these the provider got nothing."""
_NO_TIME = "the embedding provider refuses a request, and there was no time to find out why"


class OpenAIEmbedder:
    """`Embedder` over HTTP. One client, with its own connections, for each process."""

    def __init__(
        self, *, api_key: str | None, base_url: str | None, model: str, dimensions: int, limits: RequestLimits,
        input_type: str | None = None,
    ) -> None:  # fmt: skip
        self._model = model
        self._input_type = input_type
        self._dimensions = dimensions
        self._limits = limits
        self._size = RequestSize(limits.max_inputs)
        is_azure = "api-version=" in urlsplit(base_url or "").query
        # Azure's API by deployment takes the key in a header of its own, and reads `Authorization` as a token.
        self._headers: dict[str, str | openai.Omit] = (
            {"api-key": api_key or "none", "Authorization": openai.Omit()} if is_azure else {}
        )
        self._form = Form()
        self._taken = (-TRUST_S, 0)
        """When harmless texts were last taken (monotonic), and how many."""
        self._refused_forms: dict[Form, OtherDimensions | None] = {}
        """Forms that were refused before the time was up: the next search continues after them."""
        self._look_again_at = 0.0
        self._cost = _Cost()
        self._deadline = HttpDeadline()
        self._client = PerProcess(partial(_new_client, api_key, base_url, self._deadline))
        self._client.get()  # now: the first request would wait for it

    @classmethod
    def from_config(cls, config: EmbedderConfig) -> OpenAIEmbedder:
        """See `reindexer.registry`."""
        return cls(
            api_key=config.api_key,
            base_url=config.base_url,
            model=config.model or DEFAULT_MODEL,
            dimensions=config.dimensions or DEFAULT_DIMENSIONS,
            limits=config.limits,
            input_type=config.input_type,
        )

    @property
    def fingerprint(self) -> str:
        """Model and dimensions; not the URL, since a gateway in between changes no vector."""
        return f"openai:{self._model}:{self._dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    @property
    def limits(self) -> RequestLimits:
        """The limits of one request: as set, or lower where the server was found to take less or to be slow."""
        return replace(self._limits, max_inputs=min(self._limits.max_inputs, self._size.inputs))

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """Sends one request, and a few more if it is refused. See `reindexer.ports.Embedder.embed`."""
        cost = self._cost.begin()
        try:
            embedding = self._in_time(texts, timeout_s)
        except ReindexerError as exc:
            exc.tokens, exc.may_cost = cost.tokens, cost.is_unsure
            raise
        # What an answer that can't be used may have cost is not known to the token.
        return replace(embedding, tokens=cost.tokens, is_unsure=cost.is_unsure)

    def _in_time(self, texts: Sequence[str], timeout_s: float) -> Embedding:
        began = time.monotonic()
        try:
            embedding = self._embed(texts, began + timeout_s)
        except TimedOut as exc:
            if len(texts) == 1:
                raise
            self._size.timed_out(len(texts))  # guard request-size-timeout-shrink
            raise TooSlow(f"{exc}: {len(texts)} texts were too many at once") from exc
        self._size.answered(len(texts), time.monotonic() - began, timeout_s)  # guard request-size-regrowth
        return embedding

    def _embed(self, texts: Sequence[str], until: float) -> Embedding:
        try:
            while True:
                if len(texts) > self._limits.max_inputs:
                    raise TooManyInputs(
                        f"the embedding provider takes {counted(self._limits.max_inputs, 'input')} a request"
                    )
                form = self._form
                try:
                    return self._ask(texts, form, until)
                except Refused as exc:
                    if self._form == form:  # else another thread has found a form that is taken
                        self._find_cause(exc, len(texts), form, until)
        except OtherDimensions as exc:
            if len(texts) == 1 and self._has_right_dimensions(until):
                raise TransientError(str(exc)) from exc
            raise RefusesAll(str(exc)) from exc

    def _find_cause(self, refused: Refused, inputs: int, form: Form, until: float) -> None:
        """Find out why a request was refused. Raises InputRejected, TooManyInputs or RefusesAll. If the form was the
        cause, returns, and another form is used from then on."""
        number = inputs if refused.may_be_number else 1
        taken_at, taken = self._taken
        # guard refusal-single-input-reask
        trusted = inputs > 1 and number <= taken and time.monotonic() - taken_at < TRUST_S
        if trusted or (harmless := self._refusal(number, form, until)) is None:  # guard refusal-harmless-text-probe
            raise refused.of_input() from refused
        if harmless.names_input_type:  # neither a smaller request nor another form cures that
            raise harmless.of_input_type(self._input_type) from refused
        if number > 1 and self._takes(1, form, until):
            most = number // 2
            while most > 1 and not self._takes(most, form, until):
                most //= 2
            # guard refusal-max-inputs-memory
            self._limits = replace(self._limits, max_inputs=min(self._limits.max_inputs, most))
            raise TooManyInputs(f"the embedding provider takes {counted(most, 'input')} a request") from refused
        if not refused.may_be_form or time.monotonic() < self._look_again_at:  # guard refusal-alternate-request-form
            raise refused.of_all() from refused
        self._adopt(self._another_form(refused, form, until))

    def _another_form(self, refused: Refused, form: Form, until: float) -> Form:
        """The first form that the server takes. Raises RefusesAll if there is none."""
        for each in form.others(refused.complaint):
            if each in self._refused_forms:
                continue
            told: OtherDimensions | None = None
            try:
                if self._takes(1, each, until):
                    return each
            except OtherDimensions as exc:
                told = exc
            self._refused_forms[each] = told
        others = [told for told in list(self._refused_forms.values()) if told is not None]
        self._refused_forms, self._look_again_at = {}, time.monotonic() + GIVEN_UP_S
        raise (RefusesAll(str(others[0])) if others else refused.of_all()) from refused

    def _adopt(self, form: Form) -> None:
        self._form, self._refused_forms = form, {}
        if not form.listed:
            self._limits = replace(self._limits, max_inputs=1)

    def _has_right_dimensions(self, until: float) -> bool:
        """Whether the vector of a harmless text has the right dimensions."""
        try:
            return self._takes(1, self._form, until)
        except OtherDimensions:
            return False

    def _takes(self, inputs: int, form: Form, until: float) -> bool:
        """Whether the server takes harmless texts in this form. Raises OtherDimensions."""
        return self._refusal(inputs, form, until) is None

    def _refusal(self, inputs: int, form: Form, until: float) -> Refused | None:
        """How the server refuses harmless texts in this form; None: it takes them. Raises OtherDimensions."""
        try:
            self._ask([HARMLESS] * inputs, form, until)
        except Refused as exc:
            return exc
        except DependencyUnavailable as exc:
            if time.monotonic() < until - LATE_S:
                raise
            raise TransientError(_NO_TIME) from exc  # the probe had less than a request's time
        self._taken = (time.monotonic(), inputs)
        return None

    def _ask(self, texts: Sequence[str], form: Form, until: float) -> Embedding:
        """Send one request. Raises Refused, OtherDimensions, or an error of ours."""
        if (left_s := until - time.monotonic()) <= 0:
            raise TransientError(_NO_TIME)
        cost = self._cost
        try:
            with _mapped_errors():
                body, headers = self._request(texts, form, left_s)
        except (ReindexerError, Refused) as exc:
            cost.is_unsure |= _may_cost(exc.__cause__)
            raise
        try:
            embedding = parse(body, headers, len(texts), self._dimensions)
        except BaseException:
            cost.is_unsure = True
            raise
        cost.tokens += embedding.tokens
        return replace(embedding, advertised=advertised_limits(headers))

    def _request(self, texts: Sequence[str], form: Form, timeout_s: float) -> tuple[bytes, Mapping[str, str]]:
        timeout = openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        with self._deadline.within(timeout_s):
            # Not `embeddings.create`, which takes 1.5 times as long to build the same request.
            response = self._client.get().post(
                "/embeddings",
                cast_to=httpx2.Response,
                body=form.body(texts, self._model, self._dimensions, self._input_type),
                options={"timeout": timeout, "security": {"bearer_auth": True}, "headers": self._headers},
            )
        return response.content, response.headers


class _Cost(threading.local):
    """What the requests of a thread's present call cost: the first one, and the probes after a refusal."""

    tokens = 0
    """As the provider counted them."""
    is_unsure = False
    """It may have counted more: an answer did not come, or could not be read."""

    def begin(self) -> _Cost:
        """A call begins."""
        self.tokens, self.is_unsure = 0, False
        return self


def _may_cost(cause: BaseException | None) -> bool:
    """Whether a provider may have embedded the texts of a request that failed."""
    if isinstance(cause, openai.APIStatusError):
        return is_of_gateway(cause.status_code)
    return not isinstance(cause.__cause__ if isinstance(cause, openai.APIConnectionError) else cause, _NOT_EMBEDDED)


def _new_client(api_key: str | None, base_url: str | None, deadline: HttpDeadline) -> openai.OpenAI:
    # guard deadline-dripping-answer
    http = openai.DefaultHttpxClient(event_hooks={"response": [deadline.on_response]})
    url = urlsplit(base_url or "")
    client = openai.OpenAI(
        api_key=api_key or "none",
        base_url=url._replace(query="").geturl() or None,
        default_query=dict(parse_qsl(url.query)),  # goes after the path of each request
        max_retries=0,
        http_client=http,
    )
    weakref.finalize(client, http.close)  # the OpenAI client does not close an HTTP client that it was given
    return client


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except (openai.APITimeoutError, TimeoutError) as exc:
        raise TimedOut("the embedding provider did not answer in time") from exc
    except openai.APIConnectionError as exc:
        raise DependencyUnavailable(
            f"the embedding provider can't be reached: {type(exc.__cause__ or exc).__name__}"
        ) from exc
    except openai.APIStatusError as exc:
        raise status_error(exc) from exc
    except openai.OpenAIError as exc:
        raise TransientError(f"the embedding provider's answer can't be read: {type(exc).__name__}") from exc
    except UnicodeEncodeError as exc:
        raise InputRejected("the text is not valid Unicode: it holds half of a surrogate pair") from exc
