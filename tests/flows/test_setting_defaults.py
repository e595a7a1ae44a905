"""A setting has one default: what `--help` shows is what the model says, in every command."""

import re

import pytest
from typer.testing import CliRunner

from accuracy.survey.block_draw import draw_blocks
from flows.cli import build_app
from flows.command_reference import commands
from flows.commands import options
from pipeline.learning.pairs import write_pairs
from pipeline.learning.training import Grounds
from regions.campaign import Campaign
from regions.settings import GridConfig, PolygonConfig, RefinementConfig

MODELS = (GridConfig, PolygonConfig, RefinementConfig)
FIELDS = {name: field.default for model in MODELS for name, field in model.model_fields.items()}


def default_of(function, name):
    return function.__kwdefaults__[name]


OF_ANOTHER_KIND = {
    ("uvmap train", "stride_px"): default_of(Grounds.__init__, "stride_px"),  # between training tiles
    ("uvmap pretrain", "stride_px"): default_of(write_pairs, "stride_px"),  # between pairs
    ("uvmap sample blocks", "block_px"): default_of(draw_blocks, "block_px"),  # squares that people digitise
}
NOT_SETTINGS = {("seed", "<int>"), ("seed", "<int range>")}
"""Of the same name, but the seed of all that is random."""

OF_STATISTICS = {"assess"}
"""Its pixel size is that of a comparison of outlines, no city's grid."""


def shown_options(name):
    """What `--help` of a command shows: option -> (metavar, default or None), each row of its table in one piece."""
    output = CliRunner().invoke(build_app(), [*name.split()[1:], "--help"], env={"COLUMNS": "250"}).output
    rows = re.findall(r"^│ (?:[ *]  )?(--[a-z0-9-]+) +(?:-\w +)?(<[^>]*>)(.*)│$", output, flags=re.MULTILINE)
    defaults = {option: re.search(r"\[default: ([^\]]*)\]", rest) for option, _, rest in rows}
    return {option: (metavar, defaults[option] and defaults[option][1]) for option, metavar, _ in rows}


def shown_settings():
    for name, command in commands(build_app()):
        shown = shown_options(name)
        for parameter in command.params:
            if parameter.name in FIELDS and parameter.opts[0] in shown:
                metavar, default = shown[parameter.opts[0]]
                if (parameter.name, metavar) not in NOT_SETTINGS and name.split()[1] not in OF_STATISTICS:
                    yield name, parameter.name, default


SHOWN = list(shown_settings())


def test_settings_are_shown():
    assert {"stride_px", "block_px", "seed", "grow", "min_area_m2", "close_gap_m", "refiner"} <= {
        n for _, n, _ in SHOWN
    }
    assert {("uvmap map", "stride_px"), ("uvmap plan", "block_px"), ("uvmap thresholds", "min_area_m2")} <= {
        (command, name) for command, name, _ in SHOWN
    }


@pytest.mark.parametrize(("command", "name", "shown"), SHOWN, ids=lambda v: str(v).replace(" ", "-"))
def test_the_default_shown_is_that_of_the_model(command, name, shown):
    wanted = OF_ANOTHER_KIND.get((command, name), FIELDS[name])
    assert shown == (None if wanted is None else str(wanted))


def test_campaigns_take_the_same_models():
    fields = Campaign.model_fields
    assert [fields[n].default for n in ("grid", "polygons", "refinement")] == [model() for model in MODELS]


def test_options_that_do_not_fit_are_said_in_one_line():
    assert options.polygons_of(min_area_m2=500.0).min_hole_m2 == 500.0
    assert options.polygons_of(min_area_m2=5000.0) == PolygonConfig(min_area_m2=5000.0)
    with pytest.raises(options.OptionError, match=r"grow 0\.7 must not exceed seed 0\.6"):
        options.polygons_of(min_area_m2=500.0, grow=0.7)
    with pytest.raises(options.OptionError, match=r"refiner.*built-in"):
        options.refinement_of(refiner="magic")
