"""How tables are shown to people: which columns, under which headings, in which units, with intervals in one cell.

The page and LaTeX show the same cells (`pipeline.analysis.cells`); CSV files have all columns as they were computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "count", "number", "percent", "p", "yes"]


@dataclass(frozen=True)
class Column:
    """One column for people.

    Attributes:
        heading: With its unit.
        key: Column of the table.
        kind: How it is written.
        ends: Columns of low and high end, shown behind the value.
        html_only: Left out of LaTeX (fonts that not every LaTeX has).
    """

    heading: str
    key: str
    kind: Kind = "number"
    ends: tuple[str, str] | None = None
    html_only: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers, which stand to the right."""
        return self.kind not in {"text", "yes"}


@dataclass(frozen=True)
class Layout:
    """One table for people.

    Attributes:
        title: Heading and LaTeX caption.
        columns: From left to right.
        note: How it is to be read, a sentence or two.
    """

    title: str
    columns: tuple[Column, ...]
    note: str = ""


_PLACE = (Column("Level", "level", "text"), Column("Place", "name", "text"))
_CODE = Column("Code", "adcode", "text")
_CITY = Column("City", "name_en", "text")
_REGION = Column("Region", "region", "text")
_WHERE = Column("Where", "name", "text")
_MEASURE = Column("Measure", "measure", "text")
_NEIGHBOURS = Column("Neighbours", "weights", "text")
_CITIES = Column("Cities", "cities", "count")
_VILLAGES = Column("Villages", "villages", "count")
_UNKNOWN = Column("Unknown", "unknown", "count")
_AREA = Column("Area, km²", "area_km2")
_P = Column("p", "p", "p")

LAYOUTS: dict[str, Layout] = {
    "shares": Layout(
        "Share of land by nation, region and province",
        (
            *_PLACE,
            _CODE,
            _CITIES,
            Column("Villages, km²", "uv_km2"),
            Column("Land, km²", "ground_km2"),
            Column("Ratio of areas, %", "share_area", "percent"),
            Column("Mean of cities, % (interval)", "share_mean", "percent", ("share_mean_low", "share_mean_high")),
            Column("Adjusted ratio, % (interval)", "adjusted_share", "percent", ("adjusted_low", "adjusted_high")),
            Column(
                "Adjusted mean, % (interval)", "adjusted_mean", "percent", ("adjusted_mean_low", "adjusted_mean_high")
            ),
            Column("Adjusted how", "basis", "text"),
        ),
        "Ratio of areas: all urban village by all land. Mean of cities: every city counts once; its interval is of"
        " cities drawn anew. Adjusted: for the map's errors, with the assessment's interval; land is taken as it is. By"
        " design: the assessment's estimate. By a model: its model of every city; a province is the sum of its cities,"
        " their errors taken as one, so its interval is wide. Factor of its region: a guess without an interval.",
    ),
    "clustering": Layout(
        "Are neighbouring cities alike",
        (
            _NEIGHBOURS,
            _CITIES,
            Column("Without any", "islands", "count"),
            Column("Moran's I", "moran_i"),
            Column("Expected", "expected"),
            Column("z", "z"),
            _P,
            Column("Joins of high shares", "high_joins"),
            Column("By chance", "high_expected"),
            Column("p", "high_p", "p"),
        ),
        "Moran's I: 0 no pattern, towards 1 alike. Joins: pairs of neighbours that both are among the cities of highest"
        " share. p values by permutation, one-sided.",
    ),
    "clustering_regions": Layout(
        "Where high shares cluster",
        (
            _NEIGHBOURS,
            _REGION,
            _CITIES,
            Column("Mean share, %", "mean_value", "percent"),
            Column("Clustering here less elsewhere", "statistic"),
            Column("p, no pattern", "p", "p"),
            Column("Found", "found", "yes"),
            Column("Likeness of neighbours", "likeness"),
            Column("p, likeness alone", "p_beyond", "p"),
            Column("Found", "found_beyond", "yes"),
        ),
        "No pattern: shares permuted over all cities. Likeness alone: cities as alike as neighbours are here, without"
        " regions; what is found only against no pattern may be likeness. Single regions are held to the rate of false"
        " discoveries together, the claim stands alone.",
    ),
    "clustering_local": Layout(
        "Hot and cold spots",
        (
            _CODE,
            _CITY,
            Column("城市", "name_zh", "text", html_only=True),
            _REGION,
            Column("Share, %", "value", "percent"),
            Column("Its neighbours, %", "neighbours", "percent"),
            Column("Gi*, z", "gi_z"),
            Column("p", "gi_p", "p"),
            Column("Kind", "kind", "text"),
            Column("Local Moran", "quadrant", "text"),
            Column("p", "moran_p", "p"),
        ),
        "Cities that are hot or cold spots of Getis-Ord Gi* within the rate of false discoveries.",
    ),
    "pattern": Layout(
        "Villages within cities: medians of cities",
        (
            _WHERE,
            _CITIES,
            Column("Of them clustered", "clustered", "count"),
            Column("Nearest village, by chance", "nearest_ratio"),
            Column("Distance to the seat, by that of the ground", "centre_ratio"),
        ),
        "Below 1: nearer to each other, or to the seat, than villages placed by chance on the same ground.",
    ),
    "village_sizes": Layout(
        "Classes of size",
        (
            Column("Size", "size", "text"),
            _VILLAGES,
            Column("% of villages", "share_of_villages", "percent"),
            _AREA,
            Column("% of area", "share_of_area", "percent"),
        ),
    ),
    "size_distribution": Layout(
        "How sizes are spread",
        (
            _WHERE,
            _VILLAGES,
            Column("Median, ha", "median_ha"),
            Column("Geometric SD", "geometric_sd"),
            Column("Distance from log-normal", "lognormal_distance"),
            Column("Tail index (interval)", "tail_index", "number", ("tail_low", "tail_high")),
            Column("Gini", "gini"),
            Column("Largest tenth, % of area", "largest_tenth_share", "percent"),
        ),
        "The map's least size (minimum mapping unit) cuts the small end, so a fit says nothing of it. Tail index: of"
        " the largest tenth, 1 is Zipf's law.",
    ),
    "villages": Layout(
        "What villages are like",
        (
            _MEASURE,
            _WHERE,
            Column("Known", "known", "count"),
            _UNKNOWN,
            Column("Median", "q50"),
            Column("5 %", "q05"),
            Column("25 %", "q25"),
            Column("75 %", "q75"),
            Column("95 %", "q95"),
            Column("Mean by area", "mean_by_area"),
        ),
    ),
    "persistence": Layout(
        "What became of the villages of the release before",
        (
            _WHERE,
            Column("Event", "event", "text"),
            _VILLAGES,
            _AREA,
        ),
        "Area of the release before for villages that are gone, else of this one. Changes of the map, which may be"
        " changes of imagery or model.",
    ),
    "form": Layout(
        "Building form of villages and of the built-up land around them",
        (
            _MEASURE,
            _WHERE,
            _CITIES,
            _UNKNOWN,
            Column("Villages", "inside"),
            Column("Around", "outside"),
            Column("Difference (interval)", "difference", "number", ("low", "high")),
            _P,
            Column("Hedges' g (interval)", "effect", "number", ("effect_low", "effect_high")),
        ),
        "Cities are the replicates: means of cities, t intervals. Unknown: cities where one side has no mapped building"
        " or no known height; nothing is imputed. Coverage, floor-area ratio and spacing are of mapped buildings,"
        " heights of those that have one: where the map lacks buildings, or has the heights of tall ones sooner,"
        " figures are off by what no interval holds; so they are where the map takes other ground for villages.",
    ),
    "form_gradients": Layout(
        "Do regions differ in these differences",
        (
            _MEASURE,
            Column("Regions", "regions", "count"),
            Column("F (Welch)", "f"),
            Column("df", "df", "count"),
            Column("df within", "df_within"),
            _P,
            Column("Largest in", "largest", "text"),
            Column("Smallest in", "smallest", "text"),
        ),
    ),
    "sdg_11_1_1": Layout(
        "SDG 11.1.1: what a map of urban villages can say",
        (
            *_PLACE,
            _CODE,
            Column("Share of land, %", "share_of_land", "percent"),
            Column("People on mapped ground", "people", "count"),
            Column("In villages", "people_in_villages", "count"),
            Column("Share of people, %", "share_of_people", "percent"),
        ),
        "The indicator is of people; without a population raster only land is known, and this is not the indicator.",
    ),
    "cities": Layout(
        "Cities",
        (
            _CODE,
            _CITY,
            _REGION,
            _VILLAGES,
            Column("Share, %", "share", "percent"),
            Column("Not predicted, %", "not_predicted_share", "percent"),
            Column("Imagery", "image_date", "text"),
        ),
    ),
    "pattern_cities": Layout(
        "Villages within each city",
        (
            _CODE,
            _VILLAGES,
            Column("Nearest, m", "nearest_m"),
            Column("By chance", "nearest_ratio"),
            Column("p", "nearest_p", "p"),
            Column("p, clustered", "clustered_p", "p"),
            Column("most at, m", "clustered_at_m", "count"),
            Column("To the seat, km", "centre_km"),
            Column("By that of the ground", "centre_ratio"),
        ),
    ),
    "form_cities": Layout(
        "Building form of each city (villages, around)",
        (
            _CODE,
            Column("Buildings", "buildings", "count"),
            Column("Coverage", "coverage_in"),
            Column("around", "coverage_out"),
            Column("Height, m", "height_mean_m_in"),
            Column("around", "height_mean_m_out"),
            Column("Floor-area ratio", "floor_area_ratio_in"),
            Column("around", "floor_area_ratio_out"),
            Column("Height known, %", "height_known_in", "percent"),
            Column("around", "height_known_out", "percent"),
        ),
    ),
}
