from .boxes import read_boxes
from .checks import COLUMNS, STUDY, problems, skipped
from .counts import describe
from .dicom import read_dicom_folder
from .folders import read_folders
from .labels import classes_of
from .mura import read_mura
from .phantoms import is_phantom, make_phantoms
from .reading import read_studies
from .splits import check_disjoint, split_patients, train_valid
from .table import read_table

__all__ = [
    "COLUMNS",
    "STUDY",
    "check_disjoint",
    "classes_of",
    "describe",
    "is_phantom",
    "make_phantoms",
    "problems",
    "read_boxes",
    "read_dicom_folder",
    "read_folders",
    "read_mura",
    "read_studies",
    "read_table",
    "skipped",
    "split_patients",
    "train_valid",
]
