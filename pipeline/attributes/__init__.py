"""Attributes of villages, their data dictionary, and building-level form."""

from pipeline.attributes.add import Lineage, Place, add_attributes
from pipeline.attributes.buildings import Fabric, read_fabric, village_fabric
from pipeline.attributes.dictionary import (
    ATTRIBUTES,
    Attribute,
    AttributeDataError,
    data_dictionary,
    typed,
    write_data_dictionary,
)
from pipeline.attributes.form import FormTable, building_form
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
    "building_form",
    "data_dictionary",
    "equal_areas_m2",
    "geodesic_lengths_m",
    "read_fabric",
    "typed",
    "village_fabric",
    "write_data_dictionary",
]
