"""The requests of Zenodo's deposit interface: typed answers, retries, and a token that nobody sees."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from pipeline.release.zenodo.errors import ApiError, PublishError, UnreachableError
from pipeline.release.zenodo.model import Deposition, DepositMetadata, RemoteFile
from pipeline.release.zenodo.retries import TRANSIENT, TransientAnswerError, asked_pause_s, pause_s

BASE_URLS = {"sandbox": "https://sandbox.zenodo.org", "production": "https://zenodo.org"}
TOKENS = {"sandbox": "ZENODO_SANDBOX_TOKEN", "production": "ZENODO_TOKEN"}
"""Environment variables with the tokens."""
ATTEMPTS = 6
BLOCK = 2**20
TIMEOUT = httpx.Timeout(60.0, connect=20.0, write=120.0, read=300.0)
M = TypeVar("M", bound=BaseModel)
DEPOSITIONS = "/api/deposit/depositions"


class ZenodoClient:
    """A connection to one repository with one token.

    Args:
        base_url: https, or http to this machine.
        token: Goes into the header of requests to this host and nowhere else.
        attempts: How often a request is sent at most.

    Raises:
        PublishError: The address would send the token in the clear, or the token cannot stand in a header.
    """

    def __init__(self, base_url: str, token: str, *, attempts: int = ATTEMPTS) -> None:
        self.base_url = base_url.rstrip("/")
        place = urlsplit(self.base_url)
        local = _is_loopback(place.hostname or "")
        if place.scheme != "https" and not (place.scheme == "http" and local):
            raise PublishError(
                f"{place.scheme}://{place.hostname}: a token goes over https alone; give an https address"
            )
        if not token.isascii() or not token.isprintable() or not token.strip():
            raise PublishError("the token has characters that no header takes; copy it again from the site")
        self._origin = (place.scheme, place.netloc)
        self._token = token.strip()
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
            timeout=TIMEOUT,
            trust_env=not local,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create(self, metadata: DepositMetadata) -> Deposition:
        """A new draft; sent once: whoever gets no answer looks for its mark with `find_drafts`."""
        return self._deposition(self._send("POST", DEPOSITIONS, json=metadata.body(), again=False))

    def new_version(self, deposition: int) -> Deposition:
        """A draft of a new version of a published record; asked twice it is the same draft."""
        answer = self._deposition(self._send("POST", f"{DEPOSITIONS}/{deposition}/actions/newversion"))
        return self.get(draft_id(answer))

    def get(self, deposition: int) -> Deposition:
        """A deposition as it is now."""
        return self._deposition(self._send("GET", f"{DEPOSITIONS}/{deposition}"))

    def find_drafts(self, notes: str) -> list[Deposition]:
        """Drafts of this account with these notes, among the 100 newest depositions."""
        answer = self._send("GET", DEPOSITIONS, params={"status": "draft", "sort": "mostrecent", "size": 100})
        found = [self._model(Deposition, item) for item in self._json(answer)]
        return [d for d in found if d.metadata.notes == notes and not d.submitted]

    def latest(self, record: str) -> int:
        """The newest published version of a record: its number, or that of any version, or of all of them.

        Raises:
            ApiError: There is no such published record.
        """
        answer = self._send("GET", f"/api/records/{record}", follow_redirects=True)
        found = self._json(answer)
        latest = found.get("links", {}).get("latest") if isinstance(found, dict) else None
        if latest and self._same_origin(latest):
            found = self._json(self._send("GET", latest, follow_redirects=True))
        return int(found["id"])

    def set_metadata(self, deposition: int, metadata: DepositMetadata) -> Deposition:
        """Replace the metadata of a draft."""
        return self._deposition(self._send("PUT", f"{DEPOSITIONS}/{deposition}", json=metadata.body()))

    def files(self, deposition: int) -> dict[str, RemoteFile]:
        """Files of a deposition by name."""
        answer = self._send("GET", f"{DEPOSITIONS}/{deposition}/files")
        return {f.filename: f for f in (self._model(RemoteFile, item) for item in self._json(answer))}

    def delete_file(self, draft: Deposition, name: str) -> None:
        """Take a file out of a draft; one that is gone already is no error."""
        try:
            self._send("DELETE", self._file_url(draft, name))
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    def upload(self, draft: Deposition, path: Path, *, md5: str, tell: Callable[[int], None] = lambda _: None) -> None:
        """Stream a file into a draft, once; memory holds 1 MiB of it.

        Args:
            draft: Its ``links.bucket`` is where files go.
            path: The file.
            md5: Hex digest that it must have, here and there.
            tell: Called with the number of bytes sent so far.

        Raises:
            PublishError: The file is not what its checksum says.
            ApiError, UnreachableError: See `upload_checked` of `transfer`, which sends again.
        """
        sent = hashlib.md5(usedforsecurity=False)

        def blocks() -> Iterator[bytes]:
            count = 0
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    sent.update(block)
                    count += len(block)
                    yield block
                    tell(count)

        answer = self._send(
            "PUT",
            self._file_url(draft, path.name),
            content=blocks(),
            headers={"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"},
            again=False,
        )
        if sent.hexdigest() != md5:
            raise PublishError(
                f"{path}: has MD5 {sent.hexdigest()}, its list says {md5}: it was changed after the release was built; "
                "build it again"
            )
        stored = str(self._json(answer).get("checksum", "")).removeprefix("md5:")
        if stored != md5:
            raise ApiError(f"{path.name}: sent with MD5 {md5}, stored with {stored or 'none'}", status=200)

    def publish(self, deposition: int) -> None:
        """Ask once that a draft becomes a record; after any error `get` says whether it did."""
        self._send("POST", f"{DEPOSITIONS}/{deposition}/actions/publish", again=False)

    def _send(self, method: str, url: str, *, again: bool = True, **content: Any) -> httpx.Response:
        """One request; again where that is safe and the fault may pass.

        Raises:
            ApiError: An answer that is an error.
            UnreachableError: No answer.
        """

        def once() -> httpx.Response:
            response = self._http.request(method, url, **content)
            if response.status_code in TRANSIENT:
                raise TransientAnswerError(response)
            return response

        retrying = Retrying(
            stop=stop_after_attempt(self._attempts if again else 1),
            wait=pause_s,
            retry=retry_if_exception_type((TransientAnswerError, httpx.TransportError)),
            reraise=True,
        )
        try:
            response = retrying(once)
        except TransientAnswerError as error:
            response = error.response
        except httpx.TransportError as error:
            shown = f"{type(error).__name__} {error}".strip().replace(self._token, "***")
            raise UnreachableError(
                f"{method} {self._shown(url)}: no answer ({shown}); run the same command again: it goes on"
            ) from None
        if response.is_success:
            return response
        raise ApiError(
            f"{method} {self._shown(url)}: {self._said(response)}",
            status=response.status_code,
            pause_s=asked_pause_s(response),
        )

    def _said(self, response: httpx.Response) -> str:
        """What an error answer says, shortened."""
        try:
            body = response.json()
            parts = [str(body.get("message", ""))]
            parts += [
                f"{e.get('field', '')}: {e.get('message', e.get('messages', ''))}" for e in body.get("errors", [])
            ]
            text = "; ".join(p for p in parts if p)
        except (ValueError, AttributeError):
            text = " ".join(response.text.split())
        advice = {
            401: "; the token is not valid for this site",
            403: "; the token lacks a scope (deposit:write, deposit:actions), or the record is another account's",
        }.get(response.status_code, "")
        return f"HTTP {response.status_code}: {text[:300]}{advice}".replace(self._token, "***")

    def _file_url(self, draft: Deposition, name: str) -> str:
        bucket = str(draft.links.get("bucket", ""))
        if not self._same_origin(bucket):
            raise PublishError(
                f"draft {draft.id}: its bucket is '{self._shown(bucket)}', not on {self.base_url}: no token goes there"
            )
        return f"{bucket.rstrip('/')}/{quote(name)}"

    def _same_origin(self, url: str) -> bool:
        place = urlsplit(url)
        return (place.scheme, place.netloc) == self._origin

    def _shown(self, url: str) -> str:
        return url.partition("?")[0].replace(self._token, "***")

    def _deposition(self, response: httpx.Response) -> Deposition:
        return self._model(Deposition, self._json(response))

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise PublishError(
                f"{self._shown(str(response.url))}: the answer is not JSON; is {self.base_url} a Zenodo?"
            ) from error

    def _model(self, model: type[M], value: Any) -> M:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise PublishError(
                f"{self.base_url}: an answer does not fit: {'.'.join(map(str, first['loc']))}: {first['msg']}"
            ) from None


def draft_id(deposition: Deposition) -> int:
    """Number of the draft that ``links.latest_draft`` names; the deposition's own where it names none."""
    link = str(deposition.links.get("latest_draft") or "")
    tail = link.rstrip("/").rpartition("/")[2]
    return int(tail) if tail.isdigit() else deposition.id


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
