"""What alembic runs to apply revisions: in the transaction that `bring_up` was called in, and in no other."""

from alembic import context

from btt_bridge.migrations import stamp_table

context.configure(connection=context.config.attributes["connection"], version_table=stamp_table.name)
context.run_migrations()
