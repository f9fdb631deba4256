"""An index behind a search service as a LangChain retriever: the graph uses it as it uses an index of its own."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator

from steper_agent.errors import ConfigError, SearchError
from steper_agent.records import Hit, Passage, Record
from steper_agent.retrieval.documents import HitRetriever
from steper_agent.retrieval.sources.normal import clean
from steper_agent.retrieval.wire import AskedMany, FoundMany, K, Served, Trouble
from steper_agent.web.access import read_token
from steper_agent.web.elsewhere import Elsewhere
from steper_agent.web.retry_after import seconds_in

R = TypeVar("R", bound=Record)
PASSING = frozenset({429, 502, 503})
"""HTTP codes after which the same request may go through."""
JSON = {"content-type": "application/json"}
PIECE = 64
"""Queries sent in one request."""
CONNECT = 5.0
"""Seconds to be let in."""
CONNECTIONS = 16
"""At once; further searches wait for one of them. httpx looks through all of them for every request."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before the first retry, doubled for each further one."""
LONGEST_ASKED = 60.0
"""Seconds that a service may ask to wait; beyond that it counts as away."""


def url_in(spec: object) -> str | None:
    """The URL that a path or a text is, if it is one. A path has lost a slash of it."""
    found = re.fullmatch(r"(https?):/{1,2}([^/].*)", str(spec))
    return f"{found[1]}://{found[2]}" if found else None


def connect(url: str, *, k: int = K) -> RemoteRetriever:
    """The retriever of the service at a URL, once it has answered; the token is that of $STEPER_TOKEN, if there is one.

    Raises:
        ConfigError: that is no URL, or the token cannot be sent.
        SearchError: the service does not answer, or does not let us in.
    """
    token = read_token(None)
    retriever = RemoteRetriever(url=url, token=SecretStr(token) if token else None, k=k)
    retriever.served()
    return retriever


class RemoteRetriever(HitRetriever):
    """Any number of threads and event loops may search at once; all share the connections of one client."""

    url: str
    token: SecretStr | None = Field(default=None, exclude=True, repr=False)
    timeout: float = Field(default=30.0, gt=0)
    """Seconds for one try."""
    retries: int = Field(default=4, ge=0)
    """Further tries where the service is away or busy; a search changes nothing, so it may be sent again."""
    _elsewhere: Elsewhere = PrivateAttr()
    _digest: str = PrivateAttr(default="")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        found = url_in(url) or ""
        try:
            host = httpx.URL(found).host
        except httpx.InvalidURL:
            host = ""
        if not host:
            raise ConfigError(f"{url!r} is no URL", where="url", fix="write http://HOST:PORT")
        return found.rstrip("/")

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        # Making a TLS context takes longer than a hundred searches, so only an address that needs one gets it.
        transport = httpx.AsyncHTTPTransport(
            verify=self.url.startswith("https:"),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        )
        client = httpx.AsyncClient(
            base_url=self.url,
            transport=transport,
            timeout=httpx.Timeout(self.timeout, connect=min(CONNECT, self.timeout), pool=None),
            headers={"authorization": f"Bearer {self.token.get_secret_value()}"} if self.token else {},
        )
        self._elsewhere = Elsewhere(client)

    @property
    def digest(self) -> str:
        """Of the index that answered last; asked for, where none has."""
        return self._digest or self.served().digest

    def served(self) -> Served:
        """What the service searches at the moment.

        Raises:
            SearchError: it does not answer, or does not let us in.
        """
        return self._elsewhere.call(self._served).result()

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """The k best passages, best first; none for a blank query.

        Raises:
            SearchError: the service does not answer, or refuses.
        """
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """The hits of every query, in their order.

        Raises:
            SearchError: the service does not answer, or refuses.
        """
        return self._elsewhere.call(lambda client: self._found(client, queries, k)).result()

    async def asearch(self, query: str, k: int) -> tuple[Hit, ...]:
        """As `search`."""
        return (await self.asearch_many([query], k))[0]

    async def asearch_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """As `search_many`."""
        return await asyncio.wrap_future(self._elsewhere.call(lambda client: self._found(client, queries, k)))

    def find(self, passage_id: str) -> Passage | None:
        """The passage of that id, if the index holds it.

        Raises:
            SearchError: the service does not answer, or refuses.
        """
        return self._elsewhere.call(lambda client: self._passage(client, passage_id)).result()

    def close(self) -> None:
        """Close the connections; done by itself once nobody holds the retriever."""
        self._elsewhere.close()

    async def _found(self, client: httpx.AsyncClient, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        asked = [place for place, query in enumerate(queries) if k > 0 and query.strip()]
        found: list[tuple[Hit, ...]] = [()] * len(queries)
        for start in range(0, len(asked), PIECE):
            places = asked[start : start + PIECE]
            asking = AskedMany(queries=tuple(clean(queries[place]) for place in places), k=k)
            answer = _read(FoundMany, await self._asked(client, "POST", "/search", asking), self.url)
            self._digest = answer.digest
            if len(answer.results) != len(places):
                raise _not_ours(self.url)
            for place, hits in zip(places, answer.results, strict=True):
                found[place] = hits
        return found

    async def _served(self, client: httpx.AsyncClient) -> Served:
        served = _read(Served, await self._asked(client, "GET", "/manifest"), self.url)
        self._digest = served.digest
        return served

    async def _passage(self, client: httpx.AsyncClient, passage_id: str) -> Passage | None:
        # A name of dots would be taken for a step upwards, and one with a slash for two.
        path = "/passages/" + quote(passage_id, safe="").replace(".", "%2E")
        response = await self._asked(client, "GET", path, allow=404)
        return None if response.status_code == 404 else _read(Passage, response, self.url)

    async def _asked(
        self, client: httpx.AsyncClient, method: str, path: str, asking: Record | None = None, *, allow: int = 200
    ) -> httpx.Response:
        """A response that is 200 or the one allowed, after as many tries as it takes."""
        more: dict[str, Any] = {"content": asking.model_dump_json(), "headers": JSON} if asking else {}
        tried = 0
        while True:
            try:
                response = await client.request(method, path, **more)
            except httpx.TransportError as broken:
                if tried == self.retries or not _is_passing(broken):
                    raise _unreachable(self.url, broken) from broken
                asked = 0.0
            else:
                if response.status_code in (200, allow):
                    return response
                asked = seconds_in(response.headers) or 0.0
                if tried == self.retries or response.status_code not in PASSING or asked > LONGEST_ASKED:
                    raise _refused(self.url, response)
            await asyncio.sleep(max(asked, _pause(tried)))
            tried += 1


def _is_passing(broken: httpx.TransportError) -> bool:
    """A service that took too long would only be given more to do."""
    return isinstance(broken, httpx.ConnectTimeout) or not isinstance(broken, httpx.TimeoutException)


def _pause(tried: int) -> float:
    """Seconds; no two clients that were refused together come back together."""
    return random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**tried)


def _read(kind: type[R], response: httpx.Response, url: str) -> R:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as bad:
        raise _not_ours(url) from bad


def _refused(url: str, response: httpx.Response) -> SearchError:
    try:
        told = Trouble.model_validate_json(response.content)
    except ValidationError:
        return SearchError(f"the service answers {response.status_code}", where=url, fix="check the address")
    return SearchError(
        f"the service refuses: {told.what} ({response.status_code})", where=f"{url}: {told.where}", fix=told.fix
    )


def _unreachable(url: str, broken: httpx.TransportError) -> SearchError:
    return SearchError(
        f"no answer: {str(broken) or type(broken).__name__}",
        where=url,
        fix="start it (steper index serve DIR), or check its address and its log",
    )


def _not_ours(url: str) -> SearchError:
    return SearchError(
        "that is no answer of a search service", where=url, fix="give the address of: steper index serve"
    )
