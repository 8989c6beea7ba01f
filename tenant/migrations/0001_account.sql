-- Accounts. The secret is kept as it is, because checking a SigV4 signature
-- needs it; the database's mode is 0600 for its sake.
CREATE TABLE tenant_account (
	id            TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 12),
	name          TEXT    NOT NULL UNIQUE,
	access_key_id TEXT    NOT NULL UNIQUE,
	secret        TEXT    NOT NULL,
	created_ms    INTEGER NOT NULL
) STRICT;
