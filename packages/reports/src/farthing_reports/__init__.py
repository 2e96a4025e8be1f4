"""The farthing command: reads the ledger and says what each feature, route, team and customer spent."""
