"""The table of every setting, made from the models, for docs/configuration.md."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from dlx.settings import schema

_PARTS: tuple[type[BaseModel], ...] = (
    schema.Station,
    schema.Laboratory,
    schema.Pickup,
    schema.ReadyWhen,
    schema.Silence,
    schema.Defaults,
    schema.Retry,
    schema.Patient,
    schema.Retention,
    schema.Alerts,
    schema.AlertSmtp,
    schema.OpenAfter,
    schema.Limits,
    schema.Safety,
    schema.Channels,
    schema.Channel,
    schema.DomainList,
    schema.Profiles,
    schema.Practice,
    schema.PracticePortal,
    schema.Profile,
    schema.Name,
    schema.Deliver,
    schema.IfUndelivered,
    schema.Absence,
    schema.Billing,
    schema.Demographics,
    schema.TrustIdentity,
    schema.Policies,
    schema.Policy,
    schema.Schedules,
    schema.RouteTests,
    schema.RouteTest,
    schema.Expected,
)


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        needed = "oui" if field.is_required() else ""
        sentence = (field.description or "").replace("|", "\\|")
        yield f"| `{field.alias or name}` | {needed} | {sentence} |"


def reference() -> str:
    """Markdown: one table per block of the configuration, in the order of the files."""
    parts: list[str] = []
    for model in _PARTS:
        title = (model.__doc__ or "").strip().rstrip(".").replace("``", "`")
        head = [f"### {title}", "", "| clé | nécessaire | sens |", "|---|---|---|"]
        parts.append("\n".join([*head, *_rows(model)]))
    return "\n\n".join(parts) + "\n"
