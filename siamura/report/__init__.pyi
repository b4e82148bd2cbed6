from .audit import write_audit
from .checklist import write_checklist
from .published import PUBLISHED, Published, published
from .record import Record, read_record
from .tables import Sheet
from .writing import write_page, write_report

__all__ = [
    "PUBLISHED",
    "Published",
    "Record",
    "Sheet",
    "published",
    "read_record",
    "write_audit",
    "write_checklist",
    "write_page",
    "write_report",
]
