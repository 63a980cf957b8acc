"""BTT on a chain: a token of fixed supply, its vesting, and batches that pay by proof, over any EVM node.

In: the allocation table, batches of payment orders, sealed batches of the ledger. Out: transactions, signed here and
sent to the node; statements of what was paid, read from blocks that are deep enough. Wrong: `DeliveryUnreachableError`
where the node does not answer, `DeliveryRefusedError` where a contract refuses, `KeyConflictError` where one message
names two sets of orders.
"""
