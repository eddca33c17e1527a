"""POST /v1/embeddings."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from registry.tracing import current_span
from server.api.bodies import parse_body
from server.api.disconnect import ClientGone, while_connected
from server.api.generation import CLIENT_CLOSED, is_our_failure
from server.api.wishes import Wishes
from server.canary.tally import Answered, Tally

from .body import EmbeddingBody
from .document import render
from .embedder import Embedder
from .intake import EmbeddingIntake
from .job import EmbeddingJob
from .record import EmbeddingRecord


class EmbeddingRoutes:
    """The endpoint whose answers are vectors."""

    def __init__(self, *, intake: EmbeddingIntake, embedder: Embedder, tally: Tally) -> None:
        self._intake = intake
        self._embedder = embedder
        self._tally = tally

    async def create(self, request: Request) -> Response:
        body = parse_body(await request.body(), EmbeddingBody)
        job = await self._intake.job(body, Wishes.read(request.headers))
        request.state.model_headers = job.model.headers
        request.state.job_record = record = EmbeddingRecord(job, current_span())
        try:
            results = await while_connected(request.receive, self._embedder.embed(job.sequences))
        except ClientGone as error:
            record.fail(error)
            return Response(status_code=CLIENT_CLOSED)
        except BaseException as error:
            record.fail(error)
            if isinstance(error, Exception) and is_our_failure(error):
                self._judge(job, failed=True)
            raise
        record.end(results)
        self._judge(job, failed=False)
        answer = await render(job, results)
        return Response(answer, media_type="application/json", headers=job.model.headers)

    def _judge(self, job: EmbeddingJob, *, failed: bool) -> None:
        """What a canary's tally learns of it: nothing about tokens, of which there are none."""
        if job.model.arm is not None:
            self._tally.note(job.model.arm, Answered(failed=failed, ttft=None, per_token=None))
