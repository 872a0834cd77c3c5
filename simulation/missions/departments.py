"""What a shop assistant knows by heart: brands, features and prices of each department, who shops there, and other words for things.

Names are of real brands and things; which category sells which of them, at what price, is drawn by seed (shop.py).
"""

from typing import NamedTuple


class Department(NamedTuple):
    name: str
    """As the categories' paths name it, or the part of a path that has brands of its own."""
    share: float
    """Factor on what its categories are wanted, for everybody."""
    women: float
    """Of those who like it."""
    age: int
    """Middle of the ages of those who like it."""
    low: float
    high: float
    """Prices, dollars, of a plain category and of a dear one."""
    brands: tuple[str, ...]
    """Most bought first."""
    attributes: tuple[str, ...]


PREMIUM, PLAIN, BUDGET = 2, 1, 0
"""Tiers of a brand and levels of a shopper's purse."""
# fmt: off
_ROWS = (
    ("Computers & Tablets", 1.5, 0.45, 34, 25, 900, "hp dell apple+ lenovo asus acer- logitech microsoft+ sandisk toshiba- corsair+ linksys-",
     "gaming|refurbished|wireless|touchscreen|black|portable|business|silver|mini|15 inch|1tb|white"),
    ("TV & Home Theater", 1.2, 0.42, 42, 20, 1100, "samsung sony+ lg vizio- insignia- panasonic roku sharp- philips rocketfish- hisense-",
     "55 inch|40 inch|4k|refurbished|65 inch|wireless|black|32 inch|slim|1080p|gold plated"),
    ("Audio", 1.0, 0.45, 31, 20, 400, "bose+ sony beats+ jbl klipsch+ sennheiser skullcandy- polk insignia- pioneer yamaha",
     "bluetooth|noise cancelling|portable|waterproof|black|wireless|white|red|compact|bass|wired"),
    ("Cell Phones", 1.3, 0.52, 33, 12, 250, "samsung apple+ motorola lg otterbox htc nokia- insignia- belkin mophie+ anker-",
     "unlocked|black|white|wireless|waterproof|pink|slim|prepaid|clear|rose gold|fast"),
    ("Video Games", 1.5, 0.28, 24, 15, 300, "sony nintendo microsoft turtle-beach+ razer+ activision ea pdp- mad-catz- ubisoft",
     "wireless|used|limited edition|kids|white|black|new|pro|multiplayer|digital"),
    ("Appliances", 1.1, 0.62, 48, 30, 900, "whirlpool lg samsung ge kitchenaid+ dyson+ bissell cuisinart frigidaire- bosch+ hamilton-",
     "stainless steel|compact|white|energy star|quiet|black|red|large|smart|commercial|glass"),
    ("Furniture & Decor", 0.6, 0.6, 41, 40, 500, "sauder bush ashley bell-o linon insignia- z-line+ flash- walker-edison-",
     "wood|black|white|small|modern|oak|leather|glass|corner|adjustable"),
    ("Housewares", 0.6, 0.5, 46, 20, 350, "coleman weber+ rubbermaid- petsafe lodge oxo char-broil- traeger+ arlo+ ring",
     "outdoor|large|small|folding|black|wireless|portable|stainless|solar|2 pack"),
    ("Household Essentials", 0.5, 0.58, 44, 15, 180, "samsonite+ energizer duracell philips swissgear ge- travelpro- tumi+",
     "travel|led|rechargeable|small|black|carry on|blue|lightweight|2 pack"),
    ("Connected Home", 0.8, 0.45, 39, 25, 250, "nest+ samsung ring+ honeywell arlo+ wyze- lorex philips insignia- kwikset",
     "wireless|outdoor|black|white|smart|night vision|indoor|battery|hd|2 pack"),
    ("Office Electronics", 0.7, 0.47, 41, 30, 350, "hp epson canon+ brother xerox- fellowes texas-instruments dymo- olympus",
     "wireless|color|laser|compact|portable|refurbished|black|duplex|desktop|photo"),
    ("Connected Home & Housewares", 0.5, 0.45, 44, 20, 250, "sauder bush panasonic vtech- motorola fellowes+ insignia- staples- swingline",
     "wood|black|white|large|corner|digital|home|small|adjustable|2 line"),
    ("Health, Fitness & Beauty", 0.9, 0.72, 39, 20, 250, "fitbit+ garmin+ philips conair- remington- omron oral-b polar bowflex gold's-gym-",
     "cordless|waterproof|black|travel|digital|pink|rechargeable|large|professional|small"),
    ("Cameras & Camcorders", 0.9, 0.45, 40, 20, 700, "canon nikon sony gopro+ olympus fujifilm panasonic kodak- vivitar- sigma+ lowepro",
     "waterproof|compact|hd|professional|black|zoom|used|wide angle|digital|64gb|wireless"),
    ("Musical Instruments", 0.6, 0.38, 29, 15, 500, "yamaha fender+ gibson+ roland casio- shure pearl ibanez squier- korg",
     "beginner|used|student|black|portable|professional|red|mini|12 string|natural"),
    ("Car Electronics & GPS", 0.7, 0.25, 38, 25, 300, "pioneer garmin kenwood alpine+ jvc- tomtom jl-audio+ boss- rockford+ metra-",
     "bluetooth|double din|waterproof|portable|12 volt|wireless|hd|10 inch|truck|touchscreen"),
    ("Toys, Games & Drones", 0.9, 0.58, 36, 10, 150, "lego+ hasbro mattel leapfrog dji+ vtech- fisher-price nerf- crayola- sphero+",
     "kids|remote control|educational|battery|outdoor|new|mini|toddler|star wars|flying"),
)
# fmt: on
_TIERS = {"+": PREMIUM, "-": BUDGET}
BRAND_TIERS: dict[str, int] = {}


def _department(row: tuple[str, float, float, int, float, float, str, str]) -> Department:
    name, share, women, age, low, high, written, attributes = row
    brands: list[str] = []
    for brand in written.split():
        brands.append(brand.rstrip("+-").replace("-", " "))
        BRAND_TIERS.setdefault(brands[-1], _TIERS.get(brand[-1], PLAIN))
    return Department(name, share, women, age, low, high, tuple(brands), tuple(attributes.split("|")))


DEPARTMENTS = tuple(_department(row) for row in _ROWS)
LOCATIONS = tuple("austin,boston,chicago,denver,houston,miami,new york,phoenix,portland,seattle".split(","))

# What is searched most in such shops, roughly in this order, before a seed jitters it; other categories follow by chance.
LEADERS = tuple(
    (
        "smart tv,chromebook,ps4 console,over ear headphone,smartwatch,gaming laptop,xbox one game,security camera,led tv,sound bar,ps4 game,"
        "bluetooth headset,external hard drive,color inkjet printer,single serve coffee maker,wireless router,micro sdxc,countertop microwave,"
        "macbook,projector,upright vacuum,board game,solid state drive,e reader,luggage,portable speaker,tripod,dash camera,car charger,"
        "acoustic guitar,french door refrigerator,hdmi cable,usb flash drive,electric toothbrush,drones with camera,gaming keyboard,robot vacuum,"
        "office chair,activity tracker band,baby monitor,xbox one controller,digital piano,led monitor,gaming headset,wireless headphone,"
        "gas grill,toaster oven,front loading washer,portable gps,ps4 controller,stand mixer,wireless charger,sofa,mp3 player,puzzle,radar detector"
    ).split(",")
)
# Another word that many shoppers use, whole or as a part of the name.
SYNONYMS = {
    "over ear headphone": "headset",
    "smart tv": "internet tv",
    "led tv": "flat screen",
    "oled tv": "oled television",
    "sound bar": "tv speaker",
    "external hard drive": "external hdd",
    "internal hard drive": "hdd",
    "solid state drive": "ssd",
    "usb flash drive": "thumb drive",
    "wireless router": "wifi",
    "security camera": "cctv",
    "dash camera": "dashcam",
    "back up camera": "rear camera",
    "portable gps": "gps",
    "single serve coffee maker": "pod coffee machine",
    "multi cup coffee maker": "coffee machine",
    "countertop microwave": "microwave",
    "color inkjet printer": "inkjet",
    "color laser printer": "laser printer",
    "upright vacuum": "hoover",
    "micro sdxc": "sd card",
    "micro sd": "memory card",
    "smartwatch": "smart watch",
    "activity tracker band": "tracker strap",
    "luggage": "suitcase",
    "sofa": "couch",
    "front loading washer": "washing machine",
    "top loading washer": "top load washer",
    "built in dishwasher": "dishwasher",
    "baby monitor": "baby cam",
    "portable speaker": "bluetooth speaker",
    "gaming mice": "gaming mouse",
    "cell phone mount": "phone holder",
    "internal battery": "phone battery",
    "electric toothbrush": "sonic toothbrush",
    "acoustic guitar": "guitar",
    "digital piano": "piano",
    "portable keyboard": "music keyboard",
    "laptop battery": "notebook battery",
    "gaming laptop": "gaming notebook",
    "ps4 console": "playstation 4",
    "ps3 console": "playstation 3",
    "pci express graphics card": "gpu",
    "desktop memory": "ram",
    "home theater seating": "recliner",
    "drones with camera": "camera drone",
    "window air conditioner": "window ac",
    "portable air conditioner": "portable ac",
    "e reader": "ebook reader",
    "led monitor": "computer screen",
    "xbox one controller": "xbone controller",
    "heart rate monitor": "hrm",
    "antivirus software": "virus protection",
}
PARTS = {
    "refrigerator": "fridge",
    "dvd player": "dvd",
    "television": "tv",
    "microphone": "mic",
    "controller": "gamepad",
    "camcorder": "camera",
}
"""Within a name, where SYNONYMS has no word for the whole."""
CONSUMED = frozenset(
    "toner paper pod battery filter bag string pick bean wipe tape film pen marker duster bulb card membership".split()
)
"""Last words of what is used up and bought again."""
SMALL = frozenset(
    "cable case mount filter bag battery charger adapter cord cap cloth strap stand holder protector band pick string kit sleeve clip splitter "
    "tip tag lock bulb duster wipe pen marker paper tape cleaner card belt card pod head bracket harness wire rack pad remote".split()
)
"""Last words of what costs a fraction of what the department's other things cost."""
