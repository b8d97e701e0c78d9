"""What work costs, as benchmarks report it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.effort import effort_of


def zone(folder: Path, name: str, said: str, energy_uj: int) -> Path:
    """Write an energy counter as Linux shows it."""
    path = folder / name
    path.mkdir()
    (path / "name").write_text(f"{said}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text("9999999\n")
    return path


def test_energy_is_that_of_the_packages_across_the_counters_end(tmp_path: Path) -> None:
    """Two packages, one of which begins again at zero; cores and retained are not counted twice."""
    first = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 1_000_000)
    for name, said in (("intel-rapl:0:0", "core"), ("intel-rapl:2", "psys")):
        zone(tmp_path, name, said, 0)

    def work() -> str:
        (first / "energy_uj").write_text("500000\n")
        (second / "energy_uj").write_text("3000000\n")
        (tmp_path / "intel-rapl:2" / "energy_uj").write_text("7000000\n")
        return "done"

    result, effort = effort_of(work, tmp_path)
    assert result == "done"
    assert effort.joules == 3.5
    assert effort.cpu_s >= 0


def test_a_machine_without_counters_tells_nothing(tmp_path: Path) -> None:
    """Nor one whose counters lack what they are read by: no number instead of a wrong one."""
    assert effort_of(lambda: None, tmp_path / "absent")[1].joules is None
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()
    assert effort_of(lambda: None, tmp_path)[1].joules is None
