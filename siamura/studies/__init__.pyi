from .dicom import read_dicom_folder
from .folders import read_folders
from .mura import read_mura
from .phantoms import is_phantom, make_phantoms
from .splits import check_disjoint, split_patients
from .table import COLUMNS, STUDY, describe, problems, read_table, skipped

__all__ = [
    "COLUMNS",
    "STUDY",
    "check_disjoint",
    "describe",
    "is_phantom",
    "make_phantoms",
    "problems",
    "read_dicom_folder",
    "read_folders",
    "read_mura",
    "read_table",
    "skipped",
    "split_patients",
]
