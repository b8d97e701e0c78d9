"""The number of a station's frame: one count that goes on over restarts of the agent and of its learner.

A camera's frames are numbered from 1 in each run of the agent, and the learner may die and begin again in the
middle of a run. Whatever is said in frames (how long a version has answered, a cool-down, a window of
pictures) is said in this count, which is stored with what answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class InForce:
    """Since when a station's product is judged with what was learned of it, in frames of the camera.

    Attributes:
        run: id of the agent's run; another one for each time that the product comes into force.
        before: the number of the camera's last frame that was of another product, or judged otherwise.
        since_s: when that was, by the clock that frames are captured by.
    """

    run: str
    before: int = 0
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FrameCount:
    """Frames of a station so far. It never goes back, and grows by no more than the camera's frames.

    Attributes:
        run: id of the agent's run in which the camera numbers its frames.
        base: frames before the camera began to number them; less than 0 where it had numbered more frames of
            other products than there were of this one.
        number: that the camera gave the newest frame; 0 before the first.
        at_s: when that was captured, by a clock that only goes forward during a run.
    """

    run: str = ""
    base: int = 0
    number: int = 0
    at_s: float = 0.0

    @property
    def frame(self) -> int:
        """Number of the newest frame."""
        return self.base + self.number

    def in_run(self, now: InForce) -> FrameCount:
        """Return the count in a run of the agent: it goes on where it is known already, or begins with it.

        Within a run the frames are counted too that were captured while nobody learned: what answers has
        answered them. Those before the product came into force are not: another one was made then.
        """
        if now.run == self.run:
            return self
        return FrameCount(now.run, self.frame - now.before, now.before, now.since_s)

    def seen(self, number: int, at_s: float) -> FrameCount | None:
        """Return the count after a frame; None for one that is late, because a newer one was seen already.

        Args:
            number: that the camera gave it.
            at_s: when it was captured.
        """
        if number > self.number:
            return replace(self, number=number, at_s=at_s)
        if at_s > self.at_s:  # newer, and its number is lower: the camera numbers from 1 again
            return FrameCount(self.run, self.frame, number, at_s)
        return None


class OthersCount:
    """Frames of a station that are of other products than the one in force; the inspector's thread alone.

    A learner counts the frames of its product, the camera numbers all of them.

    Args:
        since: since when the product in force is that.
    """

    def __init__(self, since: InForce | None = None) -> None:
        self.since, self._before = since, 0 if since is None else since.before
        self._others = 0

    def own(self, number: int, *, other: bool) -> int:
        """Return the number of a frame among those of the product in force; 0 of another product's.

        Args:
            number: that the camera gave it.
            other: it is of another product.
        """
        if not other:
            return number - self._others
        # One that was captured before is not among those that the learner's count begins behind.
        self._others += number > self._before
        return 0
