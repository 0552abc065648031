"""The methods of `Aero` that only look: what there is, and where it came from."""

from collections.abc import Iterator

from aero import downloads, explain, query, records, resolve, sourcing
from aero.acting import Acting
from aero.db.models import Run
from aero.db.queries import data as data_queries
from aero.db.sight import seen_among
from aero.provenance.graph import Direction, Lineage
from aero.provenance.lineage import lineage
from aero.types import LOCAL, Json


class Looking(Acting):
    """Reads flows, runs, data and records, as far as who asks may see them."""

    def get_flow(self, flow: str, inputs_only: bool = True) -> Json:
        """Return the flow's kwargs with the `aero` payload, or its whole record."""
        record = self._flow_record(flow)
        kwargs: Json = record["function_args"]["kwargs"]
        return kwargs if inputs_only else record

    def _flow_record(self, flow: str) -> Json:
        return self.db.look(lambda tx: records.flows(tx, [resolve.flow(tx, flow)])[0])

    def flow_id(self, flow: str) -> str:
        """Return the id of the flow that an id, a prefix or a name stands for."""
        return str(self.db.look(lambda tx: resolve.flow(tx, flow)).id)

    def get_function(self, function: str) -> Json:
        """Return the record of a function, with its source."""
        return self.db.look(lambda tx: records.function(resolve.function(tx, function)))

    def list_source_types(self) -> list[Json]:
        """Return the source types, each with its `data_id` and `urls`."""
        return self.db.look(sourcing.list_types)

    def get_source_type(self, name: str) -> Json:
        """Return the record of the source type of that name."""
        return self.db.look(lambda tx: sourcing.get_type(tx, name))

    def get_run(self, run: str) -> Json:
        """Return a run's record with its log, traceback, inputs and steps."""
        return self.db.look(lambda tx: query.run_detail(tx, run))

    def list_runs(
        self, flow: str | None = None, status: str | None = None
    ) -> Iterator[Json]:
        """Yield runs, newest first."""
        flow_id = None if flow is None else self.flow_id(flow)
        return query.pages(self.db, query.runs_page(flow_id, status))

    def downloads(self) -> list[Json]:
        """Return how far the long downloads of this machine's runs are."""
        found = downloads.under_way(self.settings.scratch)
        if not found:
            return found
        ids = {each["run_id"] for each in found}
        seen = self.db.look(lambda tx: seen_among(tx, Run, ids))
        return [each for each in found if each["run_id"] in seen]

    def list_metadata(self, kind: str) -> Iterator[Json]:
        """Yield the records of `data`, `flow` or `prov`, newest first."""
        return query.pages(self.db, query.metadata_page(kind))

    def get_data(self, data: str) -> Json:
        """Return the record of a Data."""
        return self.db.look(lambda tx: records.data(tx, [resolve.data(tx, data)])[0])

    def list_versions(self, data: str) -> Iterator[Json]:
        """Yield the versions of a Data, newest first."""
        data_id = self.db.look(lambda tx: resolve.data(tx, data)).id
        return query.pages(self.db, query.versions_page(data_id))

    def get_version(self, data: str, version: int | None = None) -> Json:
        """Return the record of one version, by default the newest."""
        return self.db.look(lambda tx: query.version_detail(tx, data, version))

    def get_provenance(self, provenance: str) -> Json:
        """Return the record of a committed run, by its id or the run's."""
        return self.db.look(lambda tx: query.provenance_detail(tx, provenance))

    def get_data_flows(self, data: str) -> list[Json]:
        """Return the flows that use or make a Data, each with its role."""
        return self.db.look(lambda tx: query.data_flows(tx, data))

    def search_sources(self, text: str) -> list[Json]:
        """Return the Data in which every word of `text` occurs."""
        words = text.split()
        return self.db.look(
            lambda tx: records.data(tx, data_queries.search(tx, words, 100))
        )

    def lineage(
        self, data: str, direction: Direction = "up", depth: int | None = None
    ) -> Lineage:
        """Return the ancestry or the impact of `DATA` or `DATA@VERSION`."""
        with self.db.read() as tx:
            _, version = resolve.version(tx, data)
            return lineage(tx, version, direction, depth)

    def explain(self, flow: str) -> Json:
        """Return why a flow did or did not run."""
        with self.db.read() as tx:
            row = resolve.flow(tx, flow)
            now = self.db.now(tx)
            return explain.explain(tx, row, endpoints=[LOCAL], now=now)
