from rad3d.api import Reporter as Reporter
from rad3d.api import label as label
from rad3d.api import load_scan as load_scan
from rad3d.api import phantom as phantom
from rad3d.api import score as score

__version__: str
