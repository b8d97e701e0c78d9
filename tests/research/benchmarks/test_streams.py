"""The stream benchmark: its definitions, its arithmetic, its runner, and that stopped runs go on."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapters.core.prompts import Prompts  # noqa: E402
from adapters.methods.method import Texts  # noqa: E402
from benchmarks import bench_streams, machine, stream_metrics, stream_plot  # noqa: E402
from benchmarks.line_data import SHARED_DATA  # noqa: E402
from benchmarks.rivals.tent import Tent  # noqa: E402
from benchmarks.stream_frames import REFERENCE, Frames, commissioning, stream_frames  # noqa: E402
from benchmarks.stream_methods import RIVALS, FrozenContender, Rival, Setting  # noqa: E402
from benchmarks.stream_metrics import Truth, judge, over_seeds, rates, worst_window  # noqa: E402
from benchmarks.stream_oracle import Effort, Oracle, pieces  # noqa: E402
from benchmarks.stream_report import figures, gap_closed, markdown, requirements  # noqa: E402
from benchmarks.stream_run import Run, load_run, run, run_file, save_run, worth_a_label  # noqa: E402
from benchmarks.stream_site import FrozenAnswers, Site, build_site, operating_point  # noqa: E402
from benchmarks.stream_worlds import LineWorld, world_of  # noqa: E402
from benchmarks.streams import STRONG, UNKNOWN, Segment, Shift, Stream, schedules  # noqa: E402
from camera.simulation.degradations import KINDS  # noqa: E402

needs_data = pytest.mark.skipif(not SHARED_DATA.exists(), reason=f"{SHARED_DATA} is absent")

FAILS = np.array([False, True, True])


class Tiny(LineWorld):
    """Flanges, which are called by three of their six names."""

    name = "tiny"

    def __init__(self) -> None:
        super().__init__()
        self.labels, self.fails = self.labels[:3], FAILS
        self.prompts = Prompts(self.prompts.classes[:3], ("a photo of {}",))


SHORT = Stream(
    "T",
    "a short one",
    (
        Segment("clean", 40, defects=0.3),
        Segment("fades", 40, (Shift("dim", 0.0, 4.0),), defects=0.3),
        Segment("black", 10, content="black"),
        Segment("fog", 30, (Shift("fog", 3.0, 3.0),), defects=0.3),
    ),
)


@pytest.fixture(scope="module")
def drawn(tiny_clip, tmp_path_factory):
    """A short stream before the tiny model: its folder, site and frames."""
    out = tmp_path_factory.mktemp("streams")
    world, spec = Tiny(), tiny_clip.info.preprocess
    start = commissioning(out, "line", world, spec, REFERENCE.shortened(0.02), seed=3)
    frames = stream_frames(out, "line", world, spec, SHORT, seed=3)
    opened = (tiny_clip, Texts.of(tiny_clip, world.prompts))
    site = build_site(out, "line", world, opened, ("start", start), ("short", frames.pictures), seed=3)
    return out, site, frames


def frozen_run(site: Site, frames: Frames) -> Run:
    """What the frozen model makes of a stream."""
    return run(FrozenContender(), site, frames, np.zeros(len(frames.pictures), np.float32))


def verdicts(failed: np.ndarray, **more: object) -> Run:
    """A run with these verdicts and nothing else to tell."""
    scores = np.where(failed, 1.0, -1.0).astype(np.float32)
    made = Run(scores, scores, np.zeros(len(scores), np.int64), 1.0, [], [], {})
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def truth_of(defective: np.ndarray, segments: tuple[Segment, ...] | None = None) -> Truth:
    """Every frame counts."""
    stream = Stream("T", "", segments or (Segment("only", len(defective)),))
    return Truth(defective, np.ones(len(defective), bool), stream.segment_of, stream)


@pytest.mark.parametrize("product", list(STRONG))
def test_every_stream_is_long_enough_and_says_what_it_is(product: str) -> None:
    """At least 5 000 frames; 50 000 clean ones, 20 days and nights, an hour of one class, poison."""
    streams = schedules(product)
    assert min(stream.frames for stream in streams.values()) >= 5_000
    assert streams["S0"].frames == 50_000
    assert all(segment.clean for name in ("S0", "S6") for segment in streams[name].segments)
    assert [s.name for s in streams["S7"].segments].count("night") == 20
    hour = next(s for s in streams["S4"].segments if s.defects == 0)
    assert hour.frames == 3_600
    assert {s.content: s.frames for s in streams["S5"].segments if s.content != "parts"} == {
        "black": 600,
        "foreign": 600,
        "wrong": 600,
    }
    assert all(kind in KINDS for kind in STRONG[product])
    for stream in streams.values():
        assert all(
            0 <= severity <= 5 for n in range(0, stream.frames, 97) for _, severity in stream.severities(n)
        )


def test_a_ramp_rises_and_a_step_stays() -> None:
    """Severity follows the place in the segment; the oracle's pieces cover every frame once."""
    stream = schedules("line")["S2"]
    (first, dirty, cleaned, *_) = stream.starts
    assert stream.severities(first) == stream.severities(cleaned) == ()
    rising = [stream.severities(number)[0][1] for number in range(dirty, cleaned)]
    assert rising[0] == 0
    assert rising[-1] == STRONG["line"]["dirt"]
    assert all(later > earlier for earlier, later in itertools.pairwise(rising))
    cut = list(pieces(stream))
    assert [piece.start for piece in cut] == [0, *(piece.stop for piece in cut[:-1])]
    assert cut[-1].stop == stream.frames
    assert [piece.continues for piece in cut[:6]] == [False, False, True, True, True, False]


def test_defects_are_as_frequent_as_the_segment_says_and_come_in_bursts() -> None:
    """97 % ok, then 70 % ok; half of the defects are neighbours of their own kind; balanced is balanced."""
    labels = Stream("T", "", (Segment("a", 100_000), Segment("b", 50_000, defects=0.3))).truth(0, FAILS)
    bad = FAILS[labels]
    assert bad[:100_000].mean() == pytest.approx(0.03, abs=0.003)
    assert bad[100_000:].mean() == pytest.approx(0.3, abs=0.03)
    few = bad[:100_000]
    again = (few[1:] & few[:-1] & (labels[1:100_000] == labels[:99_999])).sum() / few.sum()
    assert again > 0.15  # it would be 0.015 without bursts
    even = Stream("T", "", (Segment("a", 3_000, mix="balanced"),)).truth(0, FAILS)
    assert np.bincount(even).min() > 900
    objects = Stream("T", "", (Segment("a", 10, content="foreign"),)).truth(0, FAILS)
    assert (objects[::2] == UNKNOWN).all()
    assert (objects[1::2] != UNKNOWN).all()


def test_commissioning_and_stream_share_no_part(drawn: tuple[Path, Site, Frames]) -> None:
    """Of flanges the seeds differ; every part of the stream is shown once."""
    _, site, frames = drawn
    parts = frames.origins[frames.origins >= 0]
    assert len(np.unique(parts)) == len(parts) == 110
    assert not np.isin(site.commissioning.origins, parts).any()


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("model", ["steel", "clip"])
def test_commissioning_and_stream_share_no_photo(model: str) -> None:
    """Golden, reference and stream are three sets of photos; the oracle trains on none of the stream."""
    world = world_of(model, 0)
    rng = np.random.default_rng(0)
    shown = {
        pool: {world.part(pool, label, rng).origin for label in range(len(world.labels)) for _ in range(200)}
        for pool in ("golden", "reference", "held_out", "stream")
    }
    assert not shown["golden"] & shown["reference"]
    assert not shown["stream"] & (shown["golden"] | shown["reference"] | shown["held_out"])


def test_a_stream_is_the_same_every_time_and_drawn_once(drawn, tmp_path, tiny_clip) -> None:
    """Bit for bit; and the file on disk is used again."""
    out, _, frames = drawn
    spec = tiny_clip.info.preprocess
    files = {file: file.stat().st_mtime_ns for file in out.glob("*pictures.npy")}
    kept = stream_frames(out, "line", Tiny(), spec, SHORT, seed=3)
    assert {file: file.stat().st_mtime_ns for file in out.glob("*pictures.npy")} == files
    again = stream_frames(tmp_path, "line", Tiny(), spec, SHORT, seed=3)
    other = stream_frames(tmp_path, "line", Tiny(), spec, SHORT, seed=4)
    assert np.array_equal(frames.pictures, again.pictures)
    assert np.array_equal(frames.pictures, kept.pictures)
    assert not np.array_equal(frames.pictures, other.pictures)
    assert not frames.usable[80:90].any()
    assert frames.usable[:80].all()
    assert frames.pictures[80:90].max() < 5
    # The lamp fades: the picture gets darker.
    assert frames.pictures[70:80].mean() < 0.6 * frames.pictures[:40].mean()


def test_the_operating_point_is_the_middle_of_the_best_interval() -> None:
    """One defect among the reference is outvoted."""
    good = np.array([-3.0, -2.0, -1.0, 5.0], np.float32)
    bad = np.array([2.0, 3.0, 4.0], np.float32)
    assert operating_point(good, bad) == pytest.approx(0.5)


def test_the_frozen_model_differs_from_itself_by_nothing(drawn: tuple[Path, Site, Frames]) -> None:
    """No flips, no gain, no window below; what is black counts for nothing."""
    _, site, frames = drawn
    made = frozen_run(site, frames)
    truth = Truth.of(SHORT, frames, site.fails)
    of = judge(made, made, None, truth)
    assert of["flips"] == of["updates"] == 0
    assert of["overall"]["against_frozen"] == 0
    assert of["window"] == {"against_frozen": 0, "first": 0, "below": 0, "p": 1, "beyond_chance": False}
    assert truth.counted.sum() == 110
    assert of["segments"]["black"]["balanced"] is None


def test_a_rival_answers_before_it_learns_and_is_reset_where_it_is_told(
    drawn: tuple[Path, Site, Frames],
) -> None:
    """The first batch is the frozen model's; so is the first one after the oracle's reset; others are not."""
    _, site, frames = drawn
    base = frozen_run(site, frames)
    method = Tent(dataclasses.replace(Tent().optimizer, rate=0.5))
    plain = run(Rival(method), site, frames, base.scores)
    told = Rival(method, resets=(70,))
    reset = run(told, site, frames, base.scores)
    same = [np.isclose(made.raw, base.raw, atol=1e-4) for made in (plain, reset)]
    assert same[0][:64].all()
    assert same[1][:64].all()
    assert not same[0][64:70].all()
    assert not same[0][70:80].all()
    assert same[1][70:80].all()
    assert [event["frame"] for event in reset.events if event["event"] == "reset"] == [70]
    # 64, then the rest: 110 pictures can be used, and a parted batch makes two steps.
    assert sum(event["event"] == "update" for event in plain.events) == 2
    assert sum(event["event"] == "update" for event in reset.events) == 3


def test_the_oracle_leaves_clean_parts_alone_and_learns_the_rest(drawn: tuple[Path, Site, Frames]) -> None:
    """Clean answers are the frozen ones; others come at an operating point of their own."""
    _, site, frames = drawn
    base = frozen_run(site, frames)
    setting = Setting("line", Tiny(), SHORT, 3)
    effort = Effort(per_class=4, chosen_on=12, steps=2, batch=6, precision="fp32")
    made = run(Oracle(setting, effort), site, frames, base.scores)
    assert np.array_equal(made.scores[:40], base.scores[:40])
    assert (made.scores[90:] != base.scores[90:]).all()


def test_labels_are_given_evenly_and_first_where_the_two_disagree(drawn: tuple[Path, Site, Frames]) -> None:
    """Twelve a day of 120 frames: one every ten; the newest disagreement first, never without truth."""

    class Asked(FrozenContender):
        labels_a_day = 12.0
        call_frames = 10

        def start(self, site: Site) -> None:
            super().start(site)
            self.heard: list[tuple[int, int]] = []

        def tell(self, number: int, label: int) -> None:
            self.heard.append((number, label))

    _, site, frames = drawn
    asked = Asked()
    base = frozen_run(site, frames).scores
    made = run(asked, site, frames, base, day_frames=120)
    assert made.told == [number for number, _ in asked.heard]
    assert len(set(made.told)) == len(made.told) == 12
    assert all(frames.labels[number] == label != UNKNOWN for number, label in asked.heard)
    scores, frozen = np.array([1.0, 1.0, 0.1, 1.0], np.float32), np.array([-1.0, -1.0, 1.0, 1.0], np.float32)
    every = np.ones(4, bool)
    assert worth_a_label(scores, frozen, every, []) == 1
    assert worth_a_label(scores, frozen, every, [0, 1]) == 2
    assert worth_a_label(scores, frozen, ~every, []) is None


def test_a_run_comes_back_as_it_was_and_a_changed_contender_runs_again(tmp_path: Path) -> None:
    """Bit for bit, NaN and numpy's numbers included; the name of the file follows from the fingerprint."""
    made = verdicts(np.array([True, False]), events=[{"frame": np.int64(1), "event": "update"}])
    made = dataclasses.replace(made, trace={"frame": [0.0], "loss": [float("nan")]})
    save_run(tmp_path / "a.npz", made)
    back = load_run(tmp_path / "a.npz")
    assert np.array_equal(back.scores, made.scores)
    assert back.events == [{"frame": 1, "event": "update"}]
    assert np.isnan(back.trace["loss"][0])
    names = {
        run_file(tmp_path, "cell", "line", weights, "x", contender, 100)
        for weights in ("w", "v")
        for contender in (Rival(Tent()), Rival(Tent(), resets=(5,)), FrozenContender())
    }
    assert len(names) == 6


def test_rates_count_each_kind_of_error_among_its_own() -> None:
    """1 of 4 ok parts rejected, 1 of 2 defects missed; pictures without a truth do not count."""
    defective = np.array([False] * 4 + [True] * 2 + [False])
    truth = truth_of(defective)
    truth.counted[6] = False
    failed = np.array([True, False, False, False, True, False, True])
    of = rates(failed, truth)
    assert (of.false_rejects, of.missed, of.balanced) == (0.25, 0.5, 0.625)
    assert rates(failed, truth, slice(0, 4)).missed is None
    assert rates(failed, truth, slice(0, 4)).balanced == 0.75
    assert rates(failed, truth, slice(6, 7)).balanced is None


def test_auroc_is_the_mean_of_the_segments_own() -> None:
    """Perfect in both segments, although the scores of the second are higher; every rate has its segment."""
    defective = np.array([False, True] * 20)
    truth = truth_of(defective, (Segment("a", 20), Segment("b", 20)))
    raw = (defective + np.repeat([0.0, 10.0], 20)).astype(np.float32)
    made = verdicts(defective | (np.arange(40) >= 20), raw=raw)
    of = judge(made, made, None, truth)
    assert of["overall"]["auroc"] == 1
    assert [of["segments"][name]["false_rejects"] for name in "ab"] == [0, 1]


def test_a_window_is_blamed_only_beyond_chance() -> None:
    """Two of 15 defects lost is chance, though 6.7 points; ten lost, or 80 more false rejects, are not."""
    rng = np.random.default_rng(0)
    defective = np.zeros(2_000, bool)
    defective[rng.permutation(2_000)[:60]] = True
    right = defective.copy()
    truth = truth_of(defective)

    def lost(count: int, rows: slice, of: bool) -> dict:
        failed = right.copy()
        numbers = np.arange(2_000)[rows]
        chosen = numbers[defective[rows] == of][:count]
        failed[chosen] = ~failed[chosen]
        return worst_window(failed, right, truth)

    few = lost(2, slice(500, 1000), of=True)
    assert few["against_frozen"] < -stream_metrics.TOLERANCE
    assert not few["beyond_chance"]
    assert lost(10, slice(500, 1000), of=True)["beyond_chance"]
    assert lost(80, slice(500, 1000), of=False)["beyond_chance"]
    assert not lost(20, slice(500, 1000), of=False)["below"]
    # What is lost and won alike is no loss.
    swapped = right.copy()
    frozen = right.copy()
    good = np.flatnonzero(~defective)
    swapped[good[:100:2]] = True
    frozen[good[1:100:2]] = True
    assert not worst_window(swapped, frozen, truth)["beyond_chance"]


def test_chance_blames_no_more_often_than_it_says() -> None:
    """A method that truly loses just the tolerance is blamed in at most about one test in twenty."""
    rng = np.random.default_rng(1)
    blamed = 0
    for _ in range(100):
        kinds = [
            stream_metrics.Kind(485, 10, int(rng.binomial(485, 10 / 485 + 0.03))),
            stream_metrics.Kind(15, 0, int(rng.binomial(15, 0.03))),
        ]
        blamed += stream_metrics.chance(kinds) < 0.05
    assert blamed <= 9
    assert stream_metrics.chance([stream_metrics.Kind(100, 0, 3)]) == pytest.approx(0.58, abs=0.01)


def test_recovery_is_the_time_until_half_of_the_gap_is_closed() -> None:
    """False rejects stop at frame 300 of a segment: the last 250 are half right 125 frames later."""
    segments = (Segment("clean", 200), Segment("fog", 800, (Shift("fog", 3, 3),)))
    defective = np.zeros(1_000, bool)
    frozen, best, late, never = (np.zeros(1_000, bool) for _ in range(4))
    frozen[200:] = late[200:500] = never[200:] = True
    truth = truth_of(defective, segments)
    assert stream_metrics.recovery(late, frozen, best, truth) == {"fog": pytest.approx(425, abs=10)}
    assert stream_metrics.recovery(never, frozen, best, truth) == {"fog": None}


def test_learning_on_clean_parts_is_counted() -> None:
    """Updates and promotions in clean segments; a state is no update."""
    segments = (Segment("clean", 10), Segment("fog", 10, (Shift("fog", 3, 3),)))
    events = [
        {"frame": 3, "event": "update"},
        {"frame": 4, "event": "promotion"},
        {"frame": 5, "event": "state", "state": "watch"},
        {"frame": 15, "event": "update"},
    ]
    failed = np.arange(20) % 2 == 0
    made = verdicts(failed, events=events)
    of = judge(made, verdicts(~failed), None, truth_of(failed, segments))
    assert (of["updates"], of["learned_on_clean"], of["promotions"]) == (3, 2, 1)
    assert (of["flips"], of["harmful_flips"]) == (20, 0)


def test_intervals_over_seeds_are_students() -> None:
    """Five values, t of four degrees of freedom; one value has no interval; none is none."""
    mean, low, high, count = over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])  # type: ignore[misc]
    assert (mean, count) == (3, 5)
    assert high - mean == mean - low == pytest.approx(2.776 * np.sqrt(2.5 / 5))
    assert over_seeds([None]) is None
    one = over_seeds([2.0, None])
    assert one is not None
    assert np.isnan(one[1])


def made_up(stream: Stream, seed: int, share_wrong: dict[str, float]) -> dict[str, dict]:
    """Judged runs of methods that get so many of the drifted verdicts wrong."""
    rng = np.random.default_rng(seed)
    defective = rng.random(stream.frames) < 0.1
    drifted = np.array([not segment.clean for segment in stream.segments])[stream.segment_of]
    truth = Truth(defective, np.ones(len(defective), bool), stream.segment_of, stream)
    luck = rng.random(stream.frames)
    runs = {name: verdicts(defective ^ (drifted & (luck < share))) for name, share in share_wrong.items()}
    return {name: judge(made, runs["frozen"], runs["oracle"], truth) for name, made in runs.items()}


def test_the_report_says_whether_the_learner_keeps_what_is_required() -> None:
    """Half of the gap and better than every rival: kept. A tenth, beaten, or worse than frozen: not."""
    stream = schedules("line")["S3"]
    shares = {
        "frozen": 0.3,
        "TENT": 0.29,
        "ours, golden": 0.1,
        "ours, few golden": 0.27,
        "ours, bad": 0.4,
        "oracle": 0.02,
    }

    def report(shares: dict[str, float], count: int) -> tuple[dict, dict[str, str]]:
        seeds = {seed: made_up(stream, seed, shares) for seed in range(count)}
        judged = {("S3", method, seed): of for seed, runs in seeds.items() for method, of in runs.items()}
        found = figures("line", judged, {"processor": "x"}, 1.0)
        return found, {row[1]: row[-1] for row in requirements(found["results"])}

    found, rows = report(shares, 3)
    assert rows == {"ours, golden": "so far", "ours, few golden": "**no**", "ours, bad": "**no**"}
    assert report({**shares, "TENT": 0.05}, 2)[1]["ours, golden"] == "**no**"
    everyone = dict.fromkeys(RIVALS, 0.3) | {"ours, golden": 0.1, "oracle": 0.02}
    assert report(everyone, 5)[1] == {"ours, golden": "yes"}
    assert report(everyone, 4)[1] == {"ours, golden": "so far"}
    assert gap_closed(found["results"]["S3"]["ours, golden"]["overall"]) == pytest.approx(
        0.2 / 0.28, abs=0.03
    )
    text = markdown(found, {"S3": stream}, "Made up.")
    assert "| S3 | ours, golden | 3 | 0 |" in text
    assert "| defocus | TENT |" in text
    json.dumps(found)


def test_the_plot_shows_states_and_numbers_of_the_learner(tmp_path: Path) -> None:
    """Verdicts, conditions, states, marks and traces become one picture."""
    events = [
        {"frame": 0, "event": "state", "state": "watch"},
        {"frame": 40, "event": "state", "state": "adapt"},
        {"frame": 60, "event": "promotion"},
    ]
    failed = np.arange(120) % 3 == 0
    trace = {"frame": [0.0, 50.0], "drift": [0.1, 2.0], "guard": [1.0, 0.5]}
    runs = {"frozen": verdicts(failed), "ours": verdicts(failed, events=events, trace=trace)}
    truth = truth_of(failed, SHORT.segments)
    stream_plot.draw(tmp_path / "a.png", "T", truth, runs, "ours")
    stream_plot.draw(tmp_path / "b.png", "T", truth, runs, None)
    assert (tmp_path / "a.png").stat().st_size > (tmp_path / "b.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run draws and answers nothing, adds what is new, and reports the same of the rest."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench_streams, "PLOTS", tmp_path / "img")
    monkeypatch.setattr(bench_streams, "LEAST_REFERENCE", 0.01)
    options = ["bench_streams", "--streams", "S6", "--seeds", "1", "--share", "0.01", "--processes", "1"]
    options += ["--out", str(tmp_path / "out"), "--methods", "frozen"]
    monkeypatch.setattr("sys.argv", options)
    bench_streams.main()
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    monkeypatch.setattr("sys.argv", [*options, "TDA"])
    bench_streams.main()
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert {file: after[file] for file in files} == files
    assert len(after) == len(files) + 1
    found = json.loads((tmp_path / "results" / "streams-line.json").read_text())
    assert list(found["results"]["S6"]) == ["frozen", "TDA"]
    assert (tmp_path / "img" / "streams-S6-line.png").exists()
    assert "nothing to report" not in capsys.readouterr().err


def test_a_site_gives_rows_of_the_frozen_answers() -> None:
    """`rows` are those of the frames asked for."""
    answers = FrozenAnswers(np.arange(12, dtype=np.float32).reshape(6, 2), np.zeros((6, 3), np.float32))
    assert np.array_equal(answers.rows(2, 2).logits, [[4, 5], [6, 7]])
