"""The table of commands: those of the program itself, and with them the operator's."""

from comanda.cli import bulk, imports, operate, sagas, webhooks
from comanda.cli.commands import app

app.add_typer(sagas.saga_app, name="saga")
app.add_typer(operate.queue_app, name="queue")
app.add_typer(operate.letters_app, name="dead-letters")
app.add_typer(bulk.bulk_app, name="bulk")
app.add_typer(operate.orders_app, name="orders")
app.add_typer(operate.audit_app, name="audit")
app.add_typer(webhooks.webhooks_app, name="webhooks")
app.command("import")(imports.import_command)
app.command("explain")(operate.show_order)
app.command("stuck")(sagas.list_stuck)
for verb in (sagas.retry, sagas.skip, sagas.compensate, sagas.resolve):
    app.command()(verb)

__all__ = ["app"]
