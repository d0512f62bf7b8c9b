"""The sagas' rows as the driver answers them."""

import pytest

from comanda.db import Database, Statement
from comanda.saga import log


@pytest.mark.parametrize("statement", [log.CLAIM_HINTED, log.CLAIM_DUE, log.CLAIM_NAMED, log.HELD], ids=repr)
async def test_what_claims_sagas_answers_them_field_by_field(database: Database, statement: Statement) -> None:
    async with database.connection() as tx:
        columns = (await tx.prepare(statement.text)).get_attributes()
    assert [column.name for column in columns] == list(log.Claimed.__struct_fields__)
