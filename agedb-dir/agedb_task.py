"""AgeDB-DIR as a `Task` (paper, section 4.1, Table 2); what it shares with other images is in `common.images`."""

from common.images.task import image_task

TASK = image_task(
    "agedb",
    "AgeDB-DIR",
    bucket_start=3,
    source="AgeDB comes on request: python scripts/download.py agedb says how, and python "
    "scripts/prepare.py agedb writes its CSV",
)
