"""UTKFace-DIR as a `Task`: real faces beyond the paper; what it shares with other images is in `common.images`."""

from common.images.task import image_task

TASK = image_task(
    "utkface",
    "UTKFace-DIR",
    bucket_start=1,
    source="python scripts/download.py utkface says where the faces are, and python scripts/prepare.py utkface "
    "writes their CSV",
)
