"""IMDB-WIKI-DIR as a `Task` (paper, section 4.1, Table 1); what it shares with other images is in `common.images`."""

from common.images.task import image_task

TASK = image_task(
    "imdb-wiki",
    "IMDB-WIKI-DIR",
    bucket_start=0,
    source="python scripts/download.py imdb-wiki gets the faces, and python scripts/prepare.py "
    "imdb-wiki writes their CSV, or draw a stand-in with python scripts/make_standin.py imdb-wiki",
)
