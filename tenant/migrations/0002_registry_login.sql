-- Logins of tenants at other registries. The password is sealed under the
-- tenant's key, bound to the tenant, the registry and the user.
CREATE TABLE tenant_registry_login (
	tenant     TEXT    NOT NULL REFERENCES tenant_account (id) ON DELETE CASCADE,
	registry   TEXT    NOT NULL,
	username   TEXT    NOT NULL,
	sealed     BLOB    NOT NULL,
	changed_ms INTEGER NOT NULL,
	PRIMARY KEY (tenant, registry)
) STRICT, WITHOUT ROWID;
