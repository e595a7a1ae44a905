"""`uvmap tables`: villages, cities, provinces and the 100 m grid of the nation."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, say, show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tables")(tables)


def tables(
    *,
    campaign: Annotated[str, typer.Option(help="A campaign's name or file, such as china.")] = "china",
    out: Annotated[Path, typer.Option(help="Folder of the tables; replaced in one step.")],
    products: Annotated[
        Path | None, typer.Option(help="Folder of the cities' products; the campaign's out_root.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Address or kind of a Dask cluster; the campaign's. `none`: this process."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put the products of all cities together: villages by province in Hilbert order, cities, provinces, 100 m grid.

    Example: uvmap tables --campaign china --out out/china-tables
    """
    from pipeline.national.cluster import open_cluster
    from pipeline.national.products import find_products
    from pipeline.national.tables import write_tables
    from regions.campaign import load_campaign
    from regions.registry import UnknownCityError, find_city
    from regions.settings import ClusterConfig

    settings = load_campaign(campaign)
    found = find_products(products or settings.out_root)
    names = {}
    for product in found:
        try:
            city = find_city(product.adcode)
            names[product.adcode] = (city.name_en, city.name_zh, city.province)
        except UnknownCityError:
            say(f"{product.adcode}: not in the registry, so without names")
    if cluster == "none":
        record = write_tables(found, out, names=names)
    else:
        config = settings.cluster if cluster is None else ClusterConfig.model_validate(cluster)
        with open_cluster(config) as client:
            record = write_tables(found, out, names=names, client=client)
    text = (
        f"{out}: {record['villages']} villages of {record['cities']} cities in {record['provinces']} provinces, "
        f"{record['cells']} cells of the 100 m grid"
    )
    show(record | {"out": str(out)}, text=text, as_json=as_json)
