"""The stages of a city, one module each; `pipeline.city.stage_table` lists them."""
