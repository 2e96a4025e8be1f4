"""The contract matrix: every stack in every situation, its bill beside the provider's invoice.

`situations` says what happens, the `drive_*` modules how each stack does it, `oracle` whether ledger and invoice agree,
`table` which cells there are and what each of them promises, `page` how that is told in docs/matrix.md. Who watches is
an `observers.Observer`: farthing here, somebody else's instrumentation in a comparison.
"""
