"""`mekiki baseline`: what is shown is what was measured, and who named which sample is never mixed up."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from PIL import Image

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.baseline.reference_samples import NamedBy
from adapters.core.measured_picture import MeasuredPicture
from adapters.core.measured_with import MeasuredWith
from agent.base.errors import UsageError
from agent.baseline import contact_sheet, report
from agent.cli.main import main
from agent.config.recipes import shipped
from camera.core.kept_region import KeptRegion, kept_region
from camera.core.settings import RegionOfInterest
from tests.support.line_site import PLAIN, commissioned, frames


@cache
def clean() -> Commissioning:
    """Two confirmed samples of each class beside guesses."""
    pictures = np.random.default_rng(3).integers(0, 256, (2 * len(PLAIN), 16, 16, 3), dtype=np.uint8)
    golden = ReferenceSamples(pictures, np.repeat(np.arange(len(PLAIN)), 2))
    return commissioned(frames(1000), golden)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    station = {"recipe": "line", "camera": {"kind": "simulated"}}
    stations = {"top": station, "side": station}
    path.write_text(yaml.safe_dump({"version": 1, "agent": {"data_dir": "data"}, "stations": stations}))
    folder = tmp_path / "data" / "stations" / "top"
    folder.mkdir(parents=True)
    clean().save(folder / "commissioning.safetensors")
    return str(path)


def test_show_says_on_what_each_number_was_measured(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "show", "-s", "top", "-c", config]) == 0
    text = capsys.readouterr().out
    assert "top: commissioned on 1000 parts, 2026-01-01T00:00:00Z" in text
    assert "measured with a model and on pictures that its release did not write down" in text
    assert f"samples confirmed by a person: {', '.join(f'2 {name}' for name in PLAIN)}" in text
    assert "samples guessed by the model, confirmed by nobody: " in text
    assert "golden good samples, held out" in text
    assert "it cannot watch missed defects" in text
    assert text.endswith(f"{clean().digest}\n")
    assert main(["baseline", "show", "-s", "top", "-c", config, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(json.dumps(report.facts(clean())))
    assert told["samples"]["person"] == dict.fromkeys(PLAIN, 2)


def test_compare_names_what_differs(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A station against a copy; equal ones give 0, others 1."""
    other = tmp_path / "other.safetensors"
    replace(clean(), offset=clean().offset + 1).save(other)
    same = tmp_path / "data" / "stations" / "top" / "commissioning.safetensors"
    assert main(["baseline", "compare", "-s", "top", str(same), "-c", config]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["baseline", "compare", "top", str(other), "-c", config, "--json"]) == 1
    names = [one["name"] for one in json.loads(capsys.readouterr().out)["differences"]]
    assert names == ["digest", "offset"]
    assert main(["baseline", "compare", "top", str(other), "-c", config]) == 1
    assert "offset: " in capsys.readouterr().out


def test_show_says_what_of_the_picture_was_measured(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = MeasuredPicture((0.0, 0.25, 1.0, 0.75), (), "fit", "2x1", {"kind": "device", "width": 1920})
    measured = MeasuredWith("mekiki-line", "fp32", "cpu", None, picture)
    replace(clean(), measured=measured).save(tmp_path / "one.safetensors")
    assert main(["baseline", "show", "--file", str(tmp_path / "one.safetensors"), "-c", config]) == 0
    assert (
        "measured with mekiki-line in fp32, on region 0, 0.25, 1, 0.75, 0 masks, view fit, tiles 2x1,"
        " camera: kind device, width 1920"
    ) in capsys.readouterr().out


def test_a_product_is_shown_by_its_recipe(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a product without a baseline it says what to do; a recipe that is none is named."""
    file = Path(config).parent / "data" / "stations" / "top" / "commissioning.safetensors"
    replace(clean(), recipe=shipped("line").words).save(file)
    assert main(["baseline", "show", "-s", "top", "--recipe", "steel-neu", "-c", config]) == 64
    assert "--recipe steel-neu" in capsys.readouterr().err
    assert main(["baseline", "show", "-s", "top", "--recipe", "nothing", "-c", config]) == 64
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "-s", "side"], 64, "not commissioned: run mekiki commission --station side"),
        (["show", "-s", "tob"], 64, "did you mean top?"),
        (["show", "--file", "absent.safetensors"], 75, "absent.safetensors: not readable"),
        (["compare", "top"], 64, "compare takes two: stations or files; 1 given"),
        (["export", "-s", "side", "--out", "x"], 64, "not commissioned"),
    ],
)
def test_what_is_not_there_is_told(
    arguments: list[str], code: int, words: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", *arguments, "-c", config]) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_a_damaged_baseline_is_told(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "data" / "stations" / "top" / "commissioning.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    assert main(["baseline", "show", "-s", "top", "-c", config]) == 75
    assert "commission the station again" in capsys.readouterr().err


def test_export_sorts_samples_by_who_named_them(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in its class's folder, as `--golden` takes them; the region is written in each."""
    out = tmp_path / "look"
    assert main(["baseline", "export", "-s", "top", "--out", str(out), "-c", config]) == 0
    said = capsys.readouterr().out
    assert f"--replace --golden {out / 'confirmed'} --golden {out / 'guessed'}\n" in said
    known = clean().known
    for by, folder in contact_sheet.FOLDERS.items():
        for row, label in enumerate(PLAIN):
            files = sorted((out / folder / label).glob("*.jpg"))
            wanted = known.pictures[(known.named_by == by) & (known.classes == row)]
            assert len(files) == len(wanted)
            for file, picture in zip(files, wanted, strict=True):
                close = np.asarray(Image.open(file)).astype(int) - picture
                assert np.abs(close).mean() < 2
                assert kept_region(file) == KeptRegion.of("top", RegionOfInterest())
    assert len(list((out / contact_sheet.GOOD).glob("*.jpg"))) == len(clean().good)
    assert main(["baseline", "export", "-s", "top", "--out", str(out), "-c", config]) == 64
    assert "give a new or empty folder" in capsys.readouterr().err


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == "src"]
        assert tag != "script"


def test_a_class_that_is_no_name_of_a_folder_is_not_exported(tmp_path: Path) -> None:
    """Nothing is written beside the folder that was asked for."""
    for label in ("../../evil", "/evil", "..", "ok/x"):
        odd = replace(clean(), labels=(label, *clean().labels[1:]))
        with pytest.raises(UsageError, match="no folder can have this name"):
            contact_sheet.write(odd, tmp_path / "in" / "here", KeptRegion.of("top", RegionOfInterest()))
    assert list(tmp_path.iterdir()) == []


def test_the_page_shows_every_picture_and_runs_nothing(tmp_path: Path) -> None:
    """Whatever classes and stations are called."""
    labels = ("gut & schön", '"><script>alert(1)</script>'.replace("/", ":"), *PLAIN[2:])
    odd = replace(clean(), labels=labels, station="<b>top</b>")
    page = contact_sheet.write(odd, tmp_path / "look", KeptRegion.of("top", RegionOfInterest()))
    links = Links(page.read_text()).found
    assert len(links) == len(odd.known.classes) + len(odd.good)
    assert all((page.parent / unquote(link)).is_file() for link in links)
    assert "<b>top" not in page.read_text()


def test_what_an_older_release_did_not_say_is_shown_as_that() -> None:
    unknown = np.full(len(clean().known.classes), NamedBy.UNKNOWN, np.uint8)
    old = replace(clean(), known=replace(clean().known, named_by=unknown), numbers={"parts": 1000.0})
    text = "\n".join(report.lines(old))
    assert "samples confirmed by a person: none" in text
    assert "samples of which an older release did not say who named them: " in text
    assert "of which it is not known who named them do not count" in text
