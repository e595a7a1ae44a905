"""The layout of a city's folder, areas and reference labels in any form."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from pydantic import TypeAdapter

from pipeline.city.sources import CitySources, MissingSourcesError, SourceNotesError, find_sources
from pipeline.reference.areas import AreaError, read_area, read_polygons
from regions.raster.burn import burn
from regions.raster.grid import Grid

CRS = "EPSG:32649"
SQUARE = shapely.box(500_000, 2_500_000, 500_100, 2_500_060)


def city_folder(tmp_path, *names):
    for name in names:
        path = tmp_path / "440300" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "440300"


def test_layout(tmp_path):
    folder = city_folder(
        tmp_path,
        "imagery/b.tif",
        "imagery/a.tif",
        "imagery/a.tfw",
        "vectors/x.osm.pbf",
        "labels/uv.gpkg",
        "aoi.geojson",
    )
    (folder / "sources.yaml").write_text("image_date: 2023-05-01\nimagery_crs: EPSG:3857\n", encoding="utf-8")
    sources = find_sources(folder, "440300")
    assert [p.name for p in sources.imagery] == ["a.tif", "b.tif"]
    assert [p.name for p in sources.vectors] == ["x.osm.pbf"]
    assert sources.aoi is not None
    assert sources.notes.image_date == "2023-05-01"
    assert sources.size_bytes == 6  # the world file of a.tif included
    adapter = TypeAdapter(CitySources)
    assert adapter.validate_json(adapter.dump_json(sources)) == sources


def test_missing_folder_and_missing_imagery_say_where_to_put_scenes(tmp_path):
    with pytest.raises(MissingSourcesError, match="imagery/"):
        find_sources(tmp_path / "440300", "440300")
    with pytest.raises(MissingSourcesError, match="no scene"):
        find_sources(city_folder(tmp_path, "vectors/x.osm.pbf"), "440300")


def test_unknown_note_is_refused(tmp_path):
    folder = city_folder(tmp_path, "imagery/a.tif")
    (folder / "sources.yaml").write_text("colour: red\n", encoding="utf-8")
    with pytest.raises(SourceNotesError, match="colour"):
        find_sources(folder, "440300")


def test_polygons_in_another_crs_are_reprojected(tmp_path):
    gpd.GeoDataFrame({"role": ["train"]}, geometry=[SQUARE], crs=CRS).to_crs("EPSG:4326").to_file(
        tmp_path / "a.geojson"
    )
    table = read_polygons([tmp_path / "a.geojson"], crs=CRS)
    assert table["role"].tolist() == ["train"]
    assert table.geometry[0].symmetric_difference(SQUARE).area < 1


def test_mask_raster_becomes_the_same_area(tmp_path):
    grid = Grid.covering(SQUARE.bounds, crs=CRS, resolution_m=1)
    mask = np.zeros((60, 100), np.uint8)
    mask[10:30, 20:70] = 255
    mask[0, 0] = 9  # nodata is not the class
    with rasterio.open(
        tmp_path / "m.png", "w", driver="PNG", dtype="uint8", count=1, height=60, width=100, nodata=9,
        transform=rasterio.Affine(*grid.transform),
    ) as sink:  # fmt: skip
        sink.write(mask, 1)
    (tmp_path / "m.png.aux.xml").unlink(missing_ok=True)
    (tmp_path / "m.pgw").write_text("1\n0\n0\n-1\n500000.5\n2500059.5\n", encoding="utf-8")
    with pytest.raises(AreaError, match="no CRS"):
        read_polygons([tmp_path / "m.png"], crs=CRS)
    table = read_polygons([tmp_path / "m.png"], crs=CRS, raster_crs=CRS)
    burned = burn(table.geometry, grid)
    assert (burned[10:30, 20:70] == 1).all()
    assert burned.sum() in (1000, 1001)  # without its side file the PNG has lost its nodata value


def test_faulty_files(tmp_path):
    with pytest.raises(AreaError, match="no such file"):
        read_area(tmp_path / "none.gpkg", CRS)
    (tmp_path / "bad.geojson").write_text("{", encoding="utf-8")
    with pytest.raises(AreaError, match="cannot be read"):
        read_area(tmp_path / "bad.geojson", CRS)
    gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=CRS).to_file(tmp_path / "point.gpkg")
    with pytest.raises(AreaError, match="no polygon"):
        read_area(tmp_path / "point.gpkg", CRS)


def test_bow_ties_are_mended(tmp_path):
    tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    gpd.GeoDataFrame(geometry=[tie], crs=CRS).to_file(tmp_path / "tie.gpkg")
    area = read_area(tmp_path / "tie.gpkg", CRS)
    assert area.is_valid
    assert area.area == pytest.approx(50)
