"""The tables, one module for each thing they describe."""

from aero.db.base import Base
from aero.db.models.access import Audit, Membership, Token
from aero.db.models.data import (
    Data,
    DataTag,
    DataVersion,
    SourceState,
    SourceType,
    SourceUrl,
    Tag,
    VersionEdge,
)
from aero.db.models.flow import EndpointLimit, Flow, FlowInput, FlowOutput
from aero.db.models.function import Function, FunctionRegistration
from aero.db.models.notice import Notice
from aero.db.models.provenance import (
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    ProvenanceSource,
)
from aero.db.models.run import Run, RunInput, RunStep, RunTrigger, Worker

__all__ = [
    "Audit",
    "Base",
    "Data",
    "DataTag",
    "DataVersion",
    "EndpointLimit",
    "Flow",
    "FlowInput",
    "FlowOutput",
    "Function",
    "FunctionRegistration",
    "Membership",
    "Notice",
    "Provenance",
    "ProvenanceContribution",
    "ProvenanceDerivation",
    "ProvenanceSource",
    "Run",
    "RunInput",
    "RunStep",
    "RunTrigger",
    "SourceState",
    "SourceType",
    "SourceUrl",
    "Tag",
    "Token",
    "VersionEdge",
    "Worker",
]
