"""Tables of objects and tracks: every number counted by hand, and its unit in the name of its column."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from linked_toys import LINEAGE, toy_clip, toy_frames, toy_labels, toy_stack

from napari_osvos.clip import Clip
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.measurements import measure_objects, measure_tracks, write_measurements, write_tracks


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def numbers(row: dict[str, str]) -> dict[str, float | None]:
    return {name: float(cell) if cell else None for name, cell in row.items()}


def test_objects_in_pixels_and_frames(tmp_path: Path) -> None:
    write_measurements(tmp_path / "a.csv", toy_labels(), LINEAGE, toy_clip(channels=2))
    rows = read(tmp_path / "a.csv")
    assert [(row["frame"], row["track_id"]) for row in rows] == [
        *(("0", "1"), ("0", "2"), ("1", "1"), ("1", "2"), ("2", "3"), ("2", "4")),
        *(("3", "1"), ("3", "3"), ("3", "4"), ("4", "1"), ("4", "3"), ("4", "4"), ("4", "9")),
    ]
    square, bar = numbers(rows[0]), numbers(rows[1])
    assert square == {
        "track_id": 1,
        "mother_id": 0,
        "frame": 0,
        "centroid_y_px": 0.5,
        "centroid_x_px": 0.5,
        "bbox_min_y_px": 0,
        "bbox_min_x_px": 0,
        "bbox_max_y_px": 2,
        "bbox_max_x_px": 2,
        "area_px": 4,
        "axis_major_px": 2,  # 4 times the standard deviation, 1/2
        "axis_minor_px": 2,
        "eccentricity": 0,
        "orientation_deg": None,
        "solidity": 1,
        "perimeter_px": 4,
        "displacement_px": None,
        "velocity_y_px_per_frame": None,
        "velocity_x_px_per_frame": None,
        "speed_px_per_frame": None,
        "intensity_mean_c0": 10,
        "intensity_min_c0": 10,
        "intensity_max_c0": 10,
        "intensity_sum_c0": 40,
        "intensity_mean_c1": 0.5,
        "intensity_min_c1": 0,
        "intensity_max_c1": 1,
        "intensity_sum_c1": 2,
    }
    # three rows by two columns: variances 2/3 and 1/4
    assert bar["axis_major_px"] == pytest.approx(4 * (2 / 3) ** 0.5)
    assert bar["axis_minor_px"] == pytest.approx(2)
    assert bar["eccentricity"] == pytest.approx((1 - (1 / 4) / (2 / 3)) ** 0.5)
    assert bar["orientation_deg"] == 0
    assert (bar["area_px"], bar["intensity_sum_c0"], bar["intensity_mean_c1"]) == (6, 120, 5.5)
    assert [row["mother_id"] for row in rows[4:6]] == ["2", "2"]
    lying = numbers(rows[4])  # two columns of one row
    assert abs(lying["orientation_deg"] or 0) == 90
    assert (lying["axis_major_px"], lying["axis_minor_px"], lying["perimeter_px"]) == (2, 0, 0)


def test_velocity_is_of_the_track_and_counts_the_frames_of_a_gap(tmp_path: Path) -> None:
    write_measurements(tmp_path / "a.csv", toy_labels(), LINEAGE)
    rows = [numbers(row) for row in read(tmp_path / "a.csv")]
    steps = [(r["frame"], r["displacement_px"], r["velocity_x_px_per_frame"]) for r in rows if r["track_id"] == 1]
    assert steps == [(0, None, None), (1, 1, 1), (3, 2, 1), (4, 1, 1)]
    assert not any(name.startswith("intensity") for name in rows[0])
    three = [(r["velocity_y_px_per_frame"], r["speed_px_per_frame"]) for r in rows if r["track_id"] == 3]
    assert three == [(None, None), (0, 1), (0, 1)]  # nothing from its mother


def test_objects_in_micrometres_and_seconds(tmp_path: Path) -> None:
    labels = toy_labels(frame_numbers=range(10, 15))
    lineage = Lineage(Track(t.id, t.first + 10, t.last + 10, t.mother) for t in LINEAGE.values())
    write_measurements(tmp_path / "a.csv", labels, lineage, scale=(3, 0.5, 0.5), seconds_per_frame=30)
    row = numbers(read(tmp_path / "a.csv")[2])
    assert (row["frame"], row["time_s"]) == (11, 330)
    assert (row["centroid_x_px"], row["centroid_x_um"], row["centroid_y_um"]) == (1.5, 0.75, 0.25)
    assert (row["bbox_max_x_px"], row["area_px"], row["area_um2"]) == (3, 4, 1)
    assert (row["axis_major_um"], row["perimeter_um"]) == (1, 2)
    assert row["displacement_um"] == 0.5
    assert row["speed_um_per_s"] == row["velocity_x_um_per_s"] == pytest.approx(0.5 / 30)


def test_oblong_pixels_are_measured_as_they_are() -> None:
    table = next(measure_objects(toy_labels(), LINEAGE, scale=(0.5, 2.0)))
    square, bar = 0, 1
    assert table["area_um2"].tolist() == [4, 6]
    assert (table["axis_major_um"][square], table["axis_minor_um"][square]) == (4, 1)
    assert abs(table["orientation_deg"][square]) == 90
    assert table["axis_minor_um"][bar] == pytest.approx(4 * (2 / 3) ** 0.5 * 0.5)
    assert table["perimeter_px"][square] == 4  # of oblong pixels there is none in micrometres
    assert "speed_um_per_frame" in table


def test_a_stack_has_volumes(tmp_path: Path) -> None:
    stack, lineage, clip = toy_stack()
    write_measurements(tmp_path / "a.csv", stack, lineage, clip, scale=(2, 1, 1), seconds_per_frame=2)
    first, second = (numbers(row) for row in read(tmp_path / "a.csv"))
    assert (first["centroid_z_px"], first["centroid_z_um"], first["centroid_x_um"]) == (0.5, 1, 1)
    assert [first[f"bbox_max_{axis}_px"] for axis in "zyx"] == [2, 3, 3]
    assert (first["volume_px"], first["volume_um3"], first["intensity_sum_c0"]) == (12, 24, 12 * 501)
    # 2 sqrt(5 variance): of an ellipsoid; variances 1 (z, 2 um apart), 2/3 (x) and 1/4 (y)
    axes = [first[f"axis_{name}_um"] for name in ("major", "middle", "minor")]
    np.testing.assert_allclose(np.array(axes, float), 2 * np.sqrt(5 * np.array([1, 2 / 3, 1 / 4])), rtol=1e-6)
    assert second["displacement_um"] == pytest.approx(5**0.5)
    assert (second["velocity_z_um_per_s"], second["velocity_y_um_per_s"]) == (1, 0)
    assert second["velocity_x_um_per_s"] == 0.5


def test_form_agrees_with_scikit_image_in_depth() -> None:
    from skimage.measure import regionprops

    random = np.random.default_rng(0)
    frame = np.zeros((1, 12, 16, 16), np.int32)
    frame[0, 2:10, 2:9, 2:13] = random.random((8, 7, 11)) > 0.3
    table = next(measure_objects(Labels(frame), Lineage([Track(1, 0, 0)]), scale=(2, 0.5, 1)))
    (region,) = regionprops(frame[0], spacing=(2, 0.5, 1))
    assert table["axis_major_um"][0] == pytest.approx(region.axis_major_length)
    assert table["axis_minor_um"][0] == pytest.approx(region.axis_minor_length)
    np.testing.assert_allclose([table[f"centroid_{axis}_um"][0] for axis in "zyx"], region.centroid)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1), (1, 1, 1), (1, 3, 3)])
def test_flat_objects_have_no_odd_numbers(shape: tuple[int, ...]) -> None:
    table = next(measure_objects(Labels(np.ones((1, *shape), int)), Lineage([Track(1, 0, 0)])))
    axes = [column[0] for name, column in table.items() if name.startswith("axis")]
    assert np.isfinite(axes).all()
    assert axes == sorted(axes, reverse=True)


def test_pixels_that_are_not_finite_do_not_count() -> None:
    frames = np.where(toy_frames() > 0, 3.0, 1.0)
    frames[0, 0, 0], frames[0, 1, 1] = np.nan, np.inf
    frames[0, :, 5:7] = np.nan
    table = next(measure_objects(toy_labels(), LINEAGE, Clip(frames)))
    np.testing.assert_array_equal(table["intensity_sum_c0"], [6, np.nan])
    for name in ("mean", "min", "max"):
        np.testing.assert_array_equal(table[f"intensity_{name}_c0"], [3, np.nan])


def test_tracks(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.tracks.csv", toy_labels(), LINEAGE)
    rows = read(tmp_path / "a.tracks.csv")
    assert list(rows[0]) == [
        *("track_id", "mother_id", "daughter_ids", "first_frame", "last_frame", "frames_shown"),
        *("duration_frames", "path_px", "displacement_px", "mean_speed_px_per_frame"),
    ]
    assert [list(row.values()) for row in rows] == [
        ["1", "0", "", "0", "4", "4", "4", "4", "4", "1"],
        ["2", "0", "3 4", "0", "1", "2", "1", "0", "0", "0"],
        ["3", "2", "", "2", "4", "3", "2", "2", "2", "1"],
        ["4", "2", "", "2", "4", "3", "2", "0", "0", "0"],
        ["9", "0", "", "4", "4", "1", "0", "0", "0", ""],
    ]


def test_tracks_have_units_and_a_path_longer_than_their_displacement() -> None:
    frames = np.zeros((3, 1, 5), int)
    frames[0, 0, 0] = frames[1, 0, 4] = frames[2, 0, 1] = 1
    table = measure_tracks(Labels(frames), Lineage([Track(1, 0, 2)]), scale=(1, 1, 0.5), seconds_per_frame=2)
    assert {name: column.tolist() for name, column in list(table.items())[6:]} == {
        "duration_s": [4.0],
        "path_um": [3.5],
        "displacement_um": [0.5],
        "mean_speed_um_per_s": [0.875],
    }


def test_without_objects_there_is_a_heading_alone(tmp_path: Path) -> None:
    nothing = Labels(np.zeros((2, 4, 10), int))
    write_measurements(tmp_path / "a.csv", nothing, Lineage(), Clip(np.zeros((2, 4, 10))))
    write_tracks(tmp_path / "b.csv", nothing, Lineage())
    with open(tmp_path / "a.csv") as stream:
        assert len(stream.readline().split(",")) == 24
        assert stream.readline() == ""
    assert (tmp_path / "b.csv").read_text().count("\n") == 1


def test_every_frame_has_the_same_columns_and_a_frame_may_be_empty() -> None:
    frames = toy_frames()[[0, 0, 0]]
    frames[1] = 0
    tables = list(measure_objects(Labels(frames), Lineage([Track(1, 0, 2), Track(2, 0, 2)])))
    assert len({tuple(table) for table in tables}) == 1
    assert [len(table["track_id"]) for table in tables] == [2, 0, 2]


def test_large_ids_cost_nothing() -> None:
    top = 2**31 - 1
    table = next(measure_objects(Labels(np.array([[[0, top, top, 5]]])), Lineage([Track(top, 0, 0), Track(5, 0, 0)])))
    assert (table["track_id"].tolist(), table["area_px"].tolist()) == ([5, top], [1, 2])


def test_only_one_frame_is_read_at_a_time() -> None:
    read: list[int] = []

    class Told(np.ndarray):
        def __getitem__(self, index: object) -> object:
            read.append(index[0])  # type: ignore[index]
            return np.asarray(self)[index]  # type: ignore[index]

    tables = measure_objects(Labels(toy_frames().view(Told)), LINEAGE)
    next(tables)
    assert set(read) == {0}
    next(tables)
    assert set(read) == {0, 1}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"scale": (1, 0, 1)}, r"The scale is \(1, 0, 1\); it must be \(Z, Y, X\) or \(Y, X\) in micrometres, each"),
        ({"scale": (1,)}, "The scale is"),
        ({"seconds_per_frame": -1}, "The time between frames is -1 s; it must be above 0"),
    ],
)
def test_units_out_of_range_are_named(tmp_path: Path, options: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        write_measurements(tmp_path / "a.csv", toy_labels(), LINEAGE, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_movie_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The frames of toy are 4 x 10 but those of the movie are 4 x 9; they must be"):
        write_measurements(tmp_path / "a.csv", toy_labels(), LINEAGE, Clip(np.zeros((5, 4, 9))))
    with pytest.raises(ValueError, match="the movie has no frame 3, 4, but toy has"):
        write_measurements(tmp_path / "a.csv", toy_labels(), LINEAGE, Clip(np.zeros((3, 4, 10))))


def test_an_interrupted_write_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(FileExistsError, match="a.csv exists; choose another name or allow overwriting it"):
        write_measurements(path, toy_labels(), LINEAGE)
    with pytest.raises(ValueError, match="which no track of the lineage has"):
        write_measurements(path, toy_labels(), Lineage([Track(1, 0, 4), Track(2, 0, 1)]), overwrite=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
