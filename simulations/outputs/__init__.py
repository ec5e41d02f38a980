"""What a comparison leaves behind: figures, a folder of files, a page to look at, and budgets kept or not."""

from .errors import FolderError, OutputError, PriceError
from .folder import PolicyRun, meta_of, write_folder
from .notes import nodes_note, notes_of
from .place import REPORT, check_folder, filling
from .price_files import read_budgets, read_prices
from .prices import Check, Prices, Watts, gate, prices_of, watts_of
from .report import Page, Shown, render
from .results import Results, summarise
from .services import ServicesPage, render_services

__all__ = [
    "REPORT",
    "Check",
    "FolderError",
    "OutputError",
    "Page",
    "PolicyRun",
    "PriceError",
    "Prices",
    "Results",
    "ServicesPage",
    "Shown",
    "Watts",
    "check_folder",
    "filling",
    "gate",
    "meta_of",
    "nodes_note",
    "notes_of",
    "prices_of",
    "read_budgets",
    "read_prices",
    "render",
    "render_services",
    "summarise",
    "watts_of",
    "write_folder",
]
