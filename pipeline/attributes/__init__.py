"""Attributes of villages, their data dictionary, and building-level form."""

from pipeline.attributes.add import Lineage, Place, add_attributes
from pipeline.attributes.buildings import Fabric, measure_fabric, read_fabric
from pipeline.attributes.dictionary import (
    ATTRIBUTES,
    Attribute,
    AttributeDataError,
    describe_columns,
    typed,
    write_data_dictionary,
)
from pipeline.attributes.form import FormTable, measure_form
from regions.raster.equal_area import CHINA_ALBERS, equal_areas_m2, geodesic_lengths_m

__all__ = [
    "ATTRIBUTES",
    "CHINA_ALBERS",
    "Attribute",
    "AttributeDataError",
    "Fabric",
    "FormTable",
    "Lineage",
    "Place",
    "add_attributes",
    "describe_columns",
    "equal_areas_m2",
    "geodesic_lengths_m",
    "measure_fabric",
    "measure_form",
    "read_fabric",
    "typed",
    "write_data_dictionary",
]
