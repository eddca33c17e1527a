"""The one socket: takes connections, and gives each to the replica that should answer it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import JSONResponse, Response

from server.api.errors import RequestTimeout, error_response
from server.errors import ServingError, Unavailable
from server.settings import ApiSettings

from .choice import choose
from .exposition import FleetMetrics
from .fleet import Fleet
from .internal import Answer
from .replica import Replica
from .spare import SpareFile, is_out_of_files
from .visit import MODEL_IN_BODY, UNLOAD, Visit, read_visit

logger = logging.getLogger(__name__)

BACKLOG = 2048
PAUSE = 0.1  # seconds after a connection could not be taken
MOST_ATTEMPTS = 2  # replicas that may die over one request
RETRY_AFTER = 5.0  # seconds, told while no replica is up
LEEWAY = 10.0  # seconds for a replica to say that a request took too long
NOT_THERE = 404
BRIEF = 1.0  # seconds for somebody who is turned away
PIECE = 1 << 16


class Front:
    """Answers for the host as a whole itself: /healthz, /readyz, /metrics."""

    def __init__(self, fleet: Fleet, settings: ApiSettings) -> None:
        self._fleet = fleet
        self._settings = settings
        self._metrics = FleetMetrics(fleet)
        self._visits: set[asyncio.Task[None]] = set()
        self._spare = SpareFile()

    async def run(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        listener.listen(BACKLOG)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                logger.warning("no connection could be taken: %s", error)
                if is_out_of_files(error):
                    await self._turn_away(listener)
                await asyncio.sleep(PAUSE)
                continue
            connection.setblocking(False)
            self._begin(self._attend(connection))

    async def finish(self) -> None:
        """Wait until everybody who was let in has been attended to."""
        await asyncio.gather(*self._visits)
        self._spare.close()

    def rehome(self, visit: Visit) -> None:
        """Give a visit that was not answered to another replica, if it can be asked again."""
        self._begin(self._answered_or_told(visit.connection, self._place_again(visit)))

    async def _turn_away(self, listener: socket.socket) -> None:
        """Tell whoever is next to come back, with the one file that is left for that."""
        told = error_response(Unavailable("Too many connections.", retry_after=RETRY_AFTER))
        with self._spare.given_up(), contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.setblocking(False)
                async with asyncio.timeout(BRIEF):
                    await _see_off(connection, _message(told))

    async def _attend(self, connection: socket.socket) -> None:
        await self._answered_or_told(connection, self._receive(connection))

    async def _receive(self, connection: socket.socket) -> None:
        try:
            visit = await read_visit(connection, self._settings.max_body)
        except TimeoutError:
            raise RequestTimeout("The request did not arrive in time.") from None
        if visit is None:
            connection.close()
        elif visit.method == "GET" and visit.path in ("/healthz", "/readyz", "/metrics"):
            await _reply(connection, self._own(visit.path))
        elif visit.path == UNLOAD:
            await self._tell_all(visit)
        else:
            await self._place(visit)

    async def _place(self, visit: Visit) -> None:
        taking = self._fleet.taking
        if not taking:
            raise Unavailable("No replica is up at the moment.", retry_after=RETRY_AFTER)
        taking = [each for each in taking if each.number not in visit.tried] or taking
        # What no adapter matters to goes to the same one: uploads come in several requests.
        replica = choose(visit.model, taking) if visit.path in MODEL_IN_BODY else taking[0]
        if visit.path in MODEL_IN_BODY:
            level = replica.level_of(visit.model).name.lower()
            self._metrics.handed.labels(replica=str(replica.number), adapter=level).inc()
        await replica.hand(visit)

    async def _place_again(self, visit: Visit) -> None:
        if not visit.is_whole or len(visit.tried) >= MOST_ATTEMPTS:
            raise Unavailable("The replicas that had this request could not answer it.")
        await self._place(visit)

    async def _tell_all(self, visit: Visit) -> None:
        """Unload wherever it is; the answer is that of one that had it, if any did."""
        told = await asyncio.gather(*(self._tell(each, visit) for each in self._fleet.taking))
        answers = [answer for answer in told if answer is not None]
        if not answers:
            raise Unavailable("No replica is up at the moment.", retry_after=RETRY_AFTER)
        best = min(answers, key=lambda answer: (answer.status == NOT_THERE, answer.status))
        await asyncio.get_running_loop().sock_sendall(visit.connection, best.raw)
        visit.connection.close()

    async def _tell(self, replica: Replica, visit: Visit) -> Answer | None:
        """Its answer, which waits for running sequences; None of one that ended meanwhile."""
        within = self._settings.request_timeout + LEEWAY
        try:
            return await replica.ask(visit.raw, within=within)
        except OSError:
            return None

    def _own(self, path: str) -> Response:
        """What is answered for the host as a whole."""
        if path == "/metrics":
            return Response(self._metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
        if path == "/healthz":
            return JSONResponse({"status": "ok"})
        replicas = {str(each.number): each.reasons for each in self._fleet.replicas}
        reasons = ["the server is draining"] if self._fleet.is_leaving else []
        if not any(each.is_ready for each in self._fleet.replicas):
            reasons.append("no replica is ready")
        body = {
            "status": "not ready" if reasons else "ready",
            "reasons": reasons,
            "replicas": replicas,
        }
        return JSONResponse(body, 503 if reasons else 200)

    async def _answered_or_told(
        self, connection: socket.socket, work: Coroutine[Any, Any, None]
    ) -> None:
        """Do the work; what goes wrong is told to whoever asked."""
        try:
            await work
        except ServingError as error:
            await _reply(connection, error_response(error))
        except OSError:
            connection.close()  # it left meanwhile
        except Exception:
            connection.close()
            raise

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)


async def _reply(connection: socket.socket, response: Response) -> None:
    """A whole answer, after which the connection is closed."""
    try:
        await asyncio.get_running_loop().sock_sendall(connection, _message(response))
    except OSError:
        logger.debug("the client left before its answer")
    finally:
        connection.close()


async def _see_off(connection: socket.socket, message: bytes) -> None:
    """Answer whatever is asked; a connection that closes with bytes unread loses its answer."""
    loop = asyncio.get_running_loop()
    await loop.sock_recv(connection, PIECE)
    await loop.sock_sendall(connection, message)
    connection.shutdown(socket.SHUT_WR)
    while await loop.sock_recv(connection, PIECE):
        pass


def _message(response: Response) -> bytes:
    """As it goes over the connection, whose last it is."""
    response.headers["connection"] = "close"
    head = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}"]
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + bytes(response.body)
