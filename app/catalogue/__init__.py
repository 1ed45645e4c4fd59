"""What may be called: the operations, read from the catalogue file, and the rules a call must keep. Pure but for one file read."""

from app.catalogue.catalogue import Catalogue, load_catalogue
from app.catalogue.deduction import Deduction
from app.catalogue.rule import LARGEST_ID, check_request, read_id, read_request

__all__ = ["LARGEST_ID", "Catalogue", "Deduction", "check_request", "load_catalogue", "read_id", "read_request"]
