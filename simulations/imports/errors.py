"""What an imported object may be refused for.

UsageError
└── ImportedObjectError    the object, or a field of it, cannot be simulated: whoever brought it
    ├── QueryError         a PromQL query is not understood or asks for what is not simulated
    └── FormulaError       the same of a formula over triggers
"""

from simulations.errors import UsageError


class ImportedObjectError(UsageError):
    """Names object, field and value, and what is supported."""


class QueryError(ImportedObjectError):
    """Names the part of the query, and what is supported."""


class FormulaError(ImportedObjectError):
    """Names the part of the formula, and what is supported."""
