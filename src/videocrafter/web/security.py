"""Who may send requests: the host name, the origin and the token, checked before any route.

A page of another site can make a browser send requests to a server on this machine. Such requests carry the other
site's origin, or name the server by the other site's name; both are refused.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from videocrafter.web.problems import Problem, problem_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

COOKIE = "videocrafter_session"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/login", "/static/studio.css", "/static/theme.js", "/static/login.js", "/static/icon.svg")
"""Paths that a browser needs in order to sign in."""
_LARGEST_LOGIN = 4096
_REMEMBERED = 10_000

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not "no-referrer": browsers then send "Origin: null" with our own forms.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self';"
        b" connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
)


class Gate:
    """ASGI middleware around the whole application.

    Args:
        application: the application.
        token: secret of a server that other machines reach; None for one that only this machine reaches.
        hosts: names besides those of the loopback interface. Without them, a server with a token accepts all names:
            a foreign page has no cookie for them.
        logins_per_minute: attempts to sign in.
    """

    def __init__(
        self, application: Any, *, token: str | None, hosts: tuple[str, ...] = (), logins_per_minute: int = 5
    ) -> None:
        self.application = application
        self.token = token
        self.hosts = tuple(name.lower() for name in hosts)
        self.logins_per_minute = logins_per_minute
        self._logins: deque[tuple[float, str]] = deque(maxlen=_REMEMBERED)
        self._guesses: deque[tuple[float, str]] = deque(maxlen=_REMEMBERED)
        # The cookie is not the token, so that it cannot be used to sign in elsewhere.
        self._session = None if token is None else hashlib.sha256(f"session:{token}".encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a problem."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return

        async def send_safely(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in given)]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check_host(headers)
            self._check_origin(scope["method"], headers)
            if scope["path"] == "/login" and scope["method"] == "POST":
                await self._login(scope, receive, send_safely)
                return
            if scope["path"] == "/logout" and scope["method"] == "POST":
                await _redirect(send_safely, "/login", f"{COOKIE}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0")
                return
            if not self._is_known(headers, scope) and scope["path"] not in _OPEN:
                if "text/html" in headers.get("accept", "") and scope["method"] == "GET":
                    await _redirect(send_safely, "/login")
                    return
                raise Problem(
                    401,
                    "token-required",
                    "this studio needs its token: open it in a browser to sign in, or send the header Authorization:"
                    " Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        except Problem as problem:
            await problem_response(problem)(scope, receive, send_safely)
            return
        await self.application(scope, receive, send_safely)

    def _check_host(self, headers: MutableMapping[str, str]) -> None:
        given = headers.get("host", "")
        name = (given.rpartition(":")[0] if _has_port(given) else given).lower()
        if name in LOOPBACK or name in self.hosts or (self.token is not None and not self.hosts):
            return
        raise Problem(
            421,
            "host-not-allowed",
            f"the server was addressed as {str(name)[:80]!r}; use 127.0.0.1 or localhost, or start it with"
            " --allow-host NAME",
        )

    def _check_origin(self, method: str, headers: MutableMapping[str, str]) -> None:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if method in _SAFE:
            # A link from another site may open a page, but nothing may be embedded there.
            if site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
                raise _foreign()
            return
        if site not in (None, "same-origin", "none"):
            raise _foreign()
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise _foreign()

    def _is_known(self, headers: MutableMapping[str, str], scope: Scope) -> bool:
        if self.token is None or self._session is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # Even the right token must not be recognised while guesses are refused: a guesser would learn it.
            self._check_attempts(self._guesses, scope)
            if hmac.compare_digest(given.encode(), self.token.encode()):
                return True
            self._guesses.append((time.monotonic(), _address(scope)))
        # Not http.cookies: it drops ours after an odd cookie of another program on this host.
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        given_sessions = [value for name, _, value in pairs if name == COOKIE]
        return any(hmac.compare_digest(value.encode(), self._session.encode()) for value in given_sessions)

    def _check_attempts(self, attempts: deque[tuple[float, str]], scope: Scope) -> None:
        """Raise Problem 429 if an address failed too often in the last minute."""
        now = time.monotonic()
        while attempts and now - attempts[0][0] > 60:
            attempts.popleft()
        address = _address(scope)
        if sum(one == address for _, one in attempts) >= self.logins_per_minute:
            raise Problem(
                429,
                "too-many-logins",
                f"at most {self.logins_per_minute} attempts per minute are allowed; wait a minute",
                headers={"Retry-After": "60"},
            )

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_attempts(self._logins, scope)
        except Problem:
            if not _is_page(scope):
                raise
            await _redirect(send, "/login?wait=1")
            return
        self._logins.append((time.monotonic(), _address(scope)))
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > _LARGEST_LOGIN or not message.get("more_body"):
                break
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if self.token is None or self._session is None:
            await _redirect(send, "/")
        elif hmac.compare_digest(given.encode(), self.token.encode()):
            # Nothing else of a proxy's headers is trusted: a program could give itself any address with them.
            secure = "; Secure" if _header(scope, b"x-forwarded-proto").split(b",")[0].strip() == b"https" else ""
            cookie = f"{COOKIE}={self._session}; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000{secure}"
            await _redirect(send, "/", cookie)
        else:
            await _redirect(send, "/login?wrong=1")


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name.lower() == wanted), b"")


def _is_page(scope: Scope) -> bool:
    return b"text/html" in _header(scope, b"accept")


def _foreign() -> Problem:
    return Problem(403, "foreign-origin", "the request came from a page of another site; open the studio itself")


async def _redirect(send: Send, place: str, cookie: str | None = None) -> None:
    headers = [(b"location", place.encode()), (b"content-length", b"0")]
    if cookie is not None:
        headers.append((b"set-cookie", cookie.encode()))
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
