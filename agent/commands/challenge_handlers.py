"""What a client may ask of a shift-start check: that known parts come now, and what they must do."""

from __future__ import annotations

from concurrent.futures import Future

from agent.challenge.book import ChallengeBook, ChallengeRefused
from agent.challenge.progress import Challenge
from agent.challenge.requests import ChallengeRequest
from agent.commands.bodies import ChallengeBody
from agent.commands.dispatcher import Handler
from agent.commands.schema import Command
from agent.domain.command_answer import Answer, refused


class ChallengeHandlers:
    """Does `challenge`; the main thread uses it.

    Args:
        book: of the challenges.
    """

    def __init__(self, book: ChallengeBook) -> None:
        self._book = book

    def handlers(self) -> dict[str, Handler]:
        """Return verb -> what does it."""
        return {"challenge": self._begin}

    def _begin(self, command: Command) -> Answer | Future[Answer]:
        body = command.body
        assert isinstance(body, ChallengeBody)
        station = self._book.only_station() if body.station is None else body.station
        if station is None:
            return refused(f"which station? there is {', '.join(self._book.stations)}")
        request = ChallengeRequest(
            station=station,
            expect=body.expect,
            parts=body.parts,
            within_s=body.within_s,
            actor=command.actor,
            kind=body.kind,
            why=body.why,
        )
        try:
            outcome = self._book.begin(request)
        except ChallengeRefused as error:
            return refused(str(error))
        answer: Future[Answer] = Future()
        outcome.add_done_callback(lambda done: answer.set_result(_told(done.result())))
        return answer


def _told(challenge: Challenge) -> Answer:
    return Answer("done", challenge.sentence(), challenge.facts(), None, {"state": challenge.state})
