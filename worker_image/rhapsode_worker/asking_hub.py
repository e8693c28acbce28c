"""Speak to a hub through its own client. Called by `fetching_hub`.

What the client raises becomes either a LoadError, which says what a person can do, or HubAway: try again later.
The token is the client's affair (HF_TOKEN, or what `hf auth login` left); it is never in our words, and neither is a
signed address.
"""

import functools
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from rhapsode_contract.wording import UNITS
from rhapsode_worker.errors import LoadError
from rhapsode_worker.hub_files import COMMIT, HubFile, Listing, choose, is_etag
from rhapsode_worker.hub_parts import Part, TooMuch

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

T = TypeVar("T")
ASK_S = 15.0
"""How long the hub may take to say what a repository holds."""
CHUNK_BYTES = 1 << 18
"""What the client collects before it writes. Its own 10 MB would be lost at every cut, and told of too rarely."""
_CHATTY = ("huggingface_hub", "httpx2", "httpcore2", "httpx", "httpcore", "urllib3")
"""Loggers that write down every address, signatures included."""
PATIENCE_S = 300.0
"""The longest pause that a hub may ask for: its limits are counted over as much. It could ask for a year."""
SLOW_S, SLOW_BYTES = 60.0, 1 << 16
"""What gives less in that time gives nothing, and is asked again."""
ANSWER_BYTES = 1 << 26
"""The longest answer to what a repository holds: a hundred thousand files."""
_PASSING = {408, 425, 429}
_SECRETS = re.compile(r"\?\S*|(?<=//)[^/@\s]*@")
"""What stands behind '?' in an address, and who asks there."""
_PORTS = {"http": 80, "https": 443}
_LIMIT = re.compile(r"r=0;\s*t=([0-9]{1,9})")
_SECONDS = re.compile(r"[0-9]{1,9}")
_TOKEN = re.compile(r"[\x21-\x7e]*")


class HubAway(Exception):
    """The hub cannot be asked just now; the message says why. It may say for how many seconds, too."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = min(pause_s, PATIENCE_S)


class Hub:
    """One repository of one hub."""

    def __init__(self, repo: str) -> None:
        self.repo = repo
        self._endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self._told = _SECRETS.sub("", self._endpoint)
        """How the hub is called before others."""
        self._brings = False
        """Whether it is asked for a file's bytes just now, or for words."""
        try:
            import huggingface_hub as client
            from huggingface_hub import file_download
            from huggingface_hub.utils._http import default_client_factory
        except ImportError as exc:
            raise LoadError(
                "SourceNotSupported",
                f"hf://{repo} needs the hub's client, and {exc.name} is not installed",
                "Install it: pip install 'rhapsode[openvino]', or pip install huggingface-hub.",
            ) from exc
        self._client: Any = client
        self._http_get: Any = file_download.http_get
        self._client.constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
        self._client.utils.disable_progress_bars()
        for chatty in _CHATTY:
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        self._client.set_client_factory(lambda: self._watch(default_client_factory()))
        _check_token()

    def look(self, revision: str, engine: str) -> Listing:
        """Return the files of a revision that an engine needs. Raises LoadError, HubAway."""
        self._brings = False
        api = self._client.HfApi(endpoint=self._endpoint)
        info = self._ask(
            revision, lambda: api.model_info(self.repo, revision=revision, files_metadata=True, timeout=ASK_S)
        )
        siblings = {str(one.rfilename): one for one in info.siblings or ()}
        commit = str(info.sha or "")
        if not COMMIT.fullmatch(commit):
            raise HubAway(f"{self._told} does not say which commit {revision} is")
        wanted = choose(list(siblings), engine, self.repo)
        return Listing(commit, tuple(self._describe(siblings[path], commit) for path in wanted))

    def download(self, file: HubFile, commit: str, part: Part) -> None:
        """Let the client write what is missing of a file. Raises LoadError, HubAway."""
        self._brings = True
        url = self._client.hf_hub_url(self.repo, file.path, revision=commit, endpoint=self._endpoint)
        headers = self._client.utils.build_hf_headers() | {"Accept-Encoding": "identity"}
        self._ask(
            commit,
            lambda: self._http_get(
                url,
                part,
                resume_size=part.size,
                headers=headers,
                expected_size=file.size,
                displayed_filename=file.path,
            ),
        )

    def _describe(self, sibling: Any, commit: str) -> HubFile:
        """Return a file with its size and digest; a mirror that leaves them out of the list is asked for each."""
        lfs = sibling.lfs or {}
        size, etag = sibling.size, str(lfs.get("sha256") or sibling.blob_id or "")
        if size is None or not is_etag(etag):
            url = self._client.hf_hub_url(self.repo, sibling.rfilename, revision=commit, endpoint=self._endpoint)
            told = self._ask(commit, lambda: self._client.get_hf_file_metadata(url, timeout=ASK_S))
            size, etag = told.size, str(told.etag or "")
        if not isinstance(size, int) or size < 0 or not is_etag(etag):
            raise LoadError(
                "FetchFailed",
                f"{self._told} tells no size and digest of {sibling.rfilename}: it cannot be checked",
                "Set HF_ENDPOINT to a hub or mirror that does.",
            )
        if size > (most := self._client.constants.MAX_HTTP_DOWNLOAD_SIZE):
            raise LoadError(
                "SourceNotSupported",
                f"{sibling.rfilename} has {UNITS['size'](size)}, and the hub's client fetches {UNITS['size'](most)}",
                "Name a repository whose weights are in parts, or put the file on a claim and use pvc://CLAIM/FILE.",
            )
        return HubFile(sibling.rfilename, size, etag)

    def _watch(self, client: Any) -> Any:
        """Let no answer be dealt with in silence: the client would wait as long as a stranger tells it to."""
        client.event_hooks["response"].append(self._bound)
        return client

    def _bound(self, response: Any) -> None:
        """Hold an answer to its time and size before it is read. Raises HubAway for one that says: later."""
        response.iter_raw = functools.partial(self._hurry, response.iter_raw)
        if not self._brings:
            response.iter_bytes = functools.partial(self._measure, response.iter_bytes)
        if response.status_code in _PASSING or response.status_code >= 500:
            raise HubAway(f"{self._told} answers {response.status_code}", _asked_pause(response.headers))

    def _hurry(self, read: Callable[..., Iterator[bytes]], *how: Any) -> Iterator[bytes]:
        """Let no answer trickle: its client waits for each byte anew."""
        began, came = time.monotonic(), 0
        for block in read(*how):
            came += len(block)
            if time.monotonic() - began >= SLOW_S:
                if came < SLOW_BYTES:
                    raise HubAway(f"{self._told} gave no more than {UNITS['size'](came)} in {UNITS['span'](SLOW_S)}")
                began, came = time.monotonic(), 0
            yield block

    def _measure(self, read: Callable[..., Iterator[bytes]], *how: Any) -> Iterator[bytes]:
        """Let no answer to a question fill the memory, unpacked as it is."""
        came = 0
        for block in read(*how):
            came += len(block)
            if came > ANSWER_BYTES:
                raise HubAway(f"{self._told} answers with more than {UNITS['size'](ANSWER_BYTES)}")
            yield block

    def _ask(self, revision: str, question: Callable[[], T]) -> T:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            return question()
        except (LoadError, HubAway, TooMuch):
            raise
        except HfHubHTTPError as exc:
            raise self._explain(exc, revision) from exc
        except OfflineModeIsEnabled as exc:
            raise HubAway("HF_HUB_OFFLINE is set") from exc
        except json.JSONDecodeError as exc:
            raise HubAway(f"{self._told} answers something that is no hub's answer") from exc
        except (HFValidationError, ValueError) as exc:
            raise LoadError("SourceNotSupported", _words(exc), "Name another repository, or use pvc://.") from exc
        except Exception as exc:  # whatever the network or a stranger's answer may do to the client
            raise HubAway(f"{self._told} does not answer: {_words(exc)}") from exc

    def _explain(self, exc: "HfHubHTTPError", revision: str) -> Exception:
        from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

        status, source = exc.response.status_code, f"hf://{self.repo}"
        if self._is_elsewhere(exc):
            return HubAway(f"{self._told} answers {status}")
        if isinstance(exc, GatedRepoError) or status in (401, 403):
            said = "is gated" if isinstance(exc, GatedRepoError) else "is private, or does not exist"
            return LoadError(
                "ModelGated",
                f"{source} {said}: {self._told} answers {status}{_token_words()}",
                "Accept the model's terms at the hub, and name the Secret of a token that may read it in"
                " spec.model.tokenSecretRef (on a laptop: HF_TOKEN).",
            )
        if isinstance(exc, RevisionNotFoundError):
            why = f"{source} has no revision {revision}"
            return LoadError("ModelNotFound", why, "Correct what follows '@' in spec.model.source.")
        if status == 404:
            why = f"{self._told} has no {source}{_token_words()}"
            return LoadError("ModelNotFound", why, "Correct spec.model.source; a private model needs a token.")
        return LoadError("FetchFailed", f"{self._told} answers {status}: {_words(exc)}", "Check HF_ENDPOINT.")

    def _is_elsewhere(self, exc: "HfHubHTTPError") -> bool:
        """Return whether a store of the hub answered, whose addresses are good for a while only."""
        here, there = urlsplit(self._endpoint), exc.response.url
        return (here.hostname, here.port or _PORTS.get(here.scheme)) != (
            there.host,
            there.port or _PORTS.get(there.scheme),
        )


def _token_words() -> str:
    from huggingface_hub import get_token

    return "" if get_token() else ", and no token was given"


def _words(exc: Exception) -> str:
    """Return an exception's first line, without any secret that may stand there."""
    from huggingface_hub import get_token

    first: Sequence[str] = str(exc).strip().splitlines() or [""]
    said = first[0].replace(token, "…") if (token := get_token()) else first[0]
    return _SECRETS.sub("", said)[:200] or type(exc).__name__


def _asked_pause(headers: Mapping[str, str]) -> float:
    """Return how many seconds a hub wants to be left alone, 0 if it does not say."""
    limit = _LIMIT.search(headers.get("ratelimit", ""))
    after = _SECONDS.fullmatch(headers.get("retry-after", "").strip())
    return float(limit[1] if limit else after[0] if after else 0)


def _check_token() -> None:
    """Raise LoadError if the token cannot be one. It is not shown: it may be nearly one."""
    from huggingface_hub import get_token

    if not _TOKEN.fullmatch(get_token() or ""):
        raise LoadError(
            "ModelGated",
            "the token holds a blank, or a letter that no token has",
            "Put the bare token into the Secret that spec.model.tokenSecretRef names (on a laptop: HF_TOKEN).",
        )
