"""Tags under other names: what OpenStreetMap's editors replace, and other words for every tag of the demo cities."""

Tag = tuple[str, str]


def _tags(text: str) -> list[tuple[Tag, Tag]]:
    pairs = [line.split(" > ") for line in text.strip().splitlines()]
    return [(_tag(old), _tag(new)) for old, new in pairs]


def _tag(text: str) -> Tag:
    key, value = text.strip().split("=")
    return key, value


REPLACED = _tags(
    """
    amenity=artwork > tourism=artwork
    amenity=bail_bonds > office=bail_bond_agent
    amenity=car_repair > shop=car_repair
    amenity=changing_room > amenity=dressing_room
    amenity=community_center > amenity=community_centre
    amenity=embassy > office=diplomatic
    amenity=ev_charging > amenity=charging_station
    amenity=garage > landuse=garages
    amenity=gym > leisure=fitness_centre
    amenity=hotel > tourism=hotel
    amenity=kiosk > shop=kiosk
    amenity=notice_board > advertising=board
    amenity=nursery > amenity=kindergarten
    amenity=preschool > amenity=kindergarten
    amenity=public_building > building=public
    amenity=real_estate > office=estate_agent
    amenity=research_institution > amenity=research_institute
    amenity=sauna > leisure=sauna
    amenity=scrapyard > industrial=scrap_yard
    amenity=swimming_pool > leisure=swimming_pool
    amenity=ticket_booth > shop=ticket
    amenity=toilet > amenity=toilets
    amenity=winery > craft=winery
    amenity=youth_centre > community_centre=youth_centre
    barrier=curb > barrier=kerb
    barrier=railing > fence_type=railing
    building=apartment > building=apartments
    building=comercial > building=commercial
    building=constraction > building=construction
    building=convenience > building=retail
    building=detached_house > building=detached
    building=family_house > building=house
    building=home > building=house
    building=household > building=house
    building=offices > building=office
    building=railway_station > building=train_station
    building=shop > building=retail
    building=under_construction > building=construction
    craft=catering > craft=caterer
    craft=glass > craft=glaziery
    entrance=fire_exit > entrance=emergency
    entrance=loading_dock > amenity=loading_dock
    golf=sand_trap > golf=bunker
    landcover=flower_bed > landuse=flowerbed
    landuse=churchyard > landuse=religious
    landuse=field > landuse=farmland
    landuse=garden > leisure=garden
    landuse=pond > water=pond
    landuse=port > industrial=port
    landuse=reservoir > water=reservoir
    landuse=school > landuse=education
    landuse=wood > natural=wood
    lawyer=notary > office=notary
    leisure=beach > natural=beach
    leisure=gambling > amenity=gambling
    leisure=video_arcade > leisure=amusement_arcade
    man_made=jetty > man_made=pier
    man_made=telephone_exchange > telecom=exchange
    man_made=village_pump > man_made=water_well
    man_made=weighing_scale > amenity=weighbridge
    natural=marsh > wetland=marsh
    natural=waterfall > waterway=waterfall
    office=administrative > office=government
    office=consultancy > office=consulting
    parking=entrance > amenity=parking_entrance
    power=sub_station > power=substation
    power=underground_cable > power=cable
    shop=army_surplus > shop=military_surplus
    shop=auto_parts > shop=car_parts
    shop=baby_care > shop=baby_goods
    shop=betting > shop=bookmaker
    shop=boutique > shop=clothes
    shop=cafe > amenity=cafe
    shop=dive > shop=scuba_diving
    shop=fashion > shop=clothes
    shop=fishmonger > shop=seafood
    shop=gallery > shop=art
    shop=general_store > shop=general
    shop=insurance > office=insurance
    shop=jewellery > shop=jewelry
    shop=lingerie > clothes=underwear
    shop=luggage > shop=bag
    shop=mattress > shop=bed
    shop=money_transfer > amenity=money_transfer
    shop=moneylender > shop=money_lender
    shop=office_supplies > shop=stationery
    shop=perfume > shop=perfumery
    shop=photo_studio > craft=photographer
    sport=horseshoe > sport=horseshoes
    sport=team_handball > sport=handball
    tourism=bed_and_breakfast > tourism=guest_house
    wifi=free > internet_access=wlan
    wood=evergreen > leaf_cycle=evergreen
    """
)
"""Tags that one other tag replaces: a selection of the deprecated tags of openstreetmap/id-tagging-schema."""

_FREQUENT = """
    amenity=bank amenity=bar amenity=bench amenity=bicycle_parking amenity=bus_station amenity=cinema amenity=clinic
    amenity=college amenity=courthouse amenity=dentist amenity=fast_food amenity=fire_station amenity=fountain
    amenity=fuel amenity=hospital amenity=library amenity=marketplace amenity=parking amenity=pharmacy amenity=police
    amenity=post_office amenity=pub amenity=restaurant amenity=school amenity=theatre amenity=townhall
    amenity=university amenity=waste_basket barrier=fence barrier=gate barrier=hedge barrier=wall building=church
    building=dormitory building=garage building=greenhouse building=hotel building=hut building=industrial
    building=residential building=roof building=school building=shed building=stable building=temple building=terrace
    building=warehouse building=yes highway=bus_stop highway=crossing highway=cycleway highway=footway
    highway=living_street highway=motorway highway=path highway=pedestrian highway=primary highway=residential
    highway=secondary highway=service highway=steps highway=street_lamp highway=tertiary highway=track highway=trunk
    historic=memorial historic=ruins landuse=basin landuse=cemetery landuse=commercial landuse=construction
    landuse=forest landuse=grass landuse=industrial landuse=meadow landuse=military landuse=orchard landuse=quarry
    landuse=railway landuse=residential landuse=retail landuse=vineyard leisure=golf_course leisure=park leisure=pitch
    leisure=playground leisure=sports_centre leisure=stadium man_made=bridge man_made=chimney man_made=pipeline
    man_made=silo man_made=tower man_made=wastewater_plant man_made=works natural=bare_rock natural=cliff
    natural=grassland natural=heath natural=sand natural=scrub natural=tree natural=water natural=wetland
    office=company office=lawyer place=neighbourhood place=suburb place=village power=line power=pole power=tower
    public_transport=platform railway=rail railway=station railway=subway_entrance railway=tram shop=bakery
    shop=beauty shop=bicycle shop=books shop=butcher shop=car shop=chemist shop=convenience shop=electronics
    shop=florist shop=furniture shop=greengrocer shop=hairdresser shop=hardware shop=laundry shop=mall
    shop=mobile_phone shop=optician shop=shoes shop=sports shop=supermarket shop=tailor shop=toys sport=basketball
    sport=soccer sport=swimming sport=tennis tourism=attraction tourism=museum tourism=viewpoint waterway=canal
    waterway=ditch waterway=drain waterway=river waterway=stream
"""

OTHER_TAGS = [_tag(text) for text in _FREQUENT.split()]
"""Frequent tags among which the replacement must be found."""

RENAMED: dict[Tag, Tag] = dict(
    _tags(
        """
    amenity=bank > amenity=savings_institute
    amenity=clinic > amenity=medical_centre
    amenity=fast_food > amenity=takeaway
    amenity=internet_cafe > amenity=cyber_bar
    amenity=kindergarten > amenity=nursery
    amenity=parking > amenity=car_park
    amenity=pharmacy > amenity=drugstore
    amenity=restaurant > amenity=eatery
    amenity=school > amenity=primary_education
    building=apartments > building=flats
    building=commercial > building=business
    building=detached > building=villa
    building=house > building=home
    building=industrial > building=factory
    building=office > building=workplace
    building=residential > building=dwelling
    building=retail > building=shop
    building=warehouse > building=storage_depot
    building=yes > building=structure
    highway=footway > highway=walkway
    highway=living_street > highway=home_zone
    highway=pedestrian > highway=walking_precinct
    highway=primary > highway=main_artery
    highway=residential > highway=local_street
    highway=secondary > highway=major_road
    highway=service > highway=access_alley
    highway=tertiary > highway=collector_road
    highway=track > highway=farm_lane
    highway=unclassified > highway=minor_road
    landuse=commercial > landuse=business_district
    landuse=construction > landuse=building_site
    landuse=farmland > landuse=fields
    landuse=grass > landuse=lawn
    landuse=industrial > landuse=manufacturing
    landuse=residential > landuse=housing
    leisure=park > leisure=public_garden
    leisure=pitch > leisure=playing_field
    natural=water > natural=water_body
    place=neighbourhood > place=quarter
    residential=apartments > residential=flats
    shop=bakery > shop=bread
    shop=clothes > shop=fashion
    shop=convenience > shop=corner_store
    shop=greengrocer > shop=fruit_and_vegetables
    shop=hairdresser > shop=barber
    shop=hardware > shop=ironmonger
    shop=mobile_phone > shop=cellphones
    shop=supermarket > shop=grocery
    sport=athletics > sport=track_and_field
    water=lake > water=mere
    water=pond > water=fish_pool
    """
    )
)
"""Another word for the value of every tag of the demo cities that has one; numbers of lanes and levels stay."""


def renamed(tag_set: dict[str, str]) -> dict[str, str]:
    """A tag set with every value in other words."""
    return dict(RENAMED.get(tag, tag) for tag in tag_set.items())
